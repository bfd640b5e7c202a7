"""What one sequence costs, whoever computes it: products, bytes that are moved, bytes that are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from assay.errors import UserError
from assay.spec.activations import activation_bytes, layer_bytes
from assay.spec.axes import Family, Placement
from assay.spec.memory import BYTES
from assay.spec.model import ModelSpec
from assay.spec.placement import block_plan
from assay.spec.plan.units import Model, model_units

__all__ = ["Workload", "workload"]


@dataclass(frozen=True)
class Workload:
    """A model trained on sequences of one length, in one type."""

    spec: ModelSpec
    length: int
    """Tokens of a sequence (of the encoder, in an encoder-decoder)."""
    decoder_length: int | None
    dtype: str
    """Of products, activations and gathered weights; weights at rest are at least float32."""
    reduce_dtype: str
    """Of gradients on the wire."""
    known: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was counted already: a search asks for the same numbers thousands of times."""

    @property
    def size(self) -> int:
        """Bytes of an activation and of a gathered weight."""
        return BYTES[self.dtype]

    @property
    def rest(self) -> int:
        """Bytes of a weight, a gradient and a moment at rest under FSDP."""
        return max(4, self.size)

    @property
    def reduced(self) -> int:
        """Bytes of a gradient on the wire."""
        return BYTES[self.reduce_dtype]

    @property
    def tokens(self) -> int:
        """Of one sequence, in all stacks."""
        return self.length + (self.decoder_length or 0)

    @cached_property
    def _parts(self) -> dict[str, float]:
        return self.spec.flops(self.length, decoder_length=self.decoder_length).parts

    @cached_property
    def depth(self) -> int:
        """Blocks of all stacks."""
        return sum(self.spec.depth(stack) for stack in self.spec.stacks)

    @cached_property
    def block_flops(self) -> float:
        """Forward FLOPs of one sequence in an average block's weight matrices."""
        return sum(value for part, value in self._parts.items() if part not in ("head", "pairs")) / self.depth

    @cached_property
    def pair_flops(self) -> float:
        """Forward FLOPs of one sequence in an average block's products of queries, keys and values."""
        return self._parts.get("pairs", 0.0) / self.depth

    @cached_property
    def head_flops(self) -> float:
        """Forward FLOPs of one sequence in the head."""
        return self._parts.get("head", 0.0)

    @cached_property
    def head_elements(self) -> int:
        """Of the output matrix, tied or not."""
        return self.spec.vocab_size * self.spec.width if self.head_flops else 0

    @cached_property
    def training_flops(self) -> float:
        """Of one sequence, recomputation not counted."""
        return 3 * ((self.block_flops + self.pair_flops) * self.depth + self.head_flops)

    @cached_property
    def block_saved(self) -> float:
        """Bytes that an average block keeps of one sequence for its backward pass."""
        total = 0.0
        for stack in self.spec.stacks:
            tokens = self._tokens(stack)
            total += self.spec.depth(stack) * tokens * layer_bytes(
                self.spec, stack, self.dtype, memory=self.length / tokens
            )  # fmt: skip
        return total / self.depth

    @cached_property
    def block_input(self) -> float:
        """Bytes of what enters an average block with one sequence, which is all that checkpointing keeps of it."""
        streams = 2 if self.spec.placement.kind is Placement.residual else 1
        total = sum(self.spec.depth(stack) * self._tokens(stack) for stack in self.spec.stacks)
        return streams * total * self.spec.width * self.size / self.depth

    @cached_property
    def widened(self) -> float:
        """Bytes more that an average block keeps of one sequence in assay's own training under a 16-bit type.

        Autocast leaves the residual stream in float32, so what norms read and give is kept in it.
        """
        total = 0.0
        for stack in self.spec.stacks:
            plan = block_plan(self.spec, stack, self.spec.depth(stack) - 1)
            norms = sum(
                step.before.norm + step.after.norm + sum(sub.before.norm + sub.out.norm for sub in step.sublayers)
                for step in plan.steps
            )
            total += self.spec.depth(stack) * self._tokens(stack) * 2 * norms
        return total * self.spec.width * (self.rest - self.size) / self.depth

    @cached_property
    def stream(self) -> float:
        """Bytes of the residual stream of one sequence, in the longer stack."""
        return max(self._tokens(stack) for stack in self.spec.stacks) * self.spec.width * self.size

    @cached_property
    def logits(self) -> float:
        """Bytes of one sequence's float32 logits."""
        return 4.0 * self._tokens(self.spec.output_stack) * self.spec.vocab_size if self.head_flops else 0.0

    @cached_property
    def sums(self) -> int:
        """Sums over tensor-parallel ranks in a block's forward pass: one for each residual step."""
        stack = self.spec.output_stack
        return len(block_plan(self.spec, stack, self.spec.depth(stack) - 1).steps)

    def beside_blocks(self, sequences: int, checkpointing: bool) -> float:
        """Bytes kept at the peak beyond what blocks keep: head, loss, and a block that is computed again."""
        key = sequences, checkpointing
        if key not in self.known:
            whole = activation_bytes(
                self.spec, self.length, sequences, self.dtype, decoder_length=self.decoder_length,
                checkpointing=checkpointing,
            )  # fmt: skip
            kept = self.block_input if checkpointing else self.block_saved
            self.known[key] = whole - self.depth * sequences * kept
        return float(self.known[key])

    def units(self, tensor: int) -> Model:
        """What travels together, on one of `tensor` tensor-parallel ranks."""
        if tensor not in self.known:
            self.known[tensor] = model_units(self.spec, tensor)
        found: Model = self.known[tensor]
        return found

    def _tokens(self, stack: str) -> int:
        return self.decoder_length or self.length if stack == "decoder" else self.length


def workload(
    spec: ModelSpec,
    *,
    length: int | None = None,
    decoder_length: int | None = None,
    dtype: str = "bfloat16",
    reduce_dtype: str = "float32",
) -> Workload:
    """The workload, defaults filled in: the model's context, and a quarter of it for a decoder behind an encoder.

    Raises:
        UserError: a length or type that cannot be.
    """
    length = spec.context if length is None else length
    if length < 1:
        raise UserError(f"--length {length}: a sequence has at least one token.", "Give 1 or more.")
    two = spec.family is Family.encoder_decoder
    if decoder_length is not None and not two:
        raise UserError(f"--decoder-length {decoder_length}: family {spec.family} has one stack.", "Leave it out.")
    if two:
        decoder_length = decoder_length or max(length // 4, 1)
    for name, kind in (("--dtype", dtype), ("--reduce-dtype", reduce_dtype)):
        if kind not in BYTES:
            raise UserError(f"{name} {kind}: is no type of weights.", f"Give one of {', '.join(BYTES)}.")
    return Workload(spec, length, decoder_length, dtype, reduce_dtype)
