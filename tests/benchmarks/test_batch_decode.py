"""The benchmark of several rows: every case gives the same tokens on both sides, and assay's steps are native."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from assay.generation import decoding
from assay.generation.native.library import STEP
from benchmarks import batch_decode

TINY: dict[str, Any] = {
    "vocab_size": 512, "width": 64, "layers": 2, "context": 128, "attention": {"heads": 4, "kv_heads": 2},
    "feedforward": {"width": 96},
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", batch_decode.CASES)
def test_a_case_gives_the_same_tokens_and_a_ratio(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = []
    right = decoding.why_not
    monkeypatch.setattr(decoding, "why_not", lambda *given: reasons.append(right(*given)) or reasons[-1])
    result = batch_decode.one(name, TINY, 0.0, 9)
    assert not result.failed and all(check.passed for check in result.checks)
    assert [row.who for row in result.rows[:2]] == ["assay", "transformers"] and result.rows[1].ratio is not None
    assert set(reasons) == ({None} if STEP.load() is not None else {STEP.reason})


def test_processor_time_of_a_call_and_of_a_token() -> None:
    found = batch_decode.busy("batch-16", 2, TINY, 40)
    assert found["same"] and len(found["spent"]["assay"]) == 2
    assert found["call_ratio"] == found["call"]["transformers"] / found["call"]["assay"] > 0
