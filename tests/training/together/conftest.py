"""Runs that can be trained together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.conftest import sample_text

from assay.spec.study import RunSpec, StudySpec


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents shorter and longer than a row, so that some batches have one a row and others several."""
    path, text, draw = tmp_path_factory.mktemp("documents") / "text.jsonl", sample_text(), np.random.default_rng(0)
    lines = []
    while text:
        size = int(draw.choice([12, 40, 200, 2000], p=[0.4, 0.3, 0.2, 0.1]))
        lines.append(json.dumps({"text": text[:size]}))
        text = text[size:]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def shared(source: Path) -> Callable[..., RunSpec]:
    """A run by changes to its model (dotted fields) and its training; one fixture for all examples that are drawn."""

    def make(
        model: dict[str, Any] | None = None, family: str = "causal", objective: str | None = None, seed: int = 0,
        **train: Any,
    ) -> RunSpec:  # fmt: skip
        study = StudySpec.from_dict(
            {
                "model": {"width": 16, "layers": 2, "attention": {"heads": 2}},
                "train": {"steps": 6, "batch_size": 4, "length": 32, "evaluations": 2, "compile": False, **train},
                "data": {"source": str(source), "tokenizer": "bytes", "heldout": 0.2},
                "objective": objective,
                "vary": {"family": [family]},
                "seeds": seed + 1,
            }
        )
        run = study.runs()[seed]
        return run.model_copy(update={"model": run.model.with_(**(model or {}))})

    return make
