"""A published configuration as a checked mapping: every wrong value is told with its file and field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.spec.parts import MOST_LAYERS
from assay.spec.plain import parse_json

__all__ = ["Config"]

_REQUIRED: Any = object()

MOST = 10**15
"""Larger than any size; whole numbers up to it are exact in floats too."""


class Config:
    """The fields of a published configuration.

    Getters take several names, since files of different age call one thing differently; the first that is given
    and not null counts. Without a `default` a missing field is the user's mistake.
    """

    def __init__(self, fields: Mapping[str, Any], place: str | Path = "config.json") -> None:
        """Args: fields: the file's content; place: the file, for messages."""
        self.fields, self.place = dict(fields), str(place)

    @classmethod
    def read(cls, path: Path) -> Config:
        """The configuration in a JSON file.

        Raises:
            UserError: the file is not JSON, or holds no object.
        """
        try:
            fields = parse_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as JSON ({error}).", "Download the file again.") from None
        if not isinstance(fields, dict):
            raise UserError(f"{path}: holds a {type(fields).__name__}, where an object with fields belongs.")
        return cls(fields, path)

    def __contains__(self, name: str) -> bool:
        """Whether the field is given, null or not."""
        return name in self.fields

    def raw(self, name: str, default: Any = None) -> Any:
        """A field unchecked; null stays None."""
        return self.fields.get(name, default)

    def integer(self, *names: str, default: Any = _REQUIRED) -> Any:
        """A whole number."""
        return self._of(names, (int,), "a whole number", default)

    def size(self, *names: str, default: Any = _REQUIRED) -> Any:
        """A whole number from 1 up."""
        found = self.integer(*names, default=default)
        if found is not None and found < 1:
            name = next((n for n in names if self.fields.get(n) == found), names[0])
            raise self.fail(name, "a whole number from 1 up belongs here.")
        return found

    def layers(self, *names: str, default: Any = _REQUIRED) -> Any:
        """A depth: a whole number from 1 up, of which lists with an entry a layer may be made."""
        found = self.size(*names, default=default)
        if found is not None and found > MOST_LAYERS:
            name = next((n for n in names if self.fields.get(n) == found), names[0])
            raise self.fail(name, f"more than {MOST_LAYERS:,} layers are not supported.")
        return found

    def classes(self) -> list[str]:
        """The names in `architectures`."""
        found = self.fields.get("architectures") or []
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise self.fail("architectures", "a list of names belongs here.")
        return found

    def number(self, *names: str, default: Any = _REQUIRED) -> Any:
        """A number."""
        return self._of(names, (int, float), "a number", default)

    def flag(self, *names: str, default: Any = _REQUIRED) -> Any:
        """True or false."""
        return self._of(names, (bool,), "true or false", default)

    def text(self, *names: str, default: Any = _REQUIRED) -> Any:
        """A string."""
        return self._of(names, (str,), "a name in quotes", default)

    def fail(self, name: str, why: str, remedy: str | None = None) -> UserError:
        """The error to raise for a field whose value does not work."""
        value = json.dumps(self.fields.get(name), default=str)
        value = value if len(value) <= 200 else f"{value[:200]}..."
        return UserError(f"{self.place}: {name} = {value}: {why}", remedy)

    def _of(self, names: tuple[str, ...], kinds: tuple[type, ...], what: str, default: Any) -> Any:
        for name in names:
            value = self.fields.get(name)
            if value is None:
                continue
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise self.fail(name, f"{what} belongs here.")
            if isinstance(value, int) and abs(value) > MOST:
                raise self.fail(name, "is larger than any that works.")
            if isinstance(value, float) and not math.isfinite(value):
                raise self.fail(name, "is not finite.")
            return value
        if default is _REQUIRED:
            raise UserError(
                f"{self.place}: the field {' or '.join(names)} is missing.",
                "Use the configuration that was published with the weights.",
            )
        return default
