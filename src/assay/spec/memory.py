"""Bytes from the description alone. Live tensor bytes, not the process's (API.md, rules of measure)."""

from __future__ import annotations

from dataclasses import dataclass

from assay.spec.axes import Activation, Placement, QKNorm
from assay.spec.model import ModelSpec, StackName

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


LOSS_ELEMENTS = 2**22
"""Logits that the loss holds at once on a CPU; on an accelerator 16 times as many, half a GB at most (`nn/loss.py`)."""
GRAIN = 64
"""Its rows come in multiples of so many (`nn/loss.py` says why)."""


def loss_rows(targets: int) -> int:
    """Rows that the loss of so many targets has: the next multiple of `GRAIN`."""
    return -(-targets // GRAIN) * GRAIN


@dataclass(frozen=True)
class StepBytes:
    """Live tensor bytes at the peak of one forward and backward pass, weights and optimizer state apart."""

    saved: int
    """What all layers keep for the backward pass (with checkpointing, each layer's input)."""
    layer: int
    """What the largest layer alone keeps while its backward pass runs, gradients on their way included."""
    loss: int
    """The loss: a chunk of logits twice, and its gradients, made in the forward pass."""
    gradients: int
    """Of all weights, which the backward pass builds while it sets activations free."""

    @property
    def peak(self) -> int:
        """The larger of two moments: the end of the forward pass, and the end of the backward pass."""
        return max(self.saved + self.loss, self.gradients + self.layer)


def step_bytes(
    spec: ModelSpec,
    batch: int,
    length: int,
    *,
    decoder_length: int | None = None,
    checkpointing: bool = False,
    dtype: str = "float32",
) -> StepBytes:
    """Predict an eager training step's memory from what autograd saves; within a tenth of what is measured.

    Per token and layer, each tensor once: the input of every norm with two statistics, what enters the projections,
    queries, keys, values, attention's output and its log-sum-exp, and of the feed-forward what its activation, its
    product and its last matrix read (`saved_elements`). Dropout, soft-caps, PB-relax, mixtures of experts and
    autocast keep more, which is not counted; compiled blocks keep less.

    Args:
        spec: the model.
        batch, length: rows and tokens a row (of the encoder, in an encoder-decoder).
        decoder_length: tokens a row of the decoder in an encoder-decoder; None: as `length`.
        checkpointing: keep layers' inputs alone and compute the rest again.
        dtype: of weights and activations.
    """
    size = BYTES[dtype]
    tokens = {stack: batch * length for stack in spec.stacks}
    if len(spec.stacks) == 2:
        tokens["decoder"] = batch * (decoder_length or length)
    memory = tokens["encoder"] if len(spec.stacks) == 2 else 0
    dual = spec.placement.kind is Placement.residual
    saved = largest = 0
    for stack, number in tokens.items():
        layer = saved_elements(spec, stack, number, memory if stack == "decoder" else 0, dtype=dtype)
        kept = number * spec.width * (2 if dual else 1)
        saved += spec.depth(stack) * (kept if checkpointing else layer) + number * spec.width
        # On top, gradients on their way: of an inner tensor, of the stream and of the sum (ResiDual: of both streams).
        passing = spec.feedforward_width(stack) + spec.width * (8 if dual else 2)
        largest = max(largest, layer + number * passing)
    out = tokens[spec.output_stack]
    rows = min(loss_rows(out), max(LOSS_ELEMENTS // spec.vocab_size, 256))
    loss = 2 * rows * spec.vocab_size + out * spec.width + spec.vocab_size * spec.width
    return StepBytes(saved * size, largest * size, loss * size, int(spec.parameters()) * size)


def saved_elements(spec: ModelSpec, stack: StackName, tokens: int, memory: int = 0, *, dtype: str) -> int:
    """Elements that one layer keeps for its backward pass, run eagerly.

    Args:
        spec, stack: which layer.
        tokens: of the whole batch, in this stack.
        memory: tokens of the encoder's output, where the layer looks at it.
        dtype: of activations.
    """
    from assay.spec.placement import SublayerKind, block_plan

    width, heads = spec.width, spec.heads(stack)
    queries, keys = heads * spec.head_width(stack), spec.kv_heads(stack) * spec.head_width(stack)
    total = 0
    for step in block_plan(spec, stack, spec.depth(stack) - 1).steps:
        norms = step.before.norm + sum(sub.before.norm for sub in step.sublayers)
        # The stream, read by norms or projections; what each norm gives to projections; the sum before `after`.
        total += tokens * (width * (1 + norms + step.after.norm) + 2 * (norms + step.after.norm))
        for sub in step.sublayers:
            total += tokens * (width + 2) * sub.out.norm
            if sub.kind is SublayerKind.feedforward:
                inner = spec.feedforward_width(stack)
                total += tokens * (inner * feedforward_tensors(spec, dtype) + (inner + 2) * sub.inner.norm)
                continue
            source = memory if sub.kind is SublayerKind.cross_attention else tokens
            total += tokens * (2 * queries + heads) + source * 2 * keys + tokens * (queries + 2) * sub.inner.norm
            if spec.attention.qk_norm is not QKNorm.none:
                per_head = spec.attention.qk_norm is QKNorm.head
                total += tokens * (queries + 2 * (heads if per_head else 1))
                total += source * (keys + 2 * (spec.kv_heads(stack) if per_head else 1))
    return total + tokens * width * (spec.placement.kind is Placement.residual)


def feedforward_tensors(spec: ModelSpec, dtype: str) -> int:
    """Tensors of the inner width that the backward pass reads; ReLU needs its output alone.

    SwiGLU in float32 computes silu(gate) again (`nn.kernels.gated`, on a CPU); torch's operators keep it.
    """
    activation = spec.feedforward.activation
    if not spec.feedforward.gated:
        return 2 - (activation is Activation.relu)
    return 4 - (activation is Activation.relu or (activation is Activation.silu and dtype == "float32"))
