"""A run on ranks that is interrupted anywhere ends bit for bit as one that was not; on other ranks it goes on too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.training.parallel.crew import Crew
from tests.training.parallel.test_equal import bounds, kind, losses_apart, weights, weights_apart

from assay.runs import RunFolder
from assay.training.api import Run

Described = Callable[..., dict[str, Any]]

#: 8 rows of 256 bytes: nine batches an epoch, so that twelve steps go into the second.
LONG = {"length": 256, "steps": 12, "checkpoints": 1, "model": {"dropout": 0.1}}
SAME = ("step", "loss", "lr", "grad_norm", "tokens", "flops", "bits_per_byte")


def curve(rows: list[dict[str, Any]], which: str) -> list[tuple[Any, ...]]:
    return [tuple(row.get(name) for name in SAME) for row in kind(rows, which)]


@pytest.mark.parametrize(("ranks", "parallel"), [(2, "fsdp"), (4, "fsdp"), (4, "ddp"), (4, "hsdp")])
def test_interrupted_and_gone_on_with_to_the_bit(
    crew: Crew, described: Described, tmp_path: Path, ranks: int, parallel: str
) -> None:
    """In the first epoch (step 4), and in the second (step 11). With dropout, each rank of its own."""
    run = described(**LONG, parallel={"kind": parallel, **({"shard": 2} if parallel == "hsdp" else {})})
    whole = crew.run(ranks, "train", run=run, out=str(tmp_path / "whole"))[0]
    for stop, step in ((4, 4), (7, 11)):
        answers = crew.run(ranks, "train", run=run, out=str(tmp_path / "broken"), stop=stop)
        assert [a["outcome"] for a in answers] == [{"status": "stopped", "step": step}] * ranks
    broken = crew.run(ranks, "train", run=run, out=str(tmp_path / "broken"))[0]
    assert whole["outcome"]["epochs"] == broken["outcome"]["epochs"] == 2
    assert curve(broken["rows"], "train") == curve(whole["rows"], "train")
    assert curve(broken["rows"], "eval") == curve(whole["rows"], "eval")
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_other_ranks_go_on_with_the_same_data(crew: Crew, described: Described, tmp_path: Path) -> None:
    """2, then 4, then 1, then 2 ranks in turn, and one process alone: the same run up to the order of sums."""
    run = described(**(LONG | {"model": {"dropout": 0.0}}))
    (one,) = crew.run(1, "train", run=run, out=str(tmp_path / "one"), wide=True)
    turns = [(2, "fsdp", 3), (4, "fsdp", 3), (1, "none", 3), (2, "ddp", None)]
    for ranks, parallel, stop in turns:
        run["train"]["parallel"] = {"kind": parallel}
        many = crew.run(ranks, "train", run=run, out=str(tmp_path / "many"), stop=stop, wide=True)[0]
    weight_bound, loss_bound = bounds(one["rows"], sum(t.numel() for t in weights(tmp_path / "one").values()))
    # Twice the steps and eight times the terms of the runs that the bounds are made for.
    assert weights_apart(tmp_path / "one", tmp_path / "many") <= 16 * weight_bound
    assert losses_apart(one["rows"], many["rows"]) <= 16 * loss_bound
    assert [row["ranks"] for row in many["rows"] if row.get("event") == "ranks"] == [2, 4, 2]


def test_what_is_left_is_a_run_like_any_other(crew: Crew, described: Described, tmp_path: Path) -> None:
    run = described(steps=4)
    run["train"]["parallel"] = {"kind": "fsdp"}
    crew.run(2, "train", run=run, out=str(tmp_path), stop=2)
    folder = RunFolder.open(tmp_path)
    files = sorted(file.name for file in folder.checkpoint(2).iterdir())
    assert files == ["checksums.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    model = Run(tmp_path).model()  # of a run that is not finished
    stored = load_file(folder.checkpoint(2) / "model.safetensors")
    assert all(torch.equal(p, stored[name]) for name, p in model.named_parameters())
    answers = crew.run(2, "train", run=run, out=str(tmp_path))
    assert answers[0]["outcome"]["status"] == "done" and answers[0]["seen"] > 0
    assert not (folder.checkpoint(4) / "optimizer.safetensors").exists() and folder.checkpoint_steps() == [4]
    again = crew.run(2, "train", run=run, out=str(tmp_path))
    assert [a["outcome"] for a in again] == [answers[0]["outcome"]] * 2 and again[0]["seen"] == 0


def test_what_differs_is_refused_on_every_rank(crew: Crew, described: Described, tmp_path: Path) -> None:
    run = described(steps=4)
    crew.run(2, "train", run=run, out=str(tmp_path), stop=2)
    run["train"]["batch_size"] = 16
    told = crew.run(2, "refusal", run=run, out=str(tmp_path))
    assert told[0] == told[1] and told[0].endswith("Saved -> given:\n  train.batch_size: 8 -> 16")
