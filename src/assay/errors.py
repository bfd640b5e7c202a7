"""The error that a user's mistake raises, and how validation errors become one clear message.

Invariants of the code itself are `assert`s; everything that a user can get wrong (a field, a file, a budget)
is a `UserError`. The command line prints it without a traceback and exits with status 2.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = ["UserError", "did_you_mean", "from_validation"]

#: Longer values are cut in messages: the beginning is enough to find them.
_VALUE_LENGTH = 80

#: A longer message is cut in its middle: a file may hold a name of a megabyte.
_MESSAGE_LENGTH = 4_000

#: Characters of files that are shown as escapes: terminals obey control characters and turn text around at direction
#: marks, and half a surrogate pair cannot be printed at all.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(ValueError):
    """A mistake of the user's, told in one message: the field or file, the value, and what would work.

    Args:
        message: what is wrong, naming the field or file and the value.
        remedy: what would work, as a sentence of its own; it is added to the message.

    Attributes:
        remedy: the remedy alone, or None.
    """

    def __init__(self, message: str, remedy: str | None = None) -> None:
        """See the class."""
        super().__init__(_printable(f"{message.rstrip()} {remedy}" if remedy else message))
        self.remedy = remedy
        self._parts = (message, remedy)

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str | None]]:
        """Pickle from both arguments, so that an error crosses from a worker process unchanged."""
        return type(self), self._parts


def _printable(message: str) -> str:
    """The message as it may go to a terminal, a page or a log, whatever the names in it are."""
    message = _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), message)
    if len(message) <= _MESSAGE_LENGTH:
        return message
    half = _MESSAGE_LENGTH // 2
    return f"{message[:half]} [{len(message) - 2 * half:,} characters left out] {message[-half:]}"


def did_you_mean(name: str, known: Iterable[str], *, at_most: int = 12) -> str:
    """What would work instead of an unknown name.

    Args:
        name: the name that is not known.
        known: the names that are.
        at_most: how many known names are listed when none is close.

    Returns:
        "Did you mean 'x'?" where one is close, else "Known: a, b, c." (empty when nothing is known).
    """
    names, name = list(known), str(name)[:_VALUE_LENGTH]  # no name is longer, and comparing takes the square of it
    folded = {n.lower().replace("-", "_"): n for n in reversed(names)}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), folded, n=2, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(repr(folded[c]) for c in close)}?"
    if not names:
        return ""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return f"Known: {', '.join(names[:at_most])}{more}."


def from_validation(exc: ValidationError, what: str, model: type[BaseModel] | None = None) -> UserError:
    """Turn pydantic's errors into one message: per error the field's path, the value and what would work.

    Args:
        exc: what pydantic raised.
        what: what was being read, as the user knows it ("ModelSpec", "the spec file m.toml").
        model: the pydantic class that refused; with it, unknown fields get a 'did you mean' at any depth.

    Returns:
        The error to raise (`raise from_validation(exc, "m.toml", ModelSpec) from None`).
    """
    lines: list[str] = []
    for error in exc.errors(include_url=False):
        line = _line(error, model)
        if line not in lines:  # a union repeats itself once per member
            lines.append(line)
    if len(lines) == 1:
        return UserError(f"{what}: {lines[0]}")
    return UserError(f"{what}: {len(lines)} fields are wrong.\n" + "\n".join(f"  - {line}" for line in lines))


def _line(error: Any, model: type[BaseModel] | None) -> str:
    """One error as 'path = value: what is wrong. What would work.'."""
    kind, context, value = error["type"], error.get("ctx") or {}, _show(error["input"])
    *parents, field = error["loc"] or ("",)
    steps, owner = _walk(model, parents)
    path = _path([*steps, field])
    if kind == "extra_forbidden":
        hint = did_you_mean(str(field), _names(owner))
        return f"{path}: there is no such field (value {value}). {hint}".rstrip()
    if kind == "missing":
        return f"{path}: this field is required and was not given."
    if kind in ("value_error", "assertion_error"):
        # Our own validators know the remedy; the path is put before it where they do not name it.
        message = str(context.get("error", error["msg"])).strip()
        return message if not path or str(field) in message else f"{path} = {value}: {message}"
    if kind in ("enum", "literal_error"):
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        hint = did_you_mean(error["input"] if isinstance(error["input"], str) else value, allowed)
        close = f" {hint}" if hint.startswith("Did") else ""
        return f"{path} = {value} is not allowed. Allowed: {', '.join(allowed)}.{close}"
    message = str(error["msg"]).rstrip(".")
    return f"{path or 'value'} = {value}: {message[:1].lower()}{message[1:]}."


def _path(location: Sequence[int | str]) -> str:
    """('blocks', 0, 'norm') as blocks[0].norm."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _show(value: object) -> str:
    """The value as the user would write it, cut where it is long."""
    try:
        text = repr(str(value)) if isinstance(value, str) else repr(value)
    except ValueError:  # Python writes no numbers of thousands of digits
        text = f"a {type(value).__name__} of thousands of digits"
    return text if len(text) <= _VALUE_LENGTH else text[: _VALUE_LENGTH - 3] + "..."


def _walk(
    model: type[BaseModel] | None, location: Iterable[int | str]
) -> tuple[list[int | str], type[BaseModel] | None]:
    """Follow a location: the steps that users wrote, and the class they lead to (None: unknown).

    pydantic puts names of union members and of validators among the steps; those are dropped.
    """
    steps: list[int | str] = []
    here: Any = model
    for part in location:
        fields = getattr(here, "model_fields", {})
        if isinstance(part, int) or here is None:
            steps.append(part)
        elif part in fields:
            steps.append(part)
            here = _model_in(fields[part].annotation)
    return steps, here


def _names(model: type[BaseModel] | None) -> list[str]:
    """The names under which the model's fields may be given."""
    if model is None:
        return []
    return list(dict.fromkeys(n for key, field in model.model_fields.items() for n in (key, field.alias) if n))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic class inside an annotation such as `list[X] | None`."""
    if hasattr(annotation, "model_fields"):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
