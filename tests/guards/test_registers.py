"""Kernels keep their vectors in registers, whatever the width of the processor's: told from what the compiler makes."""

import platform
import re
import shutil
import subprocess

import pytest

from assay.generation.native.library import STEP
from assay.nn.kernels import native
from assay.nn.kernels.attention import NATIVE as ATTENTION
from assay.nn.kernels.norms import NATIVE as NORMS
from assay.nn.kernels.outer import NATIVE as OUTER

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("gcc"), reason="the code of gcc for x86_64 is read"
)
AVX512, AVX2, SSE = "x86-64-v4", "x86-64-v3", "x86-64"


def through_the_stack(library: native.Library, target: str, *more: str) -> float:
    """Share of the instructions on vector registers that read or write the stack."""
    flags = [flag for flag in library.flags if flag not in ("-shared", "-march=native")]
    command = ["gcc", *flags, *(["-fopenmp"] if library.openmp else []), f"-march={target}", *more]
    made = subprocess.run(
        [*command, "-S", "-x", "c", "-", "-o", "-"], input=native._read(library.package, library.source),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    vectors = [line for line in made.stdout.splitlines() if re.search(r"%[xyz]mm\d", line)]
    return sum(bool(re.search(r"\(%r[sb]p", line)) for line in vectors) / len(vectors)


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE])
@pytest.mark.parametrize("library", [ATTENTION, NORMS, OUTER, STEP], ids=lambda library: library.source)
def test_vectors_stay_in_registers(library: native.Library, target: str) -> None:
    assert through_the_stack(library, target) < 0.3


@pytest.mark.parametrize("library", [ATTENTION, NORMS, OUTER], ids=lambda library: library.source)
def test_vectors_wider_than_registers_do_not(library: native.Library) -> None:
    """The control: the mistake that made attention ten times slower on a processor without AVX-512."""
    assert through_the_stack(library, AVX2, "-DLANES=16") > 0.5
