"""Distributed checkpoint (torch.distributed.checkpoint) into the files that a single process writes, and out of them.

A tensor that is cut by rows lies in a safetensors file as those rows one after another, so every rank writes its own
bytes into the one file at their place, and reads back whichever rows it holds now. So a run's checkpoint is the same
two files on any number of ranks, `model.safetensors` and `optimizer.safetensors`: anything that reads safetensors
reads it, it is resharded by being read, and nothing is pickled (DCP's own `.metadata` is a pickle; here the files'
headers are the metadata). The ranks need one file system in common.

A tensor is named FILE/NAME: `model/decoder.blocks.0.attention.q.weight` lies in `model.safetensors`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from assay.errors import UserError
from assay.published.files import header
from assay.runs import disk_guard

__all__ = ["OneFileReader", "OneFileWriter"]

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NAMES = {kind: name for name, kind in TYPES.items()}


def split(key: str) -> tuple[str, str]:
    """File and name of a tensor."""
    file, _, name = key.partition("/")
    return f"{file}.safetensors", name


class OneFileWriter(StorageWriter):
    """Ranks write their rows into common files.

    Args:
        opened: on the coordinating rank, gives the folder to write into.
        closed: on the coordinating rank, is called when all ranks have written everything.
    """

    def __init__(self, opened: Callable[[], Path], closed: Callable[[], None]) -> None:
        """See the class."""
        self.opened, self.closed = opened, closed

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing is kept from one checkpoint to the next."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing: the folder is opened when it is known what goes into it."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Make the files at their full size with their headers, and tell each rank where its tensors begin."""
        folder = self.opened()
        tensors: dict[str, dict[str, tuple[torch.dtype, tuple[int, ...]]]] = {}
        for plan in plans:
            for item in plan.items:
                assert item.tensor_data is not None, item
                file, name = split(item.index.fqn)
                tensors.setdefault(file, {})[name] = item.tensor_data.properties.dtype, tuple(item.tensor_data.size)
        begins = {file: _make_file(folder / file, wanted) for file, wanted in tensors.items()}

        def places(plan: SavePlan) -> dict[str, int]:
            keys = {item.index.fqn for item in plan.items}
            return {key: begins[split(key)[0]][split(key)[1]] for key in keys}

        return [replace(plan, storage_data=(folder, places(plan))) for plan in plans]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's rows, and see them onto the disk."""
        folder, begins = plan.storage_data
        results, open_files = [], {}
        try:
            for item in plan.items:
                assert item.tensor_data is not None
                say, file = item.tensor_data, folder / split(item.index.fqn)[0]
                content = _content(planner.resolve_data(item))
                with disk_guard(file, len(content)):
                    if file not in open_files:
                        open_files[file] = os.open(file, os.O_WRONLY)
                    ahead = _rows_ahead(say.chunk, tuple(say.size)) * say.properties.dtype.itemsize
                    _write_all(open_files[file], content, begins[item.index.fqn] + ahead)
                results.append(WriteResult(item.index, len(content), None))
            with disk_guard(folder, 0):
                for descriptor in open_files.values():
                    os.fsync(descriptor)
        finally:
            for descriptor in open_files.values():
                os.close(descriptor)
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """The files are whole."""
        self.closed()

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """There are no ids: the caller opens the folder."""
        return False


class OneFileReader(StorageReader):
    """Ranks read from common files whichever rows they hold.

    Args:
        folder: of the checkpoint.
        files: their names in it.
    """

    def __init__(self, folder: Path, files: Iterable[str]) -> None:
        """See the class."""
        self.folder, self.files = folder, tuple(files)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing is kept."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Names, shapes and types, from the headers alone."""
        found: dict[str, Any] = {}
        for file in self.files:
            for name, entry in header(self.folder / file).items():
                size = torch.Size(entry.shape)
                whole = ChunkStorageMetadata(torch.Size([0] * len(size)), size)
                properties = TensorProperties(TYPES[entry.dtype])
                found[f"{Path(file).stem}/{name}"] = TensorStorageMetadata(properties, size, [whole])
        return Metadata(found)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing: files are opened as they are read."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy the rows that the plan asks for to their places.

        Raises:
            UserError: a file is damaged.
        """
        by_file: dict[str, list[Any]] = {}
        for item in plan.items:
            by_file.setdefault(split(item.storage_index.fqn)[0], []).append(item)
        for file, items in by_file.items():
            try:
                with safe_open(self.folder / file, "pt") as stored:
                    for item in items:
                        target = planner.resolve_tensor(item).detach()
                        target.copy_(_slice(stored, split(item.storage_index.fqn)[1], item))
                        planner.commit_tensor(item, target)
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{self.folder / file}: cannot be read as a checkpoint ({error}).",
                    "Delete this checkpoint's folder; the run starts again from an earlier one or anew.",
                ) from None
        future: Future[None] = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """There are no ids: the folder is given."""
        return False


def _make_file(path: Path, tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> dict[str, int]:
    """A safetensors file with its header, and zeros for its data; where each tensor's bytes begin in it."""
    fields: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offsets, end = {}, 0
    # The widest types first, by name within a type: every tensor then lies aligned, as the library itself lays them.
    for name, (kind, shape) in sorted(tensors.items(), key=lambda item: (-item[1][0].itemsize, item[0])):
        offsets[name] = end
        end += math.prod(shape) * kind.itemsize
        fields[name] = {"dtype": NAMES[kind], "shape": list(shape), "data_offsets": [offsets[name], end]}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with disk_guard(path, end), path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return {name: 8 + len(text) + offset for name, offset in offsets.items()}


def _rows_ahead(chunk: ChunkStorageMetadata, shape: tuple[int, ...]) -> int:
    """Elements before a chunk, which must be whole rows of its tensor."""
    assert tuple(chunk.sizes[1:]) == shape[1:], f"{chunk} of {shape}: cut along another axis than rows"
    return int(chunk.offsets[0]) * math.prod(shape[1:]) if shape else 0


def _content(tensor: Any) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())


def _write_all(descriptor: int, content: memoryview, at: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, at)
        content, at = content[written:], at + written


def _slice(stored: Any, name: str, item: Any) -> Tensor:
    if not item.lengths:
        found: Tensor = stored.get_tensor(name)
        return found
    cut = tuple(slice(int(a), int(a) + int(n)) for a, n in zip(item.storage_offsets, item.lengths, strict=True))
    part: Tensor = stored.get_slice(name)[cut]
    return part
