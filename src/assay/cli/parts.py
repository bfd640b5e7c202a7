"""A model's parameters as a tree of parts, layers of equal shape folded into one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from assay.cli.numbers import count
from assay.spec.model import ModelSpec
from assay.spec.parameters import ParameterInfo, layout

__all__ = ["Node", "lines", "tree"]

Shape = tuple[int, ...]


@dataclass
class Node:
    """A part of the model: a parameter where it has a shape, else the parts that it is made of."""

    name: str
    shape: Shape | None = None
    copies: int = 1
    """How many parts of equal shape this one stands for; sizes are of all of them."""
    parts: dict[str, Node] = field(default_factory=dict)
    own: int = 0

    @property
    def size(self) -> int:
        """Parameters in all copies."""
        return self.copies * (self.own + sum(part.size for part in self.parts.values()))

    @property
    def signature(self) -> object:
        """Equal for parts of equal make."""
        return self.shape, self.copies, tuple((name, part.signature) for name, part in self.parts.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data: dict[str, Any] = {"name": self.name, "parameters": self.size}
        if self.copies > 1:
            data["copies"] = self.copies
        if self.shape is not None:
            data["shape"] = list(self.shape)
        if self.parts:
            data["parts"] = [part.to_dict() for part in self.parts.values()]
        return data


@lru_cache(maxsize=2)
def tree(spec: ModelSpec, *, full: bool = False) -> Node:
    """The parts of a model; neighbouring layers and experts of equal make are folded unless `full`."""
    root = Node(spec.name or f"{spec.family} model")
    for parameter in layout(spec):
        _insert(root, parameter)
    return root if full else _fold(root)


def _insert(root: Node, parameter: ParameterInfo) -> None:
    node = root
    for name in parameter.name.split("."):
        node = node.parts.setdefault(name, Node(name))
    node.shape, node.own = parameter.shape, parameter.size


def _fold(node: Node) -> Node:
    """Runs of numbered parts with equal signatures become one part that says how many."""
    folded: dict[str, Node] = {}
    last: tuple[object, Node, str] | None = None
    for name, part in node.parts.items():
        part = _fold(part)
        if not name.isdigit():
            folded[name] = part
            continue
        signature = (part.shape, tuple((n, p.signature) for n, p in part.parts.items()))
        if last is not None and last[0] == signature:
            last[1].copies += 1
            last[1].name = f"{last[2]}-{name}"
        else:
            folded[name] = part
            last = (signature, part, name)
    return Node(node.name, node.shape, node.copies, {part.name: part for part in folded.values()}, node.own)


def lines(root: Node) -> Iterator[tuple[str, str, int]]:
    """(name behind its guides, shape, parameters) of every line of the drawn tree.

    A part whose only parts are a weight and perhaps a bias is one line, and a list of layers is joined with its
    one entry: `blocks.0-5 x6`. What stands below such a line is one of its layers.
    """
    yield from _lines(root, "", "")


def _lines(node: Node, guide: str, below: str) -> Iterator[tuple[str, str, int]]:
    node, name = _joined(node)
    copies = f" x{node.copies}" if node.copies > 1 else ""
    shape = _leaf_shape(node)
    each = f"each {count(node.size / node.copies)}" if copies else ""
    yield f"{guide}{name}{copies}", shape or each, node.size
    if shape is not None:
        return
    children = list(node.parts.values())
    for child in children:
        last = child is children[-1]
        yield from _lines(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))


def _joined(node: Node) -> tuple[Node, str]:
    """`blocks` with the single entry `0-5` reads as one part, `blocks.0-5`."""
    name = node.name
    while len(node.parts) == 1 and node.copies == 1 and node.shape is None:
        (only,) = node.parts.values()
        if not only.name[:1].isdigit():
            break
        node, name = only, f"{name}.{only.name}"
    return node, name


def _leaf_shape(node: Node) -> str | None:
    """The shape to print where a part is a parameter, or a weight with perhaps a bias; else None."""
    if node.shape is not None:
        return _written(node.shape)
    if not node.parts or not node.parts.keys() <= {"weight", "bias", "alpha"}:
        return None
    weight = node.parts.get("weight")
    first = weight or next(iter(node.parts.values()))
    if first.shape is None:
        return None
    more = "".join(f" + {name}" for name, part in node.parts.items() if part is not first)
    return (_written(first.shape) if weight else first.name) + more


def _written(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "scalar"
