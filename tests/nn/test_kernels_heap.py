"""Freed memory: kept between steps, given back once in a while."""

import subprocess
import sys

import pytest

from assay.nn.kernels import heap

GLIBC = heap.platform.libc_ver()[0] == "glibc"

HOLES = """
import sys
from pathlib import Path
import torch
from assay.nn.kernels.heap import Heap

def resident():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) >> 10  # MiB

tidied, living = Heap(every=0.0), []
first = resident()
for _ in range(30):  # a large tensor is freed, and something small comes to lie in its place
    tensors = [torch.ones(1 << 22) for _ in range(3)]
    del tensors
    living.append(torch.ones(1 << 18))
held = resident() - first
gave = tidied.tidy()
print(held, resident() - first, gave)
"""


def test_keeping_memory_says_whether_it_could(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heap.keep_memory() == GLIBC
    monkeypatch.setattr(heap.platform, "libc_ver", lambda: ("", ""))
    assert not heap.keep_memory()
    assert not heap.give_back()


@pytest.mark.skipif(not GLIBC, reason="glibc's allocator is meant")
def test_pages_that_nothing_lives_in_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    held, left, gave = done.stdout.split()
    assert gave == "True"
    assert int(held) > 70  # 30 MiB live; the three large ones' pages are kept beside them
    assert 25 < int(left) < 45


def test_it_is_given_back_once_in_a_while_and_only_where_it_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    now = [0.0]
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heap, "give_back", lambda: given.append(now[0]) or True)
    monkeypatch.setattr(heap, "keep_memory", lambda: True)
    kept, left = heap.Heap(every=60.0), heap.Heap(keep=False, every=60.0)
    for second in range(200):
        now[0] = float(second)
        kept.tidy()
        left.tidy()
    assert given == [60.0, 120.0, 180.0]
