"""How ranks are arranged: arithmetic, and what cannot be shared evenly."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.spec.training import ParallelKind, TrainSpec
from assay.training.parallel.layout import Launch, Layout, launched, plan_layout


def layout(ranks: int, local: int | None = None, **train: object) -> Layout:
    spec = TrainSpec.from_dict({"steps": 1, "batch_size": 8} | train)
    return plan_layout(spec, Launch(0, ranks, 0, local or ranks))


def test_the_kinds() -> None:
    assert layout(4) == layout(4, parallel="fsdp") == Layout(ParallelKind.fsdp, 4, 4)
    assert layout(4, parallel="ddp") == Layout(ParallelKind.ddp, 4, 1)
    two = layout(8, parallel={"kind": "hsdp", "shard": 2})
    assert two == Layout(ParallelKind.hsdp, 8, 2) and two.replicas == 4 and two.sharded
    assert layout(8, 4, parallel="hsdp").shard == 4, "the processes of a machine"
    assert layout(4, parallel={"kind": "hsdp", "shard": 4}).kind is ParallelKind.fsdp
    assert layout(4, parallel={"kind": "hsdp", "shard": 1}).kind is ParallelKind.ddp
    for kind in ("none", "ddp", "fsdp", "hsdp"):
        assert layout(1, parallel=kind) == Layout(ParallelKind.none), "one process is one process"


@pytest.mark.parametrize(
    ("ranks", "train", "said"),
    [
        (2, {"parallel": "none"}, r"parallel = none: 2 processes.*ddp, fsdp or hsdp"),
        (3, {}, r"batch_size = 8: .* 3 processes.*multiple of 3, such as 9"),
        (4, {"accumulation": 4}, r"4 processes x 4 parts.*multiple of 16, such as 16"),
        (4, {"parallel": {"kind": "hsdp", "shard": 3}}, r"parallel\.shard = 3: does not divide the 4.*divisor of 4"),
        (2, {"optimizer": {"equal_layers": True}}, r"optimizer\.equal_layers = true.*fsdp cuts them.*parallel = ddp"),
    ],
)
def test_what_cannot_be_shared(ranks: int, train: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        layout(ranks, **train)


@given(rows=st.integers(0, 40), ranks=st.integers(1, 9))
def test_rows_are_cut_as_torch_cuts_them(rows: int, ranks: int) -> None:
    spread = Layout(ParallelKind.fsdp, ranks, ranks)
    ours = [list(spread.held_rows(rows, place)) for place in range(ranks)]
    theirs = [chunk.tolist() for chunk in torch.chunk(torch.arange(rows), ranks)] if rows else []
    assert ours == theirs + [[]] * (ranks - len(theirs))
    assert np.concatenate(ours).tolist() == list(range(rows)), "every row has one holder"


def test_the_place_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == Launch()
    monkeypatch.setenv("RANK", "3")
    assert launched() == Launch(), "RANK alone means nothing"
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert launched() == Launch(3, 8, 3, 8)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert launched() == Launch(3, 8, 1, 2)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert launched().attempt == 1
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match=r"WORLD_SIZE=many.*torchrun"):
        launched()
