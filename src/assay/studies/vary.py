"""The axes of a study as one types them: `norm=layer,rms`, values typed by the schema of the field."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from assay.errors import UserError, did_you_mean
from assay.spec.base import Part, part_class
from assay.spec.data import DataSpec
from assay.spec.model import ModelSpec
from assay.spec.objective import ObjectiveSpec
from assay.spec.study import Value
from assay.spec.training import TrainSpec

__all__ = ["axes", "parse_vary"]

ROOMS: dict[str, type[Part]] = {"train": TrainSpec, "objective": ObjectiveSpec, "data": DataSpec}
"""Where axes lie that are no field of the model: `train.batch_size`, `objective.split`, `data.source`."""

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
EXAMPLE = "An axis is written NAME=VALUE,VALUE, such as norm=layer,rms."


def parse_vary(given: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """Axes and their values, for `StudySpec.vary`.

    Args:
        given: one axis each: `norm=layer,rms`, `train.optimizer.learning_rate=1e-3,3e-3`. Names of values are
            brought to their canonical form (`rms` to `rmsnorm`).

    Raises:
        UserError: no such axis (with the nearest), a value that the field does not take, a value or axis twice.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UserError(f"--vary {text!r}: there is no '=' between axis and values.", EXAMPLE)
        if name in found:
            raise UserError(f"--vary {name}: given twice.", f"Write it once: --vary {name}=VALUE,VALUE.")
        field = _field(name)
        parsed = [_value(name, field, part.strip()) for part in values.split(",")]
        twice = [v for i, v in enumerate(parsed) if v in parsed[:i]]
        if twice:
            raise UserError(f"--vary {name}: {twice[0]} is there twice.", "Give each value once.")
        found[name] = tuple(parsed)
    return found


def axes() -> Iterator[str]:
    """Every axis along which a study may vary, by its dotted name."""
    yield from _names(ModelSpec, "")
    for room, cls in ROOMS.items():
        yield from _names(cls, f"{room}.")
    yield "objective"


def _names(cls: type[Part], prefix: str) -> Iterator[str]:
    for name in cls.model_fields:
        if name == "name":
            continue
        part = part_class(cls, name)
        if part is None or part.shorthand is not None:
            yield prefix + name
        if part is not None:
            yield from _names(part, f"{prefix}{name}.")


def _field(name: str) -> Any:
    """The type of an axis's values, as pydantic checks it."""
    head, _, rest = name.partition(".")
    if name == "objective":
        return _annotation(ObjectiveSpec, "kind")
    cls, path = (ROOMS[head], rest) if head in ROOMS and rest else (ModelSpec, name)
    for step in path.split("."):
        if step not in cls.model_fields:
            raise UserError(f"--vary {name}: there is no such axis.", _near(name))
        part = part_class(cls, step)
        if part is None:
            if not path.endswith(step):
                raise UserError(f"--vary {name}: {step} is a single value and has no fields.", _near(name))
            return _annotation(cls, step)
        cls = part
    if cls.shorthand is None:
        fields = ", ".join(f"{name}.{field}" for field in cls.model_fields)
        raise UserError(f"--vary {name}: this is a group of fields.", f"Vary one of them: {fields}.")
    return _annotation(cls, cls.shorthand)


def _near(name: str) -> str:
    known = list(axes())
    last = name.rpartition(".")[2]
    same = [axis for axis in known if axis.rpartition(".")[2] == last]
    if same:
        return f"Did you mean {' or '.join(map(repr, same[:3]))}?"
    return did_you_mean(name, known)


def _annotation(cls: type[Part], name: str) -> Any:
    field = cls.model_fields[name]
    annotation: Any = field.annotation
    for rule in field.metadata:
        annotation = Annotated[annotation, rule]
    return annotation


def _value(name: str, field: Any, text: str) -> Value:
    """One value in the type of its field."""
    if not text:
        raise UserError(f"--vary {name}: a value is empty.", EXAMPLE)
    adapter: TypeAdapter[Any] = TypeAdapter(field)
    if text.lower() in ("none", "null") and _admits_none(field):
        return "none"
    error: ValidationError | None = None
    for candidate in _readings(field, text):
        try:
            value = adapter.validate_python(candidate)
        except ValidationError as wrong:
            error = error or wrong
            continue
        return value.value if isinstance(value, StrEnum) else candidate
    assert error is not None
    members = [kind for kind in _kinds(field) if isinstance(kind, type) and issubclass(kind, StrEnum)]
    if members:
        known = [member.value for kind in members for member in kind]
        raise UserError(f"--vary {name}: {text!r} is not allowed.", f"Allowed: {', '.join(known)}.") from None
    message = error.errors()[0]["msg"]
    raise UserError(f"--vary {name}: {text!r} does not work: {message[:1].lower()}{message[1:]}.") from None


def _readings(field: Any, text: str) -> Iterator[Any]:
    """What a text may mean, in the order of the field's types."""
    kinds = _kinds(field)
    if bool in kinds:
        yield WORDS.get(text.lower(), text)
    if int in kinds or float in kinds:
        for kind in (int, float):
            try:
                number = kind(text.replace("_", ""))
            except ValueError:
                continue
            # 1e3 is a whole number that `int` does not read.
            yield int(number) if int in kinds and float not in kinds and number == number // 1 else number
    yield text


def _kinds(field: Any) -> set[Any]:
    inner = typing.get_args(field)
    if not inner:
        return {field}
    if typing.get_origin(field) is Annotated:
        return _kinds(inner[0])
    return set().union(*(_kinds(part) for part in inner))


def _admits_none(field: Any) -> bool:
    kinds = _kinds(field)
    named = [k for k in kinds if isinstance(k, type) and issubclass(k, StrEnum)]
    return type(None) in kinds and str not in kinds and not any("none" in k.__members__ for k in named)
