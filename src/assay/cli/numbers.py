"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["count", "flops"]


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
    units = (" FLOPs", " kFLOPs", " MFLOPs", " GFLOPs", " TFLOPs", " PFLOPs", " EFLOPs")
    unit = 0
    while abs(number) >= 999.95 and unit < len(units) - 1:
        number /= 1000
        unit += 1
    return f"{number:.4g}{units[unit]}"
