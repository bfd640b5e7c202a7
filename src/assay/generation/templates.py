"""Chat templates: programs that come with a checkpoint, run where they can reach nothing and not grow without end.

jinja2's sandbox keeps them from Python's insides and from files. What it allows could still fill the memory
(`'a' * 10**10`), so products, powers, ranges and the text itself are bounded here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from typing import Any

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from assay.errors import UserError

__all__ = ["render"]

LONGEST = 10_000_000
"""Characters of a rendered conversation, items of what `*` makes."""
STEPS = 1_000_000
"""Steps of all ranges together."""
RAISED = (
    TemplateError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    MemoryError,
)
"""What a template's own operations raise where they do not go together: jinja2 passes Python's errors on."""


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        self._steps = 0
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _refuse, "strftime_now": _now, "range": self._range}
        self.filters["tojson"] = _to_json
        self.filters |= {name: _bounded(self.filters[name]) for name in ("center", "indent", "wordwrap", "batch")}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`*`, `**` and `%` of sizes that a conversation needs."""
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                if isinstance(items, Sequence) and isinstance(times, int) and len(items) * times > LONGEST:
                    raise SecurityError(f"a product of more than {LONGEST:,} items")
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if numbers and not (_small(left, right) if operator == "**" else max(abs(left), abs(right)) < 1e200):
            raise SecurityError("a number of thousands of digits")
        if operator == "%" and isinstance(left, str) and any(len(digits) > 6 for digits in _digits(left)):
            raise SecurityError(f"a text of more than {LONGEST:,} characters")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Calls whose numbers are no widths of texts without end (`'a'.center(10**10)`)."""
        _check_widths(*args, *kwargs.values())
        return super().call(context, method, *args, **kwargs)

    def _range(self, *bounds: int) -> range:
        found = range(*bounds)
        self._steps += len(found)
        if self._steps > STEPS:
            raise SecurityError(f"ranges of more than {STEPS:,} steps")
        return found


def render(template: str, variables: dict[str, Any]) -> str:
    """The text that a template makes.

    Raises:
        UserError: it is no template, refuses, fails, reaches for what it must not, or makes too much.
    """
    parts: list[str] = []
    length = 0
    try:
        for part in _Sandbox().from_string(template).generate(**variables):
            parts.append(part)
            length += len(part)
            if length > LONGEST:
                raise SecurityError(f"more than {LONGEST:,} characters")
    except RAISED as error:
        told = str(error) or type(error).__name__
        raise UserError(f"messages: the model's chat template cannot render them: {told}.") from None
    return "".join(parts)


def _small(left: float, right: float) -> bool:
    """Whether a power stays within thousands of digits."""
    return abs(left) < 1e20 and abs(right) <= 100


def _digits(text: str) -> list[str]:
    """The runs of digits in a text."""
    return "".join(c if c.isdigit() else " " for c in text).split()


def _check_widths(*values: Any) -> None:
    if any(isinstance(value, int) and abs(value) > LONGEST for value in values):
        raise SecurityError(f"a width of more than {LONGEST:,}")


def _bounded(filter: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_widths(*args, *kwargs.values())
        return filter(*args, **kwargs)

    return checked


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **how)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
