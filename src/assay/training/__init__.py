"""The optimizer, the schedules, the loop, checkpoints; `train` is the way in from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.training.api import Run, train

__all__ = ["Run", "train"]


def __getattr__(name: str) -> Any:
    """`train` and `Run`, loaded when asked for: counting and checking do without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from assay.training import api

    return getattr(api, name)
