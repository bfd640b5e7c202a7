"""What only a machine with an accelerator can show; on another every test here is skipped and says so."""

import pytest
import torch
from tests.training.conftest import cache, source, tiny

__all__ = ["cache", "source", "tiny"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of this folder's tests."""
    for item in items:
        if "accelerator" in item.path.parts:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def device() -> str:
    """Where these tests compute."""
    if not torch.cuda.is_available():
        pytest.skip("no accelerator on this machine")
    return "cuda"
