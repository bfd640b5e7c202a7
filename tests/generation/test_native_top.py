"""The largest of a row of logits: torch's own answer, whatever the length, and ties and NaN as said."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.generation.native import top as module
from assay.generation.native.library import STEP
from assay.generation.native.top import largest, top

pytestmark = pytest.mark.skipif(STEP.load() is None, reason=f"no native step: {STEP.reason}")


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST", 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 200), st.data())
def test_it_is_torchs(rows: int, n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, min(n, 40)))
    module.FEWEST = 1
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 1000))))
    values, places = top(x, k)
    assert torch.equal(values, x.topk(k).values) and torch.equal(x.gather(1, places), values)
    assert torch.equal(largest(x), x.argmax(-1))
    hidden = torch.where(x > 0, x, float("-inf"))
    assert torch.equal(top(hidden, k)[0], hidden.topk(k).values)


def test_of_equals_the_first_and_every_place_once() -> None:
    x = torch.zeros(2, 100)
    x[1, 37] = x[1, 90] = 1.0
    assert top(x, 3)[1].tolist() == [[0, 1, 2], [37, 90, 0]]


def test_nan_gives_a_place_within_the_row() -> None:
    x = torch.full((1, 50), float("nan"))
    assert int(largest(x)) == 0
    x[0, 20] = 1.0
    assert int(top(x, 2)[1].max()) < 50


def test_what_the_library_does_not_know_is_torchs() -> None:
    x = torch.randn(3, 64)
    for other in (x.double(), x.bfloat16(), x.t().contiguous().t()):
        assert torch.equal(top(other, 4)[0], other.topk(4).values)
