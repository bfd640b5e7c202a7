"""Waves: a sweep first, then final runs at its best rate; what begins from another's weights waits for them."""

import math
from pathlib import Path

from assay.claims.base import Experiment, Tier
from assay.claims.plan import best, combinations, final_runs, next_runs, sweeps
from assay.claims.standard import study
from assay.runs import StudyFolder
from assay.spec.study import RunSpec


def finish(folder: StudyFolder, run: RunSpec, bits: float) -> None:
    there = folder.run(run.hash)
    there.path.mkdir(parents=True, exist_ok=True)
    if math.isfinite(bits):
        there.mark_done({"bits_per_byte": bits})
    else:
        there.mark_failed("diverged at step 3: the loss is nan")


def experiment(**more: object) -> Experiment:
    return Experiment(study(Tier.smoke, vary={"norm": ("layernorm", "rmsnorm")}), (1e-3, 4e-3), **more)  # type: ignore[arg-type]


def test_a_sweep_comes_first_and_final_runs_take_its_best_rate(tmp_path: Path) -> None:
    folder, one = StudyFolder(tmp_path), experiment()
    first = next_runs(one, folder)
    assert len(first) == 4 and {run.seed for run in first} == {0}
    bits = {("layernorm", 1e-3): 3.0, ("layernorm", 4e-3): 2.5, ("rmsnorm", 1e-3): 2.0, ("rmsnorm", 4e-3): math.inf}
    for run in first:
        finish(folder, run, bits[run.labels["norm"], run.train.optimizer.learning_rate])
    assert sweeps(one, folder) == [{1e-3: 3.0, 4e-3: 2.5}, {1e-3: 2.0, 4e-3: math.inf}]
    second = next_runs(one, folder)
    rates = {(run.labels["norm"], run.train.optimizer.learning_rate) for run in second}
    assert rates == {("layernorm", 4e-3), ("rmsnorm", 1e-3)}
    assert {run.seed for run in second} == {1, 2}, "seed 0 was done by the sweep"
    for run in second:
        finish(folder, run, 2.0)
    assert next_runs(one, folder) == []
    assert [len(runs) for _, runs in combinations(final_runs(one, folder))] == [3, 3]


def test_a_diverged_run_has_ended(tmp_path: Path) -> None:
    folder, one = StudyFolder(tmp_path), Experiment(study(Tier.smoke))
    for run in next_runs(one, folder):
        finish(folder, run, math.inf)
    assert next_runs(one, folder) == []


def test_where_all_diverged_the_lowest_rate_is_taken() -> None:
    assert best({4e-3: math.inf, 1e-3: math.inf}) == 1e-3
    assert best({1e-3: 2.0, 4e-3: 2.0}) == 1e-3 and best({1e-3: 2.1, 4e-3: 2.0}) == 4e-3


def test_a_higher_rate_must_be_better_by_more_than_one_seed_tells() -> None:
    assert best({1e-3: 2.01, 4e-3: 2.0, 1.6e-2: 2.5}) == 1e-3
    assert best({1e-3: 2.05, 4e-3: 2.01, 1.6e-2: 2.0}) == 4e-3
    assert best({1e-3: math.inf, 4e-3: 2.0}) == 4e-3


def test_what_begins_from_weights_waits_and_names_them(tmp_path: Path) -> None:
    folder, first = StudyFolder(tmp_path), Experiment(study(Tier.smoke))
    then = Experiment(study(Tier.smoke, objective="prefix_lm", model={"family": "prefix"}), begins=first)
    parents = next_runs(then, folder)
    assert [run.hash for run in parents] == [run.hash for run in first.study.runs()]
    for run in parents:
        finish(folder, run, 2.0)
    children = next_runs(then, folder)
    assert [run.init.identity for run in children if run.init] == [f"run:{run.hash}" for run in parents]
    assert children[0].hash != then.study.runs()[0].hash
