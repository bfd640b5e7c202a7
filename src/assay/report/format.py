"""How numbers are said in reports and tables: short, with units, the same everywhere."""

from __future__ import annotations

import math
from datetime import timedelta

from assay.stats import Interval

DASH = "–"
MINUS = "−"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, thousands separated, no exponent."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def scientific(value: float, digits: int = 3) -> str:
    """3e12 as '3.00 × 10¹²'; numbers from 0.01 to 10,000 as they are."""
    if not math.isfinite(value) or value == 0 or 0.01 <= abs(value) < 10_000:
        return significant(value, digits)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def count(value: float) -> str:
    """A number of things: 1,310,720 as '1.31 M'."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{significant(value / (1e3 if letter == 'k' else size))} {letter}"
    return f"{value:,.0f}"


def memory(value: float) -> str:
    """Bytes in powers of 1,000: '12.3 MB'."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= size:
            return f"{significant(value / size)} {unit}"
    return f"{value:,.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds as people say them: '8 s', '3 min 20 s', '2 h 5 min'."""
    if not math.isfinite(seconds):
        return DASH
    seconds = max(seconds, 0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(int(whole.total_seconds()), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def interval(value: Interval | None, decimals: int = 3) -> str:
    """'2.314 [2.290, 2.338]'; the mean alone where there is no interval; a dash where there is nothing."""
    if value is None:
        return DASH
    if not math.isfinite(value.low) or value.n is None:
        return f"{value.estimate:.{decimals}f}".replace("-", MINUS)
    return f"{value.estimate:.{decimals}f}".replace("-", MINUS) + f" {bounds(value, decimals)}"


def bounds(value: Interval, decimals: int = 3) -> str:
    """'[2.290, 2.338]', or what stands in its place where one repeat says nothing of the spread."""
    if not math.isfinite(value.low):
        return "[no interval: 1 seed]"
    return f"[{value.low:.{decimals}f}, {value.high:.{decimals}f}]".replace("-", MINUS)


def signed(value: float, decimals: int = 3) -> str:
    """'+0.100' or '−0.100'."""
    return f"{value:+.{decimals}f}".replace("-", MINUS)


def listed(words: list[str], last: str = "and") -> str:
    """'a, b and c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
