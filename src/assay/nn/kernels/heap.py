"""What glibc's allocator does with freed memory: kept while the same sizes come again, given back now and then."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections import deque
from functools import cache

__all__ = ["HEAP", "Heap", "give_back", "keep_memory", "resident"]

TRIM, PAD, MAP_FROM = -1, -2, -3
"""M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD of malloc.h."""


def keep_memory() -> bool:
    """Let glibc keep freed memory in the process instead of giving pages back and faulting them in again.

    By default it returns the top of the heap as soon as a few large tensors are free, and a training step frees
    and takes the same sizes over and over: for a norm over 16 MB, page faults then cost more than the work. The
    process keeps its peak until it ends, or until `give_back`. No effect elsewhere than on glibc.

    Returns:
        Whether it took effect.
    """
    wanted = ((MAP_FROM, 32 << 20), (TRIM, 2**31 - 1), (PAD, 64 << 20))
    return _glibc() and all([ctypes.CDLL(None).mallopt(what, value) == 1 for what, value in wanted])


def give_back() -> bool:
    """Give all free pages back at once; those that are needed again are faulted in again. 8 ms at 600 MB.

    Returns:
        Whether any were.
    """
    return _glibc() and ctypes.CDLL(None).malloc_trim(0) == 1


class Heap:
    """The process's memory: kept between the steps of a run, and given back where the process has grown.

    Small things that live on (rows, caches) come to lie where a large tensor was; the next one then takes fresh pages,
    and over hours the pages that were ever touched become more, though nothing is lost.
    """

    GROWN = 1.01
    """Times the least of its sizes after the steps that followed the last few times."""

    LAST = 16
    """Of them. One size alone would not do: a step now and then leaves more than others, and that would be the measure
    until the next time."""

    SHARE = 0.01
    """Of a run's time that giving back may take; to fault the pages in again takes about as much."""

    def __init__(self, every: float = 1.0) -> None:
        """Args: every: seconds at least between two times that memory is given back."""
        self.every, self.kept = every, False
        self.next, self.settling = 0.0, True
        self.settled: deque[int] = deque(maxlen=self.LAST)

    def keep(self) -> None:
        """Keep memory from now on; before, `tidy` does nothing."""
        self.kept, self.next = keep_memory(), time.monotonic() + self.every

    def tidy(self) -> bool:
        """Give memory back where it is time; called between two steps. Returns whether it did."""
        began = time.monotonic()
        if not self.kept or not (self.settling or began >= self.next):
            return False
        size = resident()
        if self.settling:  # the first step since: what steps need is there again
            self.settled.append(size)
            self.settling = False
        if began < self.next or size <= self.GROWN * min(self.settled):
            return False
        gave, ended = give_back(), time.monotonic()
        self.next, self.settling = ended + max(self.every, (ended - began) / self.SHARE), True
        return gave


HEAP = Heap()
"""One for all runs of a process, which several may be at once."""


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


@cache
def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
