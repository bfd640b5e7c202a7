"""One crew of four ranks for all tests, and runs small enough for it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.training.parallel.crew import Crew

from assay.spec.study import RunSpec


@pytest.fixture(scope="session")
def crew(cache: None) -> Iterator[Crew]:
    ranks = Crew(4, {name: os.environ[name] for name in ("ASSAY_CACHE",)} | {"OMP_NUM_THREADS": "1"})
    yield ranks
    ranks.close()


@pytest.fixture
def described(tiny: Callable[..., RunSpec]) -> Callable[..., dict[str, Any]]:
    """The fields of a run of `tiny`, without dropout, for another process; 8 rows a batch can be shared by 1, 2, 4.

    Adam's eps is large, so that rounding of a gradient is not blown up where the gradient is about 0.
    """

    def make(family: str = "causal", objective: str | None = None, **train: Any) -> dict[str, Any]:
        train = {"batch_size": 8, "optimizer": {"eps": 1e-3, "clip": 0.5}, "model": {"dropout": 0.0}} | train
        return tiny(family, objective, **train).to_dict()

    return make


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path)
