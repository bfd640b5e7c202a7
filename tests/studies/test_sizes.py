"""A family of sizes on a made task: every run once, a table that the analysis reads, and what cannot be is refused."""

from pathlib import Path

import numpy as np
import pytest

from assay.errors import UserError
from assay.evaluation.outcomes import Outcomes
from assay.runs import StudyFolder
from assay.stats.emergence import analyse
from assay.stats.results import read_results
from assay.studies.sizes import FILE, Sizes, rows, sizes

SMALL = Sizes(
    "recall", 2, widths=(4, 8), layers=1, steps=3, rates=(1e-3, 4e-3), seeds=2, train_items=4000, test_items=6
)


def test_the_sizes_differ_in_width_and_heads_alone() -> None:
    runs = Sizes("addition", 2, widths=(8, 48), seeds=1).runs(4e-3)
    assert [(run.model.width, run.model.attention.heads) for run in runs] == [(8, 1), (48, 3)]
    plain = [run.model.with_(width=16, **{"attention.heads": 1}) for run in runs]
    assert plain[0] == plain[1] and runs[0].train == runs[1].train and runs[0].data == runs[1].data


def test_the_widths_that_stand_where_none_is_given_can_be() -> None:
    assert len({run.model.hash for run in Sizes("addition", 2, seeds=1).runs(4e-3)}) == len(Sizes("addition", 2).widths)


def test_a_whole_family(tmp_path: Path) -> None:
    study, events = StudyFolder(tmp_path), []
    told = sizes(SMALL, study, workers=1, progress=events.append)
    assert all("at the edge" in one for one in told) and len(told) == 2
    finished = [event["run"] for event in events if event["event"] == "finished"]
    assert len(finished) == len(set(finished)) == 2 * 2 + 2, "two rates on seed 0, then seed 1 at the best"
    found = read_results(tmp_path / FILE)
    assert [model.model for model in found.models] == ["width 4", "width 8"]
    assert all(model.number == 6 * 2 for model in found.models), "both seeds' items"
    assert set(found.subtasks["width 4"]) == {"part 1", "part 2", "whole"}
    assert {curve["metric"] for curve in analyse(found, resamples=100).to_dict()["curves"]} >= {"exact match"}
    events.clear()
    assert sizes(SMALL, study, workers=1, progress=events.append) == told
    assert not [event for event in events if event["event"] == "started"], "nothing is done twice"


def test_the_rows_are_the_outcomes() -> None:
    found = Outcomes(
        nats=np.array([2.0, 6.0]), tokens=np.array([4.0, 3.0]), exact=np.array([1.0, 0.0]), edits=np.array([0.0, 2.0]),
        parts=np.array([[1.0, 1.0], [0.0, 1.0]]),
    )  # fmt: skip
    lines = rows("m", 100.0, 3, found)
    assert [line.get("token_logprob") for line in lines if line["subtask"] == "whole"] == ["-0.5", "-2"]
    assert [line["score"] for line in lines if line["subtask"] == "part 1"] == ["1", "0"]
    single = rows("m", 100.0, 3, Outcomes(found.nats, found.tokens, found.exact, found.edits, found.parts[:, :1]))
    assert len(single) == 2 and all("subtask" not in line for line in single)


@pytest.mark.parametrize("widths", [(8,), (8, 8), (8, 17), (8, 50), (1, 8)])
def test_widths_that_cannot_be(widths: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="widths"):
        Sizes("addition", 2, widths=widths)
