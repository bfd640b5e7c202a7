"""Ratios of interleaved timings, and norms of every back end."""

import math

import pytest
import torch

from assay.probes import timing


def test_a_ratio_is_that_of_the_rounds_whatever_the_machine_does_in_between() -> None:
    load = [1.0 + (i % 7) for i in range(50)]  # slows both alike
    found = timing.ratio([2 * v for v in load], load)
    assert found.estimate == pytest.approx(2.0)
    assert found.low == pytest.approx(2.0) and found.high == pytest.approx(2.0)
    assert found.n == 5
    noisy = timing.ratio([v * (1 + 0.1 * math.sin(i)) for i, v in enumerate(load)], load)
    assert noisy.low < 1 < noisy.high


def test_calls_are_made_in_turns_and_threads_come_back() -> None:
    seen: list[str] = []
    before = torch.get_num_threads()
    times = timing.interleaved({n: (lambda n=n: seen.append(n)) for n in "ab"}, rounds=3, warm=1)  # type: ignore[misc]
    assert "".join(seen) == "abbaabba"
    assert [len(v) for v in times.values()] == [3, 3]
    assert torch.get_num_threads() == before


def test_more_work_takes_longer() -> None:
    """The control: a clock that does not run, or a call that is not made, would fail."""
    x = torch.randn(200, 200)
    times = timing.interleaved({"one": lambda: x @ x, "many": lambda: [x @ x for _ in range(8)]}, rounds=10)
    assert timing.ratio(times["many"], times["one"]).low > 2


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("passes", timing.PASSES)
def test_norm_calls_run(backend: str, passes: str) -> None:
    calls = timing.norm_calls(backend, passes, rows=8, width=16)
    assert isinstance(calls, dict) and list(calls) == ["layernorm", "rmsnorm"]
    for call in calls.values():
        y = call()
        assert (y is None) == (passes == "both")


def test_a_back_end_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "cannot_compile", lambda device: "no compiler")
    assert timing.norm_calls("compiled", "both", rows=2, width=4) == "no compiler"
