"""Which runs can be trained together, from their descriptions."""

from collections.abc import Callable
from typing import Any

import pytest

from assay.spec.study import RunSpec
from assay.training.together.eligible import kin, step_flops, why_alone

Shared = Callable[..., RunSpec]

ALONE: list[tuple[dict[str, Any], str]] = [
    ({"model": {"dropout": 0.1}}, "dropout"),
    ({"model": {"attention.dropout": 0.1}}, "dropout"),
    ({"model": {"feedforward.experts": {"count": 4, "active": 2}}}, "experts"),
    ({"model": {"positions": "relative"}}, "relative"),
    ({"model": {"norm.max_scale": 8.0}}, "max_scale"),
    ({"dtype": "bfloat16"}, "bfloat16"),
    ({"compile": True}, "compiled"),
    ({"compile": None, "steps": 10**9}, "compiled"),
]


@pytest.mark.parametrize(("changes", "why"), ALONE, ids=[why + str(i) for i, (_, why) in enumerate(ALONE)])
def test_what_runs_alone_says_why(shared: Shared, changes: dict[str, Any], why: str) -> None:
    assert why in why_alone(shared(**changes))


def test_a_plain_run_can_join(shared: Shared) -> None:
    assert why_alone(shared()) == "" == why_alone(shared(compile=None))


def test_kin_is_all_but_seed_optimizer_and_length_of_the_run(shared: Shared) -> None:
    one = shared()
    alike = [shared(seed=3), shared(optimizer={"learning_rate": 0.1, "clip": 2.0}), shared(steps=99),
             shared(schedule={"kind": "linear"}), shared(evaluations=1)]  # fmt: skip
    assert {kin(run) for run in alike} == {kin(one)}
    others = [shared(model={"width": 32}), shared(batch_size=2), shared(length=16), shared(z_loss=1e-4),
              shared(accumulation=2), shared(checkpointing=True)]  # fmt: skip
    assert len({kin(run) for run in [one, *others]}) == len(others) + 1


def test_a_steps_flops_grow_with_its_rows(shared: Shared) -> None:
    assert step_flops(shared(batch_size=8)) == pytest.approx(2 * step_flops(shared(batch_size=4)))
