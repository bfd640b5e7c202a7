"""What a published family is: how to know it, its configuration both ways, and a table of names.

A family is one `Family` value in a file of its own, and that file computes nothing. To add one: write the file,
name it in `registry.FAMILIES`.

    Row("decoder.blocks.{i}.attention.o", "model.layers.{i}.self_attn.o_proj")

maps a module: its `.weight` and `.bias`, as far as the description has them. A name that is itself a parameter
("head.bias") maps that one. `{i}` runs over layers, `{e}` over experts. Several names on either side need a
transform (`transforms.py`): `Row((q, k, v), "...query_key_value", Grouped(heads))`. Rows of which the description
has nothing are passed over, so one table serves every variant; the same table read backwards is the export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.errors import UserError
from assay.published.config import Config
from assay.published.transforms import SAME, Transform
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

if TYPE_CHECKING:
    from assay.published.ranks import Join

__all__ = ["Assignment", "Family", "Fields", "Given", "Row", "assignments"]

Fields = dict[str, Any]
"""Fields of a `ModelSpec`, or of a published configuration, as plain data."""

LEAVES = ("weight", "bias")


@dataclass(frozen=True)
class Row:
    """One line of a table of names; see the module."""

    ours: str | tuple[str, ...]
    theirs: str | tuple[str, ...]
    by: Transform = SAME


@dataclass(frozen=True)
class Given:
    """What a family's `to_spec` may look at."""

    config: Config
    hint: Mapping[str, Any] = field(default_factory=dict)
    shapes: Callable[[], Mapping[str, tuple[int, ...]]] = dict
    """Names and shapes of the published tensors, read when first asked for; empty where there are no weights."""

    def shape(self, *names: str) -> tuple[int, ...] | None:
        """The shape of the first of these matrices that is there.

        Raises:
            UserError: it is no matrix, or an empty one.
        """
        shapes = self.shapes()
        name = next((name for name in names if name in shapes), None)
        if name is None:
            return None
        if len(shapes[name]) != 2 or not all(shapes[name]):
            raise UserError(
                f"{self.config.place}: beside it tensor {name} has shape {list(shapes[name])}, where a matrix belongs.",
                "Use the configuration that was published with these weights.",
            )
        return shapes[name]


@dataclass(frozen=True)
class Family:
    """A published family, as data."""

    name: str
    """What it is called in messages."""
    to_spec: Callable[[Given], Fields]
    """From a configuration to the fields of a ModelSpec."""
    table: Callable[[ModelSpec], Iterable[Row]]
    """Names on both sides."""
    from_spec: Callable[[ModelSpec], Fields] | None = None
    """Back to a configuration; what it cannot say is found by reading it again. None: no export."""
    model_types: tuple[str, ...] = ()
    """Values of `model_type` that mean it."""
    architectures: tuple[str, ...] = ()
    """Classes in `architectures` that mean it, where there is no model_type; the first is written on export."""
    when: Callable[[Given], bool] | None = None
    """Tells families apart that share a model_type; None: no other does."""
    files: tuple[str, ...] = ("config.json",)
    """The configuration's file."""
    file_alone: bool = False
    """Whether its configuration's file name alone tells it (Meta's params.json)."""
    keys: tuple[str, ...] = ()
    """Tensors that all stand in its weights, to know it by where there is no configuration."""
    prefix: str = ""
    """What raw files leave out at the beginning of every name ("transformer.")."""
    renames: tuple[tuple[str, str], ...] = ()
    """Older spellings: regular expressions and what they become, applied to names in files."""
    extras: tuple[str, ...] = ()
    """Regular expressions for tensors that carry nothing (buffers, copies of tied matrices)."""
    tied: tuple[str, ...] = ()
    """Tensors that may stand in a file though the description ties them to another."""
    copies: Callable[[ModelSpec], Mapping[str, str]] | None = None
    """Further names that an export must hold: copy -> original, both published names."""
    joins: Callable[[Given], Sequence[tuple[str, Join]]] | None = None
    """Files cut over tensor-parallel ranks: by regular expression, how the pieces join. `Given.shapes` are those of
    the first rank's pieces."""
    hints: tuple[str, ...] = ()
    """What a caller may hint at, since no configuration says it."""
    states_before_norm: bool = False
    """Whether the published code's last hidden state is the one before the final norm, and so a loaded model's."""
    transformers: bool = True
    """Whether transformers has a class that loads the export."""


@dataclass(frozen=True)
class Assignment:
    """A row with its numbers filled in: these published tensors are those parameters."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    by: Transform


def assignments(family: Family, spec: ModelSpec) -> list[Assignment]:
    """The whole table for one model, every parameter exactly once."""
    known = {info.name for info in layout(spec)}
    found: list[Assignment] = []
    for row in family.table(spec):
        for numbers in _numbers(row, spec):
            ours = tuple(name.format(**numbers) for name in _tuple(row.ours))
            theirs = tuple(name.format(**numbers) for name in _tuple(row.theirs))
            found.extend(_leaves(ours, theirs, row.by, known))
    taken = [name for assignment in found for name in assignment.ours]
    assert len(taken) == len(set(taken)), f"{family.name}: names a parameter twice"
    missing = sorted(known - set(taken))
    assert not missing, f"{family.name}: has no name for {missing[0]} ({len(missing)} in all)"
    return found


def _numbers(row: Row, spec: ModelSpec) -> Iterator[dict[str, int]]:
    first = _tuple(row.ours)[0]
    if "{i}" not in first:
        yield {}
        return
    experts = spec.feedforward.experts.count if spec.feedforward.experts else 0
    for layer in range(spec.depth("encoder" if first.startswith("encoder.") else "decoder")):
        if "{e}" in first:
            yield from ({"i": layer, "e": expert} for expert in range(experts))
        else:
            yield {"i": layer}


def _leaves(ours: tuple[str, ...], theirs: tuple[str, ...], by: Transform, known: set[str]) -> Iterator[Assignment]:
    if ours[0] in known:
        yield Assignment(ours, theirs, by)
        return
    for leaf in LEAVES:
        if f"{ours[0]}.{leaf}" in known:
            yield Assignment(tuple(f"{n}.{leaf}" for n in ours), tuple(f"{n}.{leaf}" for n in theirs), by)


def _tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
