"""What every test may use. Threads are limited here, before anything imports torch."""

import os
from collections.abc import Iterator
from pathlib import Path

if os.environ.get("PYTEST_XDIST_WORKER"):
    # Several workers share the cores: one thread each, or they wait for one another.
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a download

import pytest
from hypothesis import HealthCheck, settings

# Derandomised: a red test is red for everyone. ASSAY_HYPOTHESIS=explore searches anew.
settings.register_profile("repeat", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("ASSAY_HYPOTHESIS", "repeat"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for torch, afterwards as many as before: counts and roundings do not depend on how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden checkpoints; tests that need it are skipped where it is not given."""
    given = os.environ.get("ASSAY_GOLDEN")
    if not given:
        pytest.skip("ASSAY_GOLDEN does not name the folder of golden checkpoints")
    folder = Path(given)
    # Given but wrong is a mistake, not a reason to skip.
    assert (folder / "INDEX.json").is_file(), f"ASSAY_GOLDEN={given} holds no INDEX.json"
    return folder
