"""Every golden checkpoint: logits, hidden states, greedy ids in all of its cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from assay.published.load import load

DECODERS = (
    "llama2_gqa_untied_sharded",
    "llama3_gqa_tied_rope_llama3",
    "mistral_sliding4",
    "qwen3_tied",
    "gemma2",
    "olmo2",
    "gpt2_raw_names",
    "bloom_raw_names",
    "falcon_7b_mqa_parallel",
    "baichuan_13b",
)


def opened(golden: Path, name: str) -> tuple[Any, dict[str, torch.Tensor], float]:
    """Model, expected values and tolerance."""
    folder = golden / name
    hint = folder / "fixture_hint.json"
    given = json.loads(hint.read_text()) if hint.is_file() else None
    entry = next(e for e in json.loads((golden / "INDEX.json").read_text()) if e["name"] == name)
    return load(folder, hint=given), load_file(folder / "expected.safetensors"), entry["atol"]


def near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float, where: torch.Tensor | None = None) -> None:
    """Within the tolerance, where the mask says."""
    gap = (found - wanted).abs()
    assert float((gap if where is None else gap[where]).max()) <= tolerance


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_decoder(name: str, golden: Path) -> None:
    model, expected, tolerance = opened(golden, name)
    out = model(expected["input_ids"], attention_mask=expected["attention_mask"], output_hidden_states=True)
    near(out.logits, expected["logits"], tolerance)
    for layer, state in enumerate(out.hidden_states):
        near(state, expected[f"hidden_states.{layer}"], tolerance)
    assert f"hidden_states.{len(out.hidden_states)}" not in expected
    padded = [side for side in ("left", "right") if f"{side}.logits" in expected]
    for side in padded:
        mask = expected[f"{side}.attention_mask"]
        out = model(expected[f"{side}.input_ids"], attention_mask=mask)
        near(out.logits, expected[f"{side}.logits"], tolerance, mask.bool())
    assert padded


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_greedy(name: str, golden: Path) -> None:
    """Plain recomputation, without a cache."""
    model, expected, _ = opened(golden, name)
    ids = expected["gen.input_ids"]
    while ids.shape[1] < expected["gen.output_ids"].shape[1]:
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(ids, expected["gen.output_ids"])


@pytest.mark.parametrize("name", DECODERS)
def test_greedy_with_cache(name: str, golden: Path) -> None:
    """`generate`, which keeps keys and values."""
    model, expected, _ = opened(golden, name)
    prompt = expected["gen.input_ids"]
    more = expected["gen.output_ids"].shape[1] - prompt.shape[1]
    ids = model.generate(prompt, max_new_tokens=more, do_sample=False, ignore_eos=True)
    assert torch.equal(torch.as_tensor(ids), expected["gen.output_ids"])
