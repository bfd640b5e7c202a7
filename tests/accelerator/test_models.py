"""Golden checkpoints and every kind of small model on the accelerator: the references' values, the CPU's tokens."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.generation.common import FAMILIES, KINDS, described, model

from assay.generation.model import Model
from assay.published.load import load

GIVEN = ("attention_mask", "token_type_ids", "decoder_input_ids", "position_ids")


def names() -> list[str]:
    """The golden checkpoints, where the folder is given."""
    index = Path(os.environ.get("ASSAY_GOLDEN", "")) / "INDEX.json"
    return [entry["name"] for entry in json.loads(index.read_text())] if index.is_file() else []


def on(model: Model, device: str) -> Model:
    """The same weights there."""
    return Model(model.transformer.to(device), model.tokenizer).eval()


@pytest.mark.parametrize("name", names() or ["none given"])
@torch.no_grad()
def test_golden(name: str, golden: Path, device: str) -> None:
    """Logits of the plain case in float32; in bfloat16 as far from the reference as the CPU's bfloat16."""
    folder = golden / name
    hint = folder / "fixture_hint.json"
    given = json.loads(hint.read_text()) if hint.is_file() else None
    entry = next(e for e in json.loads((golden / "INDEX.json").read_text()) if e["name"] == name)
    expected = load_file(folder / "expected.safetensors")

    def logits(where: str, dtype: str) -> torch.Tensor:
        model = load(folder, hint=given, device=where, dtype=dtype)
        more: dict[str, Any] = {key: expected[key].to(where) for key in GIVEN if key in expected}
        found = model(expected["input_ids"].to(where), **more).logits
        assert found.device.type == where
        return found.float().cpu()

    wanted = expected["logits"]
    assert float((logits(device, "float32") - wanted).abs().max()) <= entry["atol"]
    here, there = (float((logits(where, "bfloat16") - wanted).abs().mean()) for where in ("cpu", device))
    assert 1e-5 < there <= 2 * here, (there, here)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_generation_equals_the_cpu(family: str, kind: str, device: str) -> None:
    """Greedy with and without a cache, beams, sampling by a seed: the CPU's tokens."""
    here = model(**described(family, kind))
    prompts = torch.tensor([[5, 9, 2, 7, 11], [6, 3, 4, 8, 10]])
    ways: list[dict[str, Any]] = [
        {}, {"use_cache": False}, {"num_beams": 3}, {"do_sample": True, "seed": 3, "temperature": 0.7, "top_k": 8},
    ]  # fmt: skip
    wanted = [here.generate(prompts, max_new_tokens=8, ignore_eos=True, **way).tolist() for way in ways]
    there = on(here, device)
    for way, ids in zip(ways, wanted, strict=True):
        made = there.generate(prompts.to(device), max_new_tokens=8, ignore_eos=True, **way)
        assert made.tolist() == ids, way
