"""Workers: results as in one process, deaths survived, interruptions resumed, finished work reused."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.runs import RunFolder, StudyFolder
from assay.spec.study import StudySpec
from assay.studies.runner import in_turns, run_all
from assay.training.loop import train_run

Small = Callable[..., StudySpec]
Events = list[dict[str, Any]]


def kinds(events: Events, run: str | None = None) -> list[str]:
    return [e["event"] for e in events if run is None or e.get("run") == run]


def test_a_worker_does_what_this_process_would(small: Small, tmp_path: Path) -> None:
    runs = small().runs()
    events: Events = []
    outcomes = run_all(runs, StudyFolder(tmp_path), workers=2, progress=events.append, command="assay again")
    assert [o.status for o in outcomes] == ["done", "done"]
    here = train_run(runs[0], RunFolder(tmp_path / "here"))
    there = outcomes[0].folder
    assert there.result["bits_per_byte"] == here["bits_per_byte"]
    assert there.read_json("run.json")["command"] == "assay again"
    assert there.read_json("run.json")["provenance"]["hardware"]["torch_threads"] == 1
    assert events[0]["event"] == "study" and len(events[0]["runs"]) == 2 and events[0]["workers"] == 2
    mine = kinds(events, runs[0].hash)
    assert mine[0] == "started" and mine[-1] == "finished" and "progress" in mine and "evaluated" in mine
    last = [e for e in events if e["event"] == "progress"][-1]
    assert last["total"] == 3 and last["step"] <= 3 and last["loss"] > 0
    assert last["tokens_per_second"] > 0 and last["eta"] >= 0 and last["labels"].keys() == {"norm"}


def test_finished_runs_are_reused(small: Small, tmp_path: Path) -> None:
    run_all(small(vary={"norm": ["layernorm"]}).runs(), StudyFolder(tmp_path), workers=1)
    events: Events = []
    outcomes = run_all(small().runs(), StudyFolder(tmp_path), workers=1, progress=events.append)
    assert [o.status for o in outcomes] == ["reused", "done"]
    assert kinds(events).count("started") == 1 and kinds(events).count("reused") == 1


def killer(
    events: Events, victim: str, at: list[int], number: int = signal.SIGKILL
) -> Callable[[dict[str, Any]], None]:
    """Ends the first worker of a run once it is at the first of some steps, the second at the second, and so on."""
    ended: list[int] = []

    def kill(event: dict[str, Any]) -> None:
        events.append(event)
        pids = [e["pid"] for e in events if e["event"] == "started" and e["run"] == victim]
        if event["event"] != "progress" or event["run"] != victim or pids[-1] in ended:
            return
        if len(ended) < len(at) and event["step"] >= at[len(ended)]:
            ended.append(pids[-1])
            os.kill(pids[-1], number)

    return kill


def test_a_killed_worker_is_told_and_takes_nobody_with_it(small: Small, tmp_path: Path) -> None:
    victim, other = small(steps=2000, evaluations=1).runs()[0], small().runs()[1]
    events: Events = []
    kill = killer(events, victim.hash, [1])
    dead, alive = run_all([victim, other], StudyFolder(tmp_path), workers=2, retries=0, progress=kill)
    assert dead.status == "failed" and "SIGKILL" in dead.reason
    assert dead.folder.failure == dead.reason
    assert alive.status == "done"
    assert next(e for e in events if e["event"] == "failed")["run"] == victim.hash


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "asked by somebody else"])
def test_a_dead_workers_run_goes_on_from_its_checkpoint(small: Small, tmp_path: Path, number: int) -> None:
    run = small(vary={}, steps=300, checkpoints=30, evaluations=3).runs()[0]
    events: Events = []
    kill = killer(events, run.hash, [25, 65], number)
    (outcome,) = run_all([run], StudyFolder(tmp_path / "out"), workers=1, progress=kill)
    assert outcome.status == "done" and outcome.attempts == 2 and outcome.folder.failure is None
    told = [e for e in events if e["event"] == "retried"]
    assert [(e["attempt"], e["of"]) for e in told] == [(1, 2), (2, 2)]
    assert told[0]["step"] >= 20 and told[1]["step"] >= 60, "from a checkpoint, not anew"
    assert ("SIGKILL" if number == signal.SIGKILL else "somebody else") in told[0]["reason"]
    assert [e["resumed"] for e in events if e["event"] == "started"] == [False, True, True]
    # Every result is there once, and is what an unbroken run gives.
    rows = outcome.folder.metrics()
    assert [r["step"] for r in rows if r["kind"] == "train"] == list(range(1, 301))
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [0, 100, 200, 300]
    assert kinds(events).count("finished") == 1
    whole = train_run(run, RunFolder(tmp_path / "whole"))
    assert outcome.folder.result["bits_per_byte"] == whole["bits_per_byte"]


def test_a_run_whose_workers_all_die_fails(small: Small, tmp_path: Path) -> None:
    run = small(vary={}, steps=2000, evaluations=1).runs()[0]
    events: Events = []
    (outcome,) = run_all([run], StudyFolder(tmp_path), retries=1, workers=1, progress=killer(events, run.hash, [1, 1]))
    assert kinds(events).count("retried") == 1 and kinds(events).count("started") == 2
    assert outcome.status == "failed" and "SIGKILL" in outcome.reason and "tried again 1 time" in outcome.reason
    assert outcome.folder.failure == outcome.reason


def test_a_run_that_cannot_work_says_why_in_its_workers_words(small: Small, tmp_path: Path) -> None:
    run = small(vary={}).runs()[0]
    gone = run.model_copy(update={"data": run.data.model_copy(update={"source": run.data.source + ".gone"})})
    events: Events = []
    (outcome,) = run_all([gone], StudyFolder(tmp_path), workers=1, progress=events.append)
    assert outcome.status == "failed" and ".gone" in outcome.reason
    assert ".gone" in events[-1]["log"]
    assert outcome.attempts == 0 and "retried" not in kinds(events), "another worker would say the same"


def test_ctrl_c_leaves_checkpoints_and_says_how_to_go_on(small: Small, tmp_path: Path) -> None:
    quick, slow = small(vary={}).runs()[0], small(vary={}, steps=400).runs()[0]
    study = StudyFolder(tmp_path)
    done: list[str] = []

    def press(event: dict[str, Any]) -> None:
        done.append(event["event"])
        if event["event"] == "progress" and event["run"] == slow.hash:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"1 of 2 runs finished.*--resume"):
        run_all([quick, slow], study, workers=1, progress=press)
    (step,) = study.run(slow.hash).checkpoint_steps()
    assert 0 < step < 400
    events: Events = []
    outcomes = run_all([quick, slow], study, workers=1, progress=events.append)
    assert [o.status for o in outcomes] == ["reused", "done"]
    assert next(e for e in events if e["event"] == "started")["resumed"]
    whole = train_run(slow, RunFolder(tmp_path / "whole"))
    assert study.run(slow.hash).result["bits_per_byte"] == whole["bits_per_byte"]


def test_a_diverged_run_is_a_result_that_is_not_tried_again(small: Small, tmp_path: Path) -> None:
    run = small(vary={}, steps=9, optimizer={"learning_rate": 1e30}, schedule={"kind": "constant", "warmup": 0}).runs()[
        0
    ]
    for attempt in range(2):
        events: Events = []
        (outcome,) = run_all([run], StudyFolder(tmp_path), workers=1, progress=events.append)
        assert outcome.status == "failed" and outcome.reason.startswith("diverged at step")
        assert kinds(events).count("started") == (attempt == 0)


def test_seeds_take_turns(small: Small) -> None:
    order = [(run.seed, run.labels["norm"]) for run in in_turns(small(seeds=2).runs())]
    assert order == [(0, "layernorm"), (0, "rmsnorm"), (1, "layernorm"), (1, "rmsnorm")]
