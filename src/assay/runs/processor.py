"""What the system says of its processor: name, maker, instruction sets. Linux tells it in /proc/cpuinfo."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

__all__ = ["features", "is_intel", "maker", "name"]

_CPUINFO = Path("/proc/cpuinfo")


def name() -> str:
    """The model's name as the system has it; the architecture (`x86_64`) where it says no more."""
    told = _told()
    return next((told[key] for key in ("model name", "hardware", "cpu model") if told.get(key)), _platform())


def maker() -> str:
    """The vendor as the processor itself gives it, such as `GenuineIntel` or `AuthenticAMD`; empty where unknown."""
    if vendor := _told().get("vendor_id"):
        return vendor
    return next((word.strip(",") for word in platform.processor().split() if word.startswith(("Genuine", "Auth"))), "")


def is_intel() -> bool:
    """Whether the maker is Intel, on whose processors other products and lengths were the quicker ones than on AMD's."""
    return maker() == "GenuineIntel"


def features() -> frozenset[str]:
    """Instruction sets by the system's names (`avx2`, `asimd`); empty where it names none."""
    told = _told()
    return frozenset((told.get("flags") or told.get("features") or "").split())


@cache
def _told() -> dict[str, str]:
    """The first processor's lines, by key in lower case; the whole board's (`Hardware` on ARM) with them."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    told: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        told.setdefault(key.strip().lower(), " ".join(value.split()))
    return told


def _platform() -> str:
    return platform.processor() or platform.machine()
