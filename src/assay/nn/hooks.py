"""Named hook points, for instruments that look and change nothing.

A tap is handed to the forward pass and called at every point it wants; without one the points cost nothing.
Names: `encoder.` or `decoder.`, then `embedding`, `final`, or `blocks.<i>.` with

    in, out                                         the stream [B, S, width]
    attention.q, .k, .v                             after norm and rotation [B, heads, S, head width]
    attention.scores                                before the mask [B, heads, Q, K]
    attention.pattern                               after softmax [B, heads, Q, K]
    attention.out, cross_attention.out, feedforward.out     what the sublayer adds [B, S, width]
    feedforward.inner                               [B, S, inner width]

and `logits`. Asking for scores or patterns takes the explicit attention path instead of the fused one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class Tap(Protocol):
    """What the forward pass calls at its hook points."""

    def wants(self, name: str) -> bool:
        """Whether the point is of interest."""
        ...

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """The value to go on with: the same one, unless the tap means to change it."""
        ...


class Scope:
    """A tap that names its points under a prefix."""

    def __init__(self, tap: Tap, prefix: str) -> None:
        """Args: tap: where calls go; prefix: put before every name, with a dot."""
        self.tap, self.prefix = tap, prefix

    def wants(self, name: str) -> bool:
        """Whether the point under the prefix is of interest."""
        return self.tap.wants(f"{self.prefix}.{name}")

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Pass the value on under the prefixed name."""
        return self.tap(f"{self.prefix}.{name}", value)


class Record:
    """A tap that keeps what it sees: `record.values[name]`, detached unless `grad`."""

    def __init__(self, wanted: Callable[[str], bool], *, grad: bool = False) -> None:
        """Args: wanted: names to keep; grad: keep tensors in the graph, with their gradients retained."""
        self.wanted, self.grad = wanted, grad
        self.values: dict[str, Tensor] = {}

    def wants(self, name: str) -> bool:
        """As `wanted` says."""
        return self.wanted(name)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Keep the value under its name and hand it back unchanged."""
        if self.grad and value.requires_grad:
            value.retain_grad()
        self.values[name] = value if self.grad else value.detach()
        return value


def scoped(tap: Tap | None, prefix: str) -> Tap | None:
    """The tap under a prefix, or None where there is none."""
    return None if tap is None else Scope(tap, prefix)


def touch(tap: Tap | None, name: str, value: Tensor) -> Tensor:
    """The value after the tap has seen it, if there is one and it wants it."""
    return value if tap is None or not tap.wants(name) else tap(name, value)
