"""Bytes from the description alone. Live tensor bytes, not the process's (API.md, rules of measure)."""

from __future__ import annotations

from dataclasses import dataclass

from assay.spec.model import ModelSpec

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one element."""


@dataclass(frozen=True)
class StateBytes:
    """What training keeps between steps."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.weights + self.gradients + self.optimizer


def state_bytes(spec: ModelSpec, dtype: str = "float32") -> StateBytes:
    """Weights, gradients and AdamW's two float32 moments (with float32 master weights under a smaller type)."""
    n, size = int(spec.parameters()), BYTES[dtype]
    master = 0 if size >= 4 else 4 * n
    return StateBytes(weights=n * size, gradients=n * size, optimizer=2 * 4 * n + master)


def cache_bytes(spec: ModelSpec, length: int, dtype: str = "float32", *, encoder_length: int = 0) -> int:
    """Bytes of the key-value cache of one sequence; windowed layers keep the window only.

    An encoder-decoder also keeps cross-attention's keys and values of `encoder_length` tokens.
    """
    stack = spec.output_stack
    row = 2 * spec.kv_heads(stack) * spec.head_width(stack) * BYTES[dtype]
    rows = 0
    for layer in range(spec.depth(stack)):
        window = spec.window(layer)
        rows += length if window is None else min(length, window)
        rows += encoder_length if len(spec.stacks) == 2 else 0
    return row * rows
