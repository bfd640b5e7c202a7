"""A text, a small spec, and a cache of the session's own."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.spec.model import ModelSpec

TEXT = "the model reads a text and learns to say what comes next in it after some time with care"


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    order = random.Random(0)
    sentences = [" ".join(order.choices(TEXT.split(), k=order.randint(4, 12))) + "." for _ in range(500)]
    path.write_text("\n".join(sentences), encoding="utf-8")
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(ModelSpec(name="small", width=32, layers=2, attention={"heads": 2}).to_toml())  # type: ignore[arg-type]
    return path
