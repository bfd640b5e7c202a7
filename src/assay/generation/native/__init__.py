"""Decoding in one native call a token for all rows, where a C compiler is found; see `step.c` for why."""

from __future__ import annotations

from assay.generation.native.eligible import why_not
from assay.generation.native.program import Program

__all__ = ["Program", "why_not"]
