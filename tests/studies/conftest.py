"""Studies of tiny runs, in worker processes as real ones are."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.training.conftest import sample_text

from assay.spec.study import StudySpec


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(sample_text(), encoding="utf-8")
    return path


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def small(source: Path) -> Callable[..., StudySpec]:
    def make(vary: dict[str, Any] | None = None, seeds: int = 1, **train: Any) -> StudySpec:
        return StudySpec.from_dict(
            {
                "model": {"width": 16, "layers": 2, "attention": {"heads": 2}},
                "train": {"steps": 3, "batch_size": 2, "length": 32, "evaluations": 1, **train},
                "data": {"source": str(source), "tokenizer": "bytes", "heldout": 0.2},
                "vary": {"norm": ["layernorm", "rmsnorm"]} if vary is None else vary,
                "seeds": seeds,
            }
        )

    return make


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As workers: another number of threads rounds differently."""
    import torch

    torch.set_num_threads(1)
