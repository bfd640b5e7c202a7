"""The learning rate: warmup, peak, end and shape of every schedule."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.spec.training import ScheduleKind, ScheduleSpec
from assay.training.schedule import factor, reductions, warmup_share

KINDS = st.sampled_from([kind for kind in ScheduleKind if kind is not ScheduleKind.reversed])
SHARES = st.floats(0.01, 0.5)


@given(KINDS, SHARES, st.floats(0.0, 1.0))
def test_warmup_is_linear_from_zero(kind: ScheduleKind, warmup: float, part: float) -> None:
    spec = ScheduleSpec(kind=kind, warmup=warmup)
    assert factor(spec, warmup * part * 0.999, warmup) == pytest.approx(part * 0.999)


@given(KINDS, SHARES)
def test_the_peak_is_reached_when_the_warmup_ends(kind: ScheduleKind, warmup: float) -> None:
    assert factor(ScheduleSpec(kind=kind, warmup=warmup), warmup, warmup) == pytest.approx(1.0)


@given(st.sampled_from(["linear", "cosine", "wsd"]), SHARES, st.floats(0, 1))
def test_the_end_value_is_final(kind: str, warmup: float, final: float) -> None:
    spec = ScheduleSpec(kind=ScheduleKind(kind), warmup=warmup, final=final)
    assert factor(spec, 1.0, warmup) == pytest.approx(final)
    assert factor(spec, 1.2, warmup) == pytest.approx(final), "a step that overshoots the budget"


@given(KINDS, SHARES, st.floats(0, 1), st.floats(0, 1))
def test_after_warmup_it_never_rises(kind: ScheduleKind, warmup: float, a: float, b: float) -> None:
    spec = ScheduleSpec(kind=kind, warmup=warmup)
    low, high = sorted((warmup + a * (1 - warmup), warmup + b * (1 - warmup)))
    assert factor(spec, low, warmup) >= factor(spec, high, warmup) - 1e-12


@given(SHARES, st.floats(0.05, 0.4), st.floats(0, 1))
def test_wsd_is_flat_until_it_decays(warmup: float, decay: float, part: float) -> None:
    spec = ScheduleSpec(kind=ScheduleKind.wsd, warmup=warmup, decay=decay)
    at = warmup + part * (1 - decay - warmup)
    assert factor(spec, at, warmup) == 1.0
    assert factor(spec, 1 - decay / 2, warmup) == pytest.approx(1 - (1 - spec.final) / 2)


@given(SHARES, st.floats(1.0, 2.0))
def test_inverse_sqrt_falls_with_the_root(warmup: float, times: float) -> None:
    spec = ScheduleSpec(kind=ScheduleKind.inverse_sqrt, warmup=warmup)
    assert factor(spec, warmup * times, warmup) == pytest.approx(1 / math.sqrt(times))


def test_cosine_is_halfway_in_the_middle() -> None:
    spec = ScheduleSpec(kind=ScheduleKind.cosine, warmup=0, final=0.1)
    assert factor(spec, 0.5, 0) == pytest.approx(0.55)


def test_no_warmup_starts_at_the_peak() -> None:
    for kind in set(ScheduleKind) - {ScheduleKind.reversed}:
        assert factor(ScheduleSpec(kind=kind, warmup=0), 1e-9, 0) == pytest.approx(1.0)


def test_warmup_in_steps_becomes_a_share() -> None:
    assert warmup_share(ScheduleSpec(warmup=10), 1 / 100) == pytest.approx(0.1)
    assert warmup_share(ScheduleSpec(warmup=0.05), 1 / 100) == 0.05
    assert warmup_share(ScheduleSpec(warmup=1000), 1 / 100) == 1.0
    spec = ScheduleSpec(warmup=1000)
    assert factor(spec, 1.0, 1.0) == 1.0, "a warmup as long as the run ends at the peak"


LOSSES = st.lists(st.floats(0.5, 4.0), max_size=40)


@given(LOSSES, st.integers(1, 5), st.floats(0.1, 0.9), st.floats(0, 0.05))
def test_plateau_is_torchs(losses: list[float], patience: int, reduction: float, improvement: float) -> None:
    """torch forgives `patience` losses and falls at the next; ours falls at the `patience`-th."""
    spec = ScheduleSpec(
        kind=ScheduleKind.plateau, patience=patience, reduction=reduction, improvement=improvement, final=0
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=reduction, patience=patience - 1, threshold=improvement, threshold_mode="rel", eps=0
    )
    for seen in range(len(losses)):
        reference.step(losses[seen])
        ours = factor(spec, 0.5, 0.1, losses[: seen + 1])
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_plateau_falls_on_a_plateau_alone() -> None:
    spec = ScheduleSpec(kind=ScheduleKind.plateau, patience=2, reduction=0.5, final=0.2)
    falling = [4.0 * 0.9**n for n in range(20)]
    assert factor(spec, 1.0, 0.1, falling) == 1.0
    assert factor(spec, 1.0, 0.1, [3.0, 3.0, 3.0]) == 0.5
    assert factor(spec, 1.0, 0.1, [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]) == 1.0, "better each time before patience ends"
    assert factor(spec, 1.0, 0.1, [3.0] * 30) == 0.2, "final is the floor"
    assert reductions(spec, [3.0, math.nan, math.nan]) == 1, "not finite is not better"
    assert reductions(spec, []) == 0
    assert factor(spec, 0.05, 0.1, [3.0] * 30) == pytest.approx(0.5), "the warmup knows no plateau"


@given(LOSSES)
def test_other_schedules_do_not_look_at_losses(losses: list[float]) -> None:
    for kind in ScheduleKind:
        if kind is not ScheduleKind.plateau:
            spec = ScheduleSpec(kind=kind)
            assert factor(spec, 0.6, 0.05, losses) == factor(spec, 0.6, 0.05)


@given(progress=st.floats(0, 1), warmup=st.floats(0, 0.5), final=st.floats(0, 1))
def test_reversed_is_the_cosine_backwards(progress: float, warmup: float, final: float) -> None:
    forward = ScheduleSpec(kind=ScheduleKind.cosine, warmup=warmup, final=final)
    backward = ScheduleSpec(kind=ScheduleKind.reversed, warmup=warmup, final=final)
    assert factor(backward, progress, warmup) == pytest.approx(factor(forward, 1 - progress, warmup))
    assert factor(backward, 0.0, warmup) == pytest.approx(final) and factor(backward, 1.0, warmup) in (0.0, 1.0)
