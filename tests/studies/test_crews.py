"""Crews: who shares a worker, that every run ends as by itself, and what a death leaves."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import UserError
from assay.runs import StudyFolder
from assay.spec.study import StudySpec
from assay.studies import crews as room
from assay.studies.crews import crews, together
from assay.studies.runner import in_turns, run_all
from assay.training.together.eligible import MOST, When

Small = Callable[..., StudySpec]


@pytest.fixture(autouse=True)
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "hardware", lambda: {"accelerators": []})


def sizes(found: room.Crews) -> list[int]:
    return sorted(map(len, set(found.of.values())))


def test_seeds_of_one_model_are_a_crew_and_every_worker_gets_one_first(small: Small) -> None:
    runs = in_turns(small(seeds=3).runs())  # two norms
    assert sizes(crews(runs, 1, When.always)) == [3, 3]
    assert sizes(crews(runs, 2, When.always)) == [3, 3]
    assert sizes(crews(runs, 3, When.always)) == [2, 2] and crews(runs, 3, When.always).apart
    assert sizes(crews(runs, 6, When.always)) == []
    assert crews(runs, 1, When.never) == room.Crews()
    for run in runs:
        assert run.hash in crews(runs, 1, When.always).of[run.hash]
    many = small(vary={}, seeds=2 * MOST + 1).runs()
    assert max(sizes(crews(many, 1, When.always))) <= MOST and sum(sizes(crews(many, 1, When.always))) == len(many)


def test_rates_are_members_too_and_reasons_are_counted(small: Small) -> None:
    study = small(vary={"train.optimizer.learning_rate": [1e-3, 1e-2]}, seeds=2)
    assert sizes(crews(study.runs(), 1, When.always)) == [4]
    dropped = small(vary={"dropout": [0.1]}, seeds=2)
    assert list(crews(dropped.runs(), 1, When.always).apart.values()) == [2]


def test_auto_leaves_out_what_is_not_faster(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = small(vary={}, seeds=2).runs()
    monkeypatch.setattr(room, "pays", lambda run: False)
    assert crews(runs, 1).of == {} and crews(runs, 1).apart == {"together is not faster at this size": 2}
    monkeypatch.setattr(room, "pays", lambda run: True)
    assert sizes(crews(runs, 1)) == [2]


def test_auto_is_all_or_none_where_times_are_compared(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "pays", lambda run: True)
    runs = small(vary={"positions": ["rope", "relative"]}, seeds=2).runs()
    assert crews(runs, 1).of == {} and sum(crews(runs, 1).apart.values()) == 4
    assert sizes(crews(runs, 1, When.always)) == [2]
    assert sizes(crews(runs, 1, timed=())) == [2]
    assert sizes(crews(runs, 1, When.always, timed=[runs[0].hash])) == [] == sizes(crews(runs, 1, timed=[runs[0].hash]))


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="auto, never or always"):
        together("sometimes")


def test_an_accelerator_is_left_alone(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "hardware", lambda: {"accelerators": ["one"]})
    assert crews(small(vary={}, seeds=2).runs(), 1, When.always).of == {}


def test_a_study_of_crews_ends_as_one_of_single_runs(small: Small, tmp_path: Path) -> None:
    runs = in_turns(small(seeds=2, steps=6).runs())
    events: list[dict[str, Any]] = []
    outcomes = run_all(
        runs, StudyFolder(tmp_path / "a"), workers=2, together=together("always"), progress=events.append
    )
    single = run_all(runs, StudyFolder(tmp_path / "b"), workers=2)
    assert [o.status for o in outcomes] == [o.status for o in single] == ["done"] * 4
    for one, other in zip(outcomes, single, strict=True):
        assert one.folder.result["bits_per_byte"] == pytest.approx(other.folder.result["bits_per_byte"], abs=1e-4)
        assert not (one.folder.path / "worker.log").exists()
    started = [e for e in events if e["event"] == "started"]
    assert len({e["pid"] for e in started}) == 2 and len(started) == 4
    assert sorted(map(len, events[0]["together"])) == [2, 2]
    for run in runs:
        mine = [e["event"] for e in events if e.get("run") == run.hash]
        assert mine[0] == "started" and mine[-1] == "finished" and "progress" in mine and "evaluated" in mine


def test_what_dies_together_goes_on_alone(small: Small, tmp_path: Path) -> None:
    runs = small(vary={}, seeds=2, steps=400, checkpoints=40).runs()
    events: list[dict[str, Any]] = []
    ended: list[int] = []

    def kill(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "progress" and event["step"] >= 25 and not ended:  # once: each member tells of progress
            ended.append(next(e["pid"] for e in events if e["event"] == "started"))
            os.kill(ended[0], signal.SIGKILL)

    outcomes = run_all(runs, StudyFolder(tmp_path), workers=1, together=together("always"), progress=kill)
    assert [o.status for o in outcomes] == ["done", "done"] and [o.attempts for o in outcomes] == [1, 1]
    started = [e for e in events if e["event"] == "started"]
    assert len({e["pid"] for e in started}) == 3, "one for both, then one each"
    assert [e["resumed"] for e in started] == [False, False, True, True]
    for outcome in outcomes:
        steps = [row["step"] for row in outcome.folder.metrics() if row["kind"] == "train"]
        assert steps == list(range(1, 401))


def test_ctrl_c_leaves_every_member_a_checkpoint(small: Small, tmp_path: Path) -> None:
    runs = small(vary={}, seeds=2, steps=4000, evaluations=1).runs()

    def press(event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="0 of 2 runs finished"):
        run_all(runs, StudyFolder(tmp_path), workers=1, together=together("always"), progress=press)
    assert all(StudyFolder(tmp_path).run(run.hash).checkpoint_steps() for run in runs)


def test_an_error_is_every_members(small: Small, tmp_path: Path) -> None:
    runs = [r.model_copy(update={"data": r.data.model_copy(update={"source": r.data.source + ".gone"})})
            for r in small(vary={}, seeds=2).runs()]  # fmt: skip
    outcomes = run_all(runs, StudyFolder(tmp_path), workers=1, together=together("always"))
    assert [o.status for o in outcomes] == ["failed", "failed"] and all(".gone" in o.reason for o in outcomes)
