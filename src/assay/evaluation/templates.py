"""Templates: from a row of columns to a prompt and an answer.

`{column}` stands for the row's value, `{{` and `}}` for braces.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assay.errors import UserError, did_you_mean

__all__ = ["LABELLED", "PROMPTED", "Template", "close_name"]


@dataclass(frozen=True)
class Template:
    """How a row becomes text."""

    prompt: str
    """What the model is given."""
    answer: str
    """What it is to say; begins with the space or line break that separates it from the prompt."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What a value of the answer's column is called, such as {"0": "negative"}; others keep their own."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns that it reads, in order.

        Raises:
            UserError: braces that do not close, or a field without a name.
        """
        found: list[str] = []
        for name, text in (("prompt", self.prompt), ("answer", self.answer)):
            found += [f for f in _fields(text, name) if f not in found]
        return tuple(found)

    def check(self, columns: Sequence[str], source: str) -> None:
        """Refuse a template that does not fit a table.

        Raises:
            UserError: a field that is no column, or a prompt or an answer without any field.
        """
        for name, text in (("prompt", self.prompt), ("answer", self.answer)):
            fields = _fields(text, name)
            if not fields:
                raise UserError(
                    f"template {name} = {text!r}: it names no field, so every {name} would be the same.",
                    f"Put a column in braces, such as {{{columns[0] if columns else 'text'}}}.",
                )
            for field_name in fields:
                if field_name not in columns:
                    hint = close_name(field_name, columns)
                    raise UserError(
                        f"template {name} = {text!r}: {source} has no column {field_name!r}.{hint}",
                        f"Columns: {', '.join(columns)}.",
                    )

    def prompt_of(self, row: Mapping[str, object]) -> str:
        """The row's prompt."""
        return self.prompt.format_map({name: str(value) for name, value in row.items()})

    def answer_of(self, row: Mapping[str, object]) -> str:
        """The row's answer."""
        named = {name: self.names.get(str(value), str(value)) for name, value in row.items()}
        return self.answer.format_map(named)


LABELLED = Template("{text}\nLabel:", " {label}")
"""For a text and a label."""
PROMPTED = Template("{prompt}", "{answer}")
"""For a prompt and an answer, as they are."""


def close_name(name: str, columns: Sequence[str]) -> str:
    """A hint where a column has nearly that name, with a space before it; the columns themselves are told apart."""
    hint = did_you_mean(name, columns)
    return f" {hint}" if hint.startswith("Did") else ""


def _fields(text: str, name: str) -> list[str]:
    try:
        parts = [part for _, part, _, _ in string.Formatter().parse(text)]
    except ValueError as error:
        raise UserError(f"template {name} = {text!r}: {error}.", "Write {{ and }} for braces that are text.") from None
    fields = [part for part in parts if part is not None]
    wrong = next((part for part in fields if not part.isidentifier()), None)
    if wrong is not None:
        raise UserError(
            f"template {name} = {text!r}: {{{wrong}}} names no column.",
            "Put a column's plain name in braces, and write {{ and }} for braces that are text.",
        )
    return fields
