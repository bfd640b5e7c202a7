"""The benchmark of several rows: every case gives the same tokens on all sides, and assay's steps are native."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.generation import decoding
from assay.generation.build import build
from assay.generation.model import Model
from assay.generation.native.library import STEP
from assay.spec.model import ModelSpec
from benchmarks import batch_decode, llama

pytestmark = pytest.mark.usefixtures("one_thread")

TINY: dict[str, Any] = {
    "vocab_size": 512, "width": 64, "layers": 2, "context": 128, "attention": {"heads": 4, "kv_heads": 2},
    "feedforward": {"width": 96},
}  # fmt: skip
CASES = batch_decode.CASES


@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_the_same_tokens_and_a_ratio(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = []
    right = decoding.why_not
    monkeypatch.setattr(decoding, "why_not", lambda *given: reasons.append(right(*given)) or reasons[-1])
    result = batch_decode.one(name, TINY, 0.0, 9)
    assert not result.failed and all(check.passed for check in result.checks)
    assert [row.who for row in result.rows] == ["assay", "transformers", "llama.cpp"]
    assert result.rows[1].ratio is not None
    able = not CASES[name].no_llama and find_spec("xllamacpp") is not None
    assert (result.rows[2].ratio is not None) == able and len(result.checks) == 1 + able
    assert able or (CASES[name].no_llama or "xllamacpp is not installed") in result.rows[2].cannot
    assert set(reasons) == ({None} if STEP.load() is not None else {STEP.reason})


def replaced(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> list[tuple[int, bool]]:
    """llama.cpp exchanged for assay with its answer changed; what it was asked to be."""
    asked = []

    class Peer:
        def __init__(self, model: Model, threads: int, rows: int, context: int, *, causal: bool) -> None:
            self.model = model
            asked.append((rows, causal))

        def generate(self, ids: Tensor, new: int) -> Tensor:
            return change(self.model.generate(ids, max_new_tokens=new, ignore_eos=True))

    monkeypatch.setattr(llama, "LlamaCpp", Peer)
    return asked


@pytest.mark.parametrize("name", ["batch-16", "prefix-16"])
def test_llama_is_asked_for_all_rows_and_its_tokens_are_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replaced(monkeypatch, lambda ids: ids)
    assert all(check.passed for check in batch_decode.one(name, TINY, 0.0, 9).checks)
    assert asked == [(16, name == "batch-16")]
    replaced(monkeypatch, lambda ids: torch.cat((ids[:, :-1], ids[:, -1:] ^ 1), 1))
    result = batch_decode.one(name, TINY, 0.0, 9)
    row = result.row("llama.cpp")
    assert row is not None and row.value is None and "in 16 of 16 rows" in row.cannot
    assert [check.what.split(":")[0] for check in result.checks] == ["transformers"]


def test_a_peer_that_fails_or_stops_early_gets_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ids: Tensor) -> Tensor:
        raise KeyError("choices")

    for change, said in ((broken, "choices"), (lambda ids: ids[:, :-1], "size")):
        replaced(monkeypatch, change)
        row = batch_decode.one("batch-16", TINY, 0.0, 9).row("llama.cpp")
        assert row is not None and row.value is None and said in row.cannot


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="llama.cpp itself: benchmarks/requirements.lock")
def test_llama_reads_a_prefix_whole_only_where_it_is_told_to() -> None:
    """The control: read causally, the prompt gives other tokens."""
    model = build(ModelSpec.from_dict({**TINY, "family": "prefix"}))
    ids = batch_decode.prompt(5, 16, 512)
    want = model.generate(ids, max_new_tokens=12, ignore_eos=True)
    assert torch.equal(llama.LlamaCpp(model, 1, 5, 64, causal=False).generate(ids, 12), want)
    assert not torch.equal(llama.LlamaCpp(model, 1, 5, 64).generate(ids, 12), want)


def test_processor_time_of_a_call_and_of_a_token() -> None:
    found = batch_decode.busy("batch-16", 2, TINY, 40)
    assert found["same"] and len(found["spent"]["assay"]) == 2
    assert found["call_ratio"] == found["call"]["transformers"] / found["call"]["assay"] > 0
