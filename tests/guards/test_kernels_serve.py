"""Every C kernel serves where there is a compiler. One that computes something else is refused, and torch serves in its
stead: its own tests then have nothing to test and are skipped, so that here is where it shows."""

import os
import platform
import shutil

import pytest

from assay.generation.native.library import STEP
from assay.nn.kernels import adamw, attention, cross_entropy, gated, norms, outer, rotary
from assay.nn.kernels.native import Library
from assay.probes import gram
from assay.runs import processor

LIBRARIES = [STEP, *(module.NATIVE for module in (adamw, attention, cross_entropy, gated, norms, outer, rotary, gram))]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.source)
def test_it_serves_as_it_was_built_for_this_processor(library: Library) -> None:
    if (
        os.environ.get("ASSAY_NATIVE") == "0"
        or os.name != "posix"
        or not any(map(shutil.which, ("cc", "gcc", "clang")))
    ):
        pytest.skip("no C compiler here, or ASSAY_NATIVE=0")
    if library is gram.NATIVE and not (platform.machine() == "x86_64" and "avx2" in processor.features()):
        pytest.skip("gram.c is for AVX2 and AVX-512")
    assert library.load() is not None, library.reason
    assert not library.refused
