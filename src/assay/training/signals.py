"""Ctrl-C that waits for the step to end: weights in the middle of an update are worth nothing."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupt"]


class Interrupt:
    """While it is entered, the first Ctrl-C sets `happened`; the second interrupts at once, as usual.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.happened = False
        self._before: Any = None

    def __enter__(self) -> Self:
        """Take over SIGINT."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give SIGINT back."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
