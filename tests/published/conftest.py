"""One tiny LLaMA by transformers, which a test may copy and spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.published.common import BASE, reference, saved


@pytest.fixture(scope="session")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = reference("LlamaConfig", BASE)
    return model, saved(model, tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def theirs(_tiny: tuple[Any, Path]) -> Any:
    """The reference."""
    return _tiny[0]


@pytest.fixture
def copy(_tiny: tuple[Any, Path], tmp_path: Path) -> Callable[[], Path]:
    """A fresh copy of its folder."""

    def make() -> Path:
        return Path(shutil.copytree(_tiny[1], tmp_path / "tiny"))

    return make
