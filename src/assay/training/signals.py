"""Ctrl-C and SIGTERM that wait for the step to end: weights in the middle of an update are worth nothing."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupt", "Terminated"]


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends before it takes the machine away: as Ctrl-C, with the exit status of its own."""

    status = 128 + signal.SIGTERM


class Interrupt:
    """While it is entered, the first Ctrl-C or SIGTERM sets `happened`; the second ends at once, as usual.

    SIGTERM is taken only where nobody has a handler for it. Outside the main thread, where Python delivers no signals,
    it does nothing.
    """

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.happened = False
        self.error: type[KeyboardInterrupt] = KeyboardInterrupt
        """What to raise when the work is saved."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._note)
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        if number == signal.SIGTERM:
            self.error = Terminated
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
