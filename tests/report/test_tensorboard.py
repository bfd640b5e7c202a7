"""Events that TensorBoard's own reader reads back: every row once, also after a break, named by axes in a study."""

from pathlib import Path
from typing import Any

import pytest

from assay.errors import UserError
from assay.report import tensorboard
from assay.report.tensorboard import FOLDER, EventsWriter, convert
from assay.runs import RunFolder, StudyFolder

pytest.importorskip("tensorboard")


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag to (step, value) of all events, in order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def row(step: int, **fields: Any) -> dict[str, Any]:
    plain = {"kind": "train", "step": step, "loss": 5 / step, "lr": 1e-3, "grad_norm": 2.0, "tokens_per_second": 100.0}
    return {**plain, "seconds": 0.5 * step, **fields}


def begun(path: Path, seed: int = 0, **labels: str) -> RunFolder:
    run = RunFolder(path)
    run.write_json("run.json", {"seed": seed, "labels": labels, "provenance": {"time": "2025-01-01T00:00:00+00:00"}})
    return run


def test_a_row_becomes_its_scalars(tmp_path: Path) -> None:
    run = begun(tmp_path)
    rows = [
        {"kind": "eval", "step": 0, "bits_per_byte": 8.0, "seconds": 0.0, "by_position": [1, 2]},
        *map(row, range(1, 4)),
        {"kind": "event", "event": "skipped", "step": 4, "skipped": 1, "loss": float("nan"), "reason": "the loss"},
        {"kind": "event", "event": "stopped", "step": 4},
    ]
    with EventsWriter(run) as events:
        for one in rows:
            run.append_metrics(one)
            events.update(one)
    found = read(tmp_path / FOLDER)
    assert found["train/loss"] == [(step, pytest.approx(5 / step)) for step in (1, 2, 3)]
    assert found["eval/bits_per_byte"] == [(0, 8.0)] and found["train/skipped_batches"] == [(4, 1.0)]
    assert {"train/learning_rate", "train/gradient_norm", "train/tokens_per_second"} < set(found)


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    run = begun(tmp_path)
    for kept, rows in ((-1, range(1, 6)), (3, range(4, 9))):  # the second goes on from a checkpoint at step 3
        run.truncate_metrics(kept)
        with EventsWriter(run) as events:
            for step in rows:
                run.append_metrics(row(step, loss=10 * step + kept))
                events.update(run.metrics()[-1])
    steps, losses = zip(*read(tmp_path / FOLDER)["train/loss"], strict=True)
    assert steps == tuple(range(1, 9))
    assert losses == (9, 19, 29, 43, 53, 63, 73, 83), "steps 4 and 5 are those of the second process"


def test_a_finished_run_is_written_at_the_end(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.append_metrics(row(1))
    with EventsWriter(run):
        pass
    assert read(tmp_path / FOLDER)["train/loss"] == [(1, 5.0)]
    with EventsWriter(RunFolder(tmp_path / "never")):
        pass
    assert not (tmp_path / "never").exists()


def test_a_study_is_written_by_the_names_of_its_runs(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    for name, seed, norm in (("a" * 16, 0, "layernorm"), ("b" * 16, 1, "layernorm"), ("c" * 16, 1, "layernorm")):
        begun(study.run(name).path, seed, norm=norm, size="2 x 64").append_metrics(row(1, loss=float(ord(name[0]))))
    written = convert(tmp_path)
    assert [target.name for target in written] == [
        "layernorm-2_x_64-seed0", f"layernorm-2_x_64-seed1-{'b' * 16}", f"layernorm-2_x_64-seed1-{'c' * 16}",
    ]  # fmt: skip
    assert [read(target)["train/loss"] for target in written] == [[(1, float(ord(c)))] for c in "abc"]
    assert convert(study.run("a" * 16).path) == [study.run("a" * 16).path / FOLDER]
    assert convert(tmp_path) == written and len(list(written[0].iterdir())) == 1, "twice is as once"


def test_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such folder.*Give a run's folder"):
        convert(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no runs here"):
        convert(tmp_path)
    begun(tmp_path)
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'assay\[tensorboard\]'"):
        convert(tmp_path)
