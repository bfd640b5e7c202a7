"""Weights into safetensors files, each replaced in one step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["replace", "write_weights"]

SHARD_BYTES = 5 * 10**9
"""Weights are cut into files of at most this many bytes."""


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """model.safetensors, or numbered parts with an index where it would be too large; each replaced in one step.

    A file that is mapped by a model stays whole for that model.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    count = len(shards)
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
        part = folder / f".{name}.part"
        # Clones: safetensors refuses tensors that share memory, as cuts of one fused matrix do.
        save_file({n: t.cpu().contiguous().clone() for n, t in shard.items()}, str(part), metadata={"format": "pt"})
        os.replace(part, folder / name)
        where |= dict.fromkeys(shard, name)
    index = folder / "model.safetensors.index.json"
    if count == 1:
        index.unlink(missing_ok=True)
        return
    total = sum(tensor.nbytes for tensor in tensors.values())
    replace(index, json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2) + "\n")


def replace(path: Path, text: str) -> None:
    """Write a small file in one step."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
