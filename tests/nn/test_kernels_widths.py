"""The C kernels as other processors compute them: with registers of 4, 8 and 16 floats, products by blocks or not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.generation.native.library import BLOCKED
from assay.runs import processor

ROOT = Path(__file__).parent.parent
FILES = [
    "guards/test_kernels_serve.py",  # a kernel that is refused skips its own tests: this one fails
    *(
        f"nn/test_kernels_{name}.py"
        for name in ("attention", "norms", "adamw", "gated", "cross_entropy", "rotary", "outer")
    ),
    "nn/test_ranged.py",
    *(f"generation/test_native{name}.py" for name in ("", "_rows", "_top")),
]
CHOSEN = "serves or float64 or equal or products or modules or torchs or rules"
HERE = 16 if "avx512f" in processor.features() else 8 if "avx" in processor.features() else 4


OTHERS = {f"-DLANES={lanes}": FILES for lanes in sorted({4, 8, 16} - {HERE})}
if not BLOCKED:  # where it is, registers of 8 and 4 floats go without
    OTHERS["-DLANES=16 -DBLOCKED=24"] = [name for name in FILES if "nn/" not in name]
"""What the compiler is told, and the tests that it may make a difference to."""


@pytest.mark.slow
@pytest.mark.parametrize("told", OTHERS)
def test_results_do_not_depend_on_the_processor(told: str) -> None:
    """Their own tests against float64, torch and decoding by modules, in a process whose compiler is told otherwise."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    files = [str(ROOT / name) for name in OTHERS[told]]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-k", CHOSEN, *files],
        env=os.environ | {"CC": f"{compiler} {told}"}, cwd=ROOT.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
