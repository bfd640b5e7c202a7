"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["bytes_", "count", "flops"]


def count(number: float) -> str:
    """1234567 as '1.235M': four digits and a unit of thousands; below 10,000 the number itself."""
    if abs(number) < 10_000:
        return f"{number:,.0f}"
    units = ("", "k", "M", "B", "T")
    unit = 0
    while abs(number) >= 999.95 and unit < len(units) - 1:
        number /= 1000
        unit += 1
    digits = 1 if abs(number) >= 99.995 else 2 if abs(number) >= 9.9995 else 3
    return f"{number:.{digits}f}{units[unit]}"


def flops(number: float) -> str:
    """2.5e9 as '2.5 GFLOPs'."""
    return _scaled(number, 1000, (" FLOPs", " kFLOPs", " MFLOPs", " GFLOPs", " TFLOPs", " PFLOPs", " EFLOPs"))


def bytes_(number: float) -> str:
    """1536 as '1.5 KiB'."""
    return _scaled(number, 1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB"))


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    unit = 0
    while abs(number) >= base * 0.99995 and unit < len(units) - 1:
        number /= base
        unit += 1
    return f"{number:.4g}{units[unit]}" if number < 1000 else f"{number:,.0f}{units[unit]}"
