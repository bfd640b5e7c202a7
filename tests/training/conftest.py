"""A tiny run on a tiny text: bytes, two layers, a handful of steps."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.spec.study import RunSpec, StudySpec

TEXT = "the model reads a text and learns to say what comes next in it after some time with care"


def sample_text(size: int = 24_000) -> str:
    """Sentences of random words: English enough for a byte model to learn from."""
    generator = np.random.default_rng(0)
    words: list[str] = []
    while sum(map(len, words)) + len(words) < size:
        words += [*generator.choice(TEXT.split(), generator.integers(4, 12)), ".\n"]
    return " ".join(words)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests compare in float32 on a CPU; those of `tests/accelerator` name their device."""
    for module in ("loop", "setup", "together.train"):
        monkeypatch.setattr(f"assay.training.{module}.pick_device", lambda: "cpu")


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
def tiny(source: Path) -> Callable[..., RunSpec]:
    """A run by its family, objective and changes to the training fields."""

    def make(family: str = "causal", objective: str | None = None, **train: Any) -> RunSpec:
        train = {"steps": 6, "batch_size": 4, "length": 32, "evaluations": 2, "compile": False} | train
        if "budget" in train:
            del train["steps"]
        model = train.pop("model", {})
        study = StudySpec.from_dict(
            {
                "model": {"width": 16, "layers": 2, "attention": {"heads": 2}, "dropout": 0.1, **model},
                "train": train,
                "data": {"source": str(source), "tokenizer": "bytes", "heldout": 0.2},
                "objective": objective,
                "vary": {"family": [family]},
                "seeds": 1,
            }
        )
        return study.runs()[0]

    return make
