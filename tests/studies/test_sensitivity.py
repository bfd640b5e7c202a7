"""Sensitivity from a study's folder: finished and diverged runs count, missing ones leave their seed out."""

import math
from pathlib import Path

import pytest

from assay.errors import UserError
from assay.runs import StudyFolder, write_text
from assay.spec.study import StudySpec
from assay.studies.sensitivity import AXIS, of_study

LOSS = {("post", 1e-3): 3.0, ("post", 1e-2): 2.0, ("post", 1e-1): math.nan, ("pre", 1e-3): 2.2, ("pre", 1e-2): 2.0}


def study(folder: Path, vary: dict, leave_out: tuple = ()) -> StudyFolder:
    spec = StudySpec.from_dict({"vary": vary, "seeds": 3})
    made = StudyFolder(folder)
    write_text(folder / "study.toml", spec.to_toml())
    for run in spec.runs():
        place = (run.labels.get("placement", "pre"), run.train.optimizer.learning_rate)
        if (*place, run.seed) in leave_out:
            continue
        own = made.run(run.hash)
        own.write_json("run.json", {"labels": run.labels, "seed": run.seed})
        own.append_metrics({"kind": "eval", "step": 0, "bits_per_byte": 4.0})
        loss = LOSS.get(place, 2.1) + 0.01 * run.seed
        if math.isnan(loss):
            own.mark_failed("diverged")
        else:
            own.mark_done({"bits_per_byte": loss})
    return made


VARY = {AXIS: [1e-3, 1e-2, 1e-1], "placement": ["post", "pre"]}


def test_a_sweep_of_two_placements(tmp_path: Path) -> None:
    study(tmp_path, VARY)
    post, pre = of_study(tmp_path)
    assert (post.labels, pre.labels) == ({"placement": "post"}, {"placement": "pre"})
    assert post.sensitivity.n == 3 and post.best_rate == 1e-2
    # Seed s: (above at 1e-3 is 1, at 1e-2 0, at 1e-1 4 - 2 - s/100); half-weights at the ends.
    assert post.sensitivity.estimate == pytest.approx((0.5 * 1 + 0.5 * (2 - 0.01)) / 2)
    assert pre.sensitivity.estimate == pytest.approx((0.5 * 0.2 + 0.5 * 0.1) / 2)
    assert math.isnan(post.losses[0][2])


def test_a_seed_with_a_run_missing_is_left_out(tmp_path: Path) -> None:
    study(tmp_path, VARY, leave_out=(("pre", 1e-2, 1),))
    _, pre = of_study(tmp_path)
    assert set(pre.losses) == {0, 2} and pre.sensitivity.n == 2


def test_a_study_without_a_sweep_is_refused(tmp_path: Path) -> None:
    study(tmp_path, {"placement": ["post", "pre"]})
    with pytest.raises(UserError, match="does not vary the learning rate"):
        of_study(tmp_path)
