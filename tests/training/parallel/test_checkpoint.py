"""Checkpoints of ranks: common files, written while training goes on, whole or not there, read without pickle."""

import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.training.parallel.crew import Crew

from assay.runs import RunFolder, verify_files

Described = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(("ranks", "parallel"), [(2, "ddp"), (4, "fsdp"), (4, "hsdp")])
def test_what_is_held_is_what_is_written_and_read_by_others(
    crew: Crew, described: Described, tmp_path: Path, ranks: int, parallel: str
) -> None:
    """Sizes that 4 does not divide, so that ranks hold unequal parts and some nothing; DyT's scalars lie whole."""
    run = described(model={"width": 6, "attention": {"heads": 1}, "norm": "dyt", "dropout": 0.0})
    run["train"]["parallel"] = {"kind": parallel, **({"shard": 2} if parallel == "hsdp" else {})}
    wrote = crew.run(ranks, "write", run=run, out=str(tmp_path))
    path = RunFolder(tmp_path).checkpoint(1)
    verify_files(path)
    for file in ("model", "optimizer"):
        stored = load_file(path / f"{file}.safetensors")
        assert stored.keys() == wrote[0][file].keys()
        for name, value in wrote[0][file].items():
            assert torch.equal(stored[name], torch.from_numpy(value)), name
    for other in {1, 2, 4} - {ranks}:
        run["train"]["parallel"] = {"kind": "fsdp" if other > 1 else "none"}
        read = crew.run(other, "read", run=run, out=str(tmp_path))
        for file in ("model", "optimizer"):
            for name, value in wrote[0][file].items():
                assert (read[0][file][name] == value).all(), (other, name)


def test_weights_may_change_while_they_are_written(crew: Crew, described: Described, tmp_path: Path) -> None:
    """A slow disk: two steps are done before step 4's checkpoint is whole, and it holds what was saved."""
    run = described(steps=8, checkpoints=2)
    answers = crew.run(2, "slow_disk", run=run, out=str(tmp_path / "slow"), until=6)
    assert answers[0]["ended"][0] >= 6, "steps were done while the first checkpoint was being written"
    assert answers[0]["outcome"]["status"] == "done"
    stopped = crew.run(2, "train", run=run, out=str(tmp_path / "stopped"), stop=4)
    assert stopped[0]["outcome"]["step"] == 4
    wanted = load_file(tmp_path / "stopped" / "checkpoints" / "step-4" / "model.safetensors")
    assert all(torch.equal(torch.from_numpy(answers[0]["kept"][name]), value) for name, value in wanted.items())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_at_any_rank_leaves_the_checkpoint_before(
    crew: Crew, described: Described, tmp_path: Path, rank: int
) -> None:
    run = described(steps=8, checkpoints=4)
    told = crew.run(2, "full_disk", run=run, out=str(tmp_path), rank=rank, write=2)
    assert told[0] == told[1] and "the disk is full" in told[0] and "--resume" in told[0]
    folder = RunFolder(tmp_path)
    assert folder.checkpoint_steps() == [2]
    verify_files(folder.checkpoint(2))
    assert [entry.name for entry in folder.checkpoints.iterdir()] == ["step-2"], "the broken one left nothing"
    assert crew.run(2, "train", run=run, out=str(tmp_path))[0]["outcome"]["status"] == "done"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["EVIL"],)


def test_no_pickle_is_opened(crew: Crew, described: Described, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where distributed checkpoint's own metadata would lie, there is a pickle that makes a folder when it is read."""
    run = described(steps=4)
    crew.run(2, "train", run=run, out=str(tmp_path / "run"), stop=2)
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    file = RunFolder(tmp_path / "run").checkpoint(2) / ".metadata"
    assert not file.exists()
    file.write_bytes(pickle.dumps(Evil()))
    assert crew.run(2, "train", run=run, out=str(tmp_path / "run"))[0]["outcome"]["status"] == "done"
    assert not (tmp_path / "evil").exists()
    # Negative control: it is one that works.
    with suppress(Exception):
        pickle.loads(pickle.dumps(Evil()))
    assert (tmp_path / "evil").exists()


def test_a_damaged_or_foreign_checkpoint_is_refused(crew: Crew, described: Described, tmp_path: Path) -> None:
    run = described(steps=4)
    crew.run(2, "train", run=run, out=str(tmp_path), stop=2)
    file = RunFolder(tmp_path).checkpoint(2) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    told = crew.run(2, "refusal", run=run, out=str(tmp_path))
    assert told[0] == told[1] and "model.safetensors: its content has changed" in told[0]
    (file.parent / "checksums.json").unlink()
    file.write_bytes(content[: len(content) // 2])
    told = crew.run(2, "refusal", run=run, out=str(tmp_path))
    assert told[0] == told[1] and "model.safetensors" in told[0]
