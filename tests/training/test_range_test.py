"""The range test: the rule on curves that are known, and a run whose rate rises."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay.errors import UserError
from assay.spec.study import RunSpec
from assay.training.range_test import RULE, RangeRule, range_test, read, suggest
from assay.training.text import load_text

RATES = np.geomspace(1e-5, 1, 101)


def curve(edge: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """Falls slowly up to `edge`, and rises steeply beyond it."""
    draw = np.random.default_rng(seed).normal(0, noise, len(RATES))
    falling = 7 - 0.5 * np.log10(RATES / RATES[0])
    beyond = np.maximum(np.log10(RATES / edge), 0) * 8
    return list(falling + beyond + draw)


@pytest.mark.parametrize("edge", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_largest_rate_lies_just_under_divergence(edge: float, noise: float) -> None:
    found = read(0, RATES, curve(edge, noise))
    assert found.diverged_at is not None
    assert edge / 2 < found.largest < 2 * edge
    assert found.largest < found.rates[found.diverged_at] < 10 * edge
    said = suggest([found])
    assert said.suggestion == pytest.approx(found.largest / 3) and said.bounded
    assert f"{found.largest:.2g}" in said.reason


def test_one_hard_batch_is_no_divergence() -> None:
    losses = curve(0.1)
    losses[40] += 5
    assert read(0, RATES, losses).largest == pytest.approx(read(0, RATES, curve(0.1)).largest)
    naive = read(0, RATES, losses, RangeRule(smooth=1))
    assert naive.diverged_at == 40, "the control: without the median it would be"


def test_a_loss_that_is_not_finite_ends_it() -> None:
    losses = [*curve(1.0)[:60], math.nan]
    found = read(0, RATES[:61], losses)
    assert found.diverged_at == 60 and found.largest <= RATES[59]
    with pytest.raises(UserError, match="before the first step"):
        read(0, RATES[:1], [math.inf])


def test_the_smallest_of_the_seeds_decides() -> None:
    readings = [read(seed, RATES, curve(edge)) for seed, edge in enumerate((0.1, 1e-2, 0.05))]
    found = suggest(readings)
    assert found.largest == readings[1].largest == min(r.largest for r in readings)
    assert "3 seeds" in found.reason


def test_no_divergence_is_said_and_no_fall_is_refused() -> None:
    found = suggest([read(0, RATES, curve(1.0))])
    assert not found.bounded and "--highest" in found.reason
    with pytest.raises(UserError, match="never fell"):
        suggest([read(0, RATES, [7.0 + 0.01 * i for i in range(101)])])


@pytest.fixture
def run(tiny: Callable[..., RunSpec]) -> RunSpec:
    return tiny(steps=1, batch_size=4, length=32)


def test_a_run_whose_rate_rises(run: RunSpec) -> None:
    text, seen = load_text(run.data), []
    state = torch.get_rng_state()
    found = range_test(run, text, lowest=1e-5, highest=10.0, steps=60, device="cpu", progress=seen.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.diverged_at is not None and len(found.losses) <= 60
    assert found.rates == pytest.approx(np.geomspace(1e-5, 10, 60)[: len(found.rates)])
    assert [row["step"] for row in seen] == list(range(1, len(seen) + 1))
    assert 1e-4 < found.largest < 1, found.largest
    assert range_test(run, text, lowest=1e-5, highest=10.0, steps=60, device="cpu") == found, "equal runs, equal curves"


def test_it_stops_when_asked_and_reads_what_there_is(run: RunSpec) -> None:
    answers = iter([False] * 11 + [True])
    found = range_test(run, load_text(run.data), steps=60, device="cpu", stop=lambda: next(answers))
    assert len(found.losses) == 12 and found.diverged_at is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"lowest": 1.0, "highest": 0.1}, "empty"), ({"steps": 3}, "steps = 3"), ({"lowest": 0.0}, "empty")],
)
def test_impossible_settings_are_refused(run: RunSpec, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        range_test(run, load_text(run.data), device="cpu", **settings)


def test_the_rule_in_words_has_its_numbers() -> None:
    assert "20%" in str(RULE) and "1/3" in str(RULE) and "0.1 nats" in str(RULE)
