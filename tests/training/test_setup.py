"""What is decided before the first step, from the description alone."""

from __future__ import annotations

from typing import Any

import pytest

from assay.spec.study import RunSpec, StudySpec
from assay.training.setup import COMPILE_FROM, COMPILE_TO, wants_compiling


def described(width: int, **train: Any) -> RunSpec:
    model = {"layers": 2, "width": width, "attention": {"heads": 4}}
    fields = {"model": model, "train": {"steps": 10, **train}, "data": {"source": "stdlib"}}
    return StudySpec.from_dict({**fields, "vary": {}, "seeds": 1}, source="test").runs()[0]


@pytest.mark.parametrize(
    "width, flops, device, train, says",
    [
        (COMPILE_TO, COMPILE_FROM, "cpu", {}, True),
        (COMPILE_TO, COMPILE_FROM / 2, "cpu", {}, "too few"),
        (COMPILE_TO + 64, 1e18, "cpu", {}, f"width = {COMPILE_TO + 64}"),
        (COMPILE_TO + 64, 1e18, "cpu", {"compile": True}, True),
        (COMPILE_TO, 1e18, "cpu", {"compile": False}, "compile = false"),
        (COMPILE_TO + 64, 1.0, "cuda:0", {}, True),
    ],
)
def test_a_cpu_compiles_long_runs_of_narrow_models(
    width: int, flops: float, device: str, train: dict[str, Any], says: bool | str
) -> None:
    found = wants_compiling(described(width, **train), flops, device)
    assert found is True if says is True else isinstance(found, str) and says in found
