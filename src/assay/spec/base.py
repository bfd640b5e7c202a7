"""The ground of every description: frozen, validated data that prints, hashes, compares and round-trips."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from assay.errors import UserError, from_validation
from assay.spec.plain import parse_json, parse_toml


class Part(BaseModel):
    """One group of fields of a description.

    A part whose class names a `shorthand` field may be written as that field's value alone: `norm = "rmsnorm"`
    means `norm = {kind = "rmsnorm"}`. Unknown fields and impossible values raise `UserError` where a user gave
    them (`from_dict`, `from_toml`, `from_json`, `with_`), pydantic's own error inside Python constructors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=False)

    shorthand: ClassVar[str | None] = None
    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came when hashes were in use already: at their default a hash leaves them out, and stays."""
    neutral: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how a thing is done and not what it is: no hash holds them, whatever their value, neither this
    part's own nor that of what it is a part of (`Described.unhashed` is for the own alone)."""

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthand(cls, value: Any) -> Any:
        if cls.shorthand is not None and isinstance(value, str | int | float) and not isinstance(value, bool):
            return {cls.shorthand: value}
        return value


class Described(Part):
    """A whole description, the kind that lives in a file: a model, a run, a study."""

    unhashed: ClassVar[frozenset[str]] = frozenset({"name"})

    @classmethod
    def from_dict(cls, fields: dict[str, Any], *, source: str | None = None) -> Self:
        """Validated description from plain data.

        Raises:
            UserError: naming the field, its value and what would work; `source` is named as the place.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise from_validation(error, source or cls.__name__, model=cls) from None

    @classmethod
    def from_toml(cls, text_or_path: str | Path) -> Self:
        """Description from TOML text, or from a file where a path is given.

        Raises:
            UserError: the text is not TOML, or a field is wrong.
        """
        text, source = _read(text_or_path, ".toml")
        try:
            fields = parse_toml(text)
        except ValueError as error:
            raise UserError(f"{source}: not valid TOML: {error}. Mend the line named.") from None
        return cls.from_dict(fields, source=source)

    @classmethod
    def from_json(cls, text_or_path: str | Path) -> Self:
        """Description from JSON text, or from a file where a path is given.

        Raises:
            UserError: the text is not JSON, or a field is wrong.
        """
        text, source = _read(text_or_path, ".json")
        try:
            fields = parse_json(text)
        except ValueError as error:
            raise UserError(f"{source}: not valid JSON: {error}. Mend the place named.") from None
        if not isinstance(fields, dict):
            raise UserError(f"{source}: holds a {type(fields).__name__}, where an object with fields belongs.")
        return cls.from_dict(fields, source=source)

    def to_dict(self, *, full: bool = False) -> dict[str, Any]:
        """Plain data: the fields that differ from their defaults, or all of them when `full`."""
        return self.model_dump(mode="json", exclude_defaults=not full)

    def to_json(self, *, full: bool = False) -> str:
        """JSON text that `from_json` reads back to an equal description."""
        return json.dumps(self.to_dict(full=full), indent=2, ensure_ascii=False) + "\n"

    def to_toml(self, *, full: bool = False) -> str:
        """TOML text that `from_toml` reads back to an equal description (a missing field means its default)."""
        import tomli_w

        return tomli_w.dumps(_without_none(self.to_dict(full=full)))

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over every field that matters: equal descriptions have equal hashes."""
        canonical = json.dumps(self._hashed(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def _hashed(self) -> dict[str, Any]:
        """The fields that matter to the hash, as plain data."""
        return _without_later(self, self.model_dump(mode="json", exclude=set(self.unhashed)))

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON schema with a description under every field."""
        return cls.model_json_schema()

    def with_(self, **changes: Any) -> Self:
        """A copy with fields changed; dotted names reach into parts, a part's name alone sets its shorthand.

        `spec.with_(norm="layernorm", **{"positions.theta": 5e5})`. All rules are checked anew.

        Raises:
            UserError: an unknown field, or a combination that cannot work.
        """
        fields = self.model_dump(mode="json", exclude_unset=False)
        for path, value in changes.items():
            set_path(type(self), fields, path, value)
        return type(self).from_dict(fields)


def _without_later(part: Part, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a part as plain data, in place without those that came later and say nothing, or never count."""
    for name in list(fields):
        value = getattr(part, name)
        if name in part.neutral or (name in part.later and value == type(part).model_fields[name].default):
            del fields[name]
        elif isinstance(value, Part):
            _without_later(value, fields[name])
    return fields


def set_path(cls: type[Part], fields: dict[str, Any], path: str, value: Any, *, whole: str | None = None) -> None:
    """Set a dotted field in plain data, in place; a string or number for a part sets the part's shorthand.

    `whole` is the path as the user wrote it, for messages, where `path` is the rest of it.

    Raises:
        UserError: no such field, with the nearest name.
    """
    head, _, rest = path.partition(".")
    if head not in cls.model_fields:
        raise UserError(_unknown(whole or path, head, cls))
    part = part_class(cls, head)
    if part is None:
        if rest:
            raise UserError(f"{whole or path}: {head} is a single value and has no fields of its own.")
        fields[head] = None if value == "none" and admits_none(cls, head) else value
        return
    if rest:
        inner = fields.get(head)
        inner = dict(inner) if isinstance(inner, dict) else ({part.shorthand: inner} if inner is not None else {})
        set_path(part, inner, rest, value, whole=whole or path)
        fields[head] = inner
    elif part.shorthand is not None and isinstance(fields.get(head), dict) and not isinstance(value, dict):
        fields[head] = {**fields[head], part.shorthand: value}
    else:
        fields[head] = value


def admits_none(cls: type[Part], field: str) -> bool:
    """Whether "none", which TOML and command lines write for want of a null, means None in a field.

    It does where the field may be None and has no value of its own that is called none.
    """
    import typing
    from enum import Enum

    kinds = typing.get_args(cls.model_fields[field].annotation)
    named = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    return type(None) in kinds and str not in kinds and not any("none" in kind.__members__ for kind in named)


def part_class(cls: type[Part], field: str) -> type[Part] | None:
    """The part a field holds (`T` in `T` or `T | None`), or None for a plain value."""
    import typing

    annotation = cls.model_fields[field].annotation
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Part):
            return candidate
    return None


def _unknown(path: str, head: str, cls: type[Part]) -> str:
    import difflib

    near = difflib.get_close_matches(head, cls.model_fields, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{path}: no such field.{hint} Fields here: {', '.join(sorted(cls.model_fields))}."


def _read(text_or_path: str | Path, suffix: str) -> tuple[str, str]:
    is_path = isinstance(text_or_path, Path) or (
        "\n" not in text_or_path and text_or_path.endswith(suffix) and "{" not in text_or_path
    )
    if not is_path:
        return str(text_or_path), "the text given"
    path = Path(text_or_path)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}).") from None


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
