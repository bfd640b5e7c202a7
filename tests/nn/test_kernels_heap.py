"""Freed memory: kept between steps, given back once in a while."""

import subprocess
import sys

import pytest

from assay.nn.kernels import heap

GLIBC = heap.platform.libc_ver()[0] == "glibc"

HOLES = """
import torch
from assay.nn.kernels.heap import Heap, resident

tidied, living = Heap(every=0.0), []
tidied.keep()
tidied.tidy()
first = resident()
for _ in range(30):  # a large tensor is freed, and something small comes to lie in its place
    tensors = [torch.ones(1 << 22) for _ in range(3)]
    del tensors
    living.append(torch.ones(1 << 18))
held = resident() - first >> 20  # MiB
gave = tidied.tidy()
print(held, resident() - first >> 20, gave)
"""


def test_keeping_memory_says_whether_it_could(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heap.keep_memory() == GLIBC
    monkeypatch.setattr(heap, "_glibc", lambda: False)
    assert not heap.keep_memory()
    assert not heap.give_back()


@pytest.mark.skipif(not GLIBC, reason="glibc's allocator is meant")
def test_pages_that_nothing_lives_in_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    held, left, gave = done.stdout.split()
    assert gave == "True"
    assert int(held) > 70  # 30 MiB live; the three large ones' pages are kept beside them
    assert 25 < int(left) < 45


def test_it_is_given_back_where_the_process_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    now, size, given = [0.0], [1000], []
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heap, "resident", lambda: size[0])
    monkeypatch.setattr(heap, "keep_memory", lambda: True)

    def give_back() -> bool:
        given.append(now[0])
        size[0] = 900
        now[0] += 0.11  # so it may be done again after 11 s
        return True

    monkeypatch.setattr(heap, "give_back", give_back)
    kept, left = heap.Heap(every=5.0), heap.Heap(every=5.0)
    kept.keep()
    for second in range(40):
        now[0] = float(second)
        size[0] += {3: 20, 4: 100, 9: 50, 18: 5}.get(second, 0)  # 0.5 % at 18 s is no growth
        kept.tidy()
    assert given == [5.0, 17.0]
    for grown in (900, 5000):  # another that nobody asked to keep
        size[0], now[0] = grown, now[0] + 60
        left.tidy()
    assert given == [5.0, 17.0]


def test_a_step_that_leaves_more_is_not_the_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    now, size, given = [0.0], [1000], []
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heap, "resident", lambda: size[0])
    monkeypatch.setattr(heap, "keep_memory", lambda: True)
    monkeypatch.setattr(heap, "give_back", lambda: given.append(now[0]) or True)
    kept = heap.Heap(every=1.0)
    kept.keep()
    sizes = [1000, 1000, 1050, 1050, 1050, 1000, 1000, 1000]  # what is found; the third asks for it, and it helps late
    for second, size[0] in enumerate(sizes):
        now[0] = 2.0 * second
        kept.tidy()
    assert given == [4.0, 6.0, 8.0]
    for second in range(len(sizes), len(sizes) + 2 * heap.Heap.LAST):  # a larger model: what it needs is the measure
        now[0], size[0] = 2.0 * second, 5000
        kept.tidy()
    assert heap.Heap.LAST <= len(given) < heap.Heap.LAST + 6


def test_a_process_knows_its_size() -> None:
    assert heap.resident() > 1 << 20 or not GLIBC
