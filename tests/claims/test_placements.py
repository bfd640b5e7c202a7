"""Which rates train, which is the largest, and who reaches a loss first: on made runs."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assay.claims.base import Tier
from assay.claims.placements import Grid, deep, mean_of, rates_apart, steps_ratio, two_stacks

RATES = (1e-3, 4e-3, 1.6e-2)


def grid(ends: list[list[float]]) -> Grid:
    return Grid(RATES, (), np.array(ends), entropy=5.0)


def run(losses: list[float], done: bool = True) -> Any:
    return SimpleNamespace(done=done, rows=lambda: [{"loss": v} for v in losses])


def test_the_largest_rate_that_trains() -> None:
    found = grid([[4.8, 4.95, 6.0], [4.0, 4.0, 5.0], [5.2, 4.8, math.inf]])
    assert found.trains.tolist() == [[True, False, False], [True, True, False], [False, True, False]]
    assert found.largest == pytest.approx(np.log2([4e-3, 1.6e-2, 2.5e-4]))


def test_seeds_that_cannot_tell_are_left_out() -> None:
    fails, low, all_rates = [9.0, 9.0, 9.0], [4.0, 9.0, 9.0], [4.0, 4.0, 4.0]

    def seeds(*columns: list[float]) -> Grid:
        return grid(np.array(columns).T.tolist())

    assert rates_apart(seeds(low, low, low), seeds(fails, fails, fails)).estimate == pytest.approx(2)
    assert rates_apart(seeds(low, low, low), seeds(low, low, low)).estimate == 0
    assert rates_apart(seeds(fails, fails, fails), seeds(fails, fails, fails)).n == 0
    assert rates_apart(seeds(all_rates, all_rates), seeds(all_rates, low)).n == 1


def test_steps_to_the_loss_that_both_reach() -> None:
    falling = [10 - 0.09 * i for i in range(100)]
    slow = [10 - 0.045 * i for i in range(100)]
    assert steps_ratio([run(slow)] * 3, [run(falling)] * 3).estimate == pytest.approx(math.log2(100 / 52), abs=0.05)
    assert steps_ratio([run(falling)] * 3, [run(slow)] * 3).estimate == pytest.approx(-math.log2(100 / 52), abs=0.05)
    assert steps_ratio([run(slow)] * 3, [run(slow)] * 3).estimate == 0
    assert steps_ratio([run(slow, done=False)], [run(slow)]).n == 0


def test_a_mean_leaves_out_what_diverged() -> None:
    assert mean_of([1.0, math.inf, 3.0]).n == 2
    assert mean_of([math.inf]).n == 0


@pytest.mark.parametrize("tier", list(Tier))
def test_depths_have_equal_flops_and_sides_differ_in_one_thing(tier: Tier) -> None:
    narrow, wide = deep(tier, "post", shallow=True).study, deep(tier, "post").study
    assert narrow.train == wide.train
    assert narrow.model.layers < wide.model.layers
    assert deep(tier, "deepnet").study.with_(**{"model.placement": "post"}).hash == wide.hash
    plain, equal = two_stacks(tier, "post").study, two_stacks(tier, "post", equal_layers=True).study
    assert equal.with_(**{"train.optimizer.equal_layers": False}).hash == plain.hash != equal.hash
    assert len(wide.runs()) == len(wide.vary["train.optimizer.learning_rate"]) * wide.seeds
