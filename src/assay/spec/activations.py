"""Activation memory of a training step by a stated formula: what the backward pass must find again.

For every token and layer, in elements of the training type, with fused attention (no table of scores is kept):

    norms          each slot's input and output            2 width a slot
    attention      q, k, v, the mix                        2 heads x head width + 2 key-value heads x head width
    feed-forward   gated: gate, up, act(gate), product     4 inner    (not gated: up, act(up): 2 inner)
    sums           each sublayer's output                  width
    router         probabilities                           experts

plus the fused kernel's float32 log-sum-exp for each head, and once the embedding and the last norm. The head keeps one
chunk of float32 logits with its gradient. With checkpointing only each layer's input is kept, and one layer's
activations while it is recomputed.

Source: the way of counting is Korthikanti et al. 2022 (section 4), whose 34 s b h bytes a layer belong to GPT's block
with dropout masks and, 5 a s^2 b more, scores that are kept; the terms here are of this package's own block.
"""

from __future__ import annotations

from assay.spec.memory import BYTES
from assay.spec.model import ModelSpec, StackName
from assay.spec.placement import SublayerKind, block_plan, has_final_norm

__all__ = ["activation_bytes", "head_bytes", "layer_bytes"]

CHUNK = 2**22
"""Logits that exist at the same time (`nn/loss.py`)."""


def head_bytes(spec: ModelSpec, targets: int) -> int:
    """Bytes of one chunk of float32 logits and of what is computed from it."""
    return 2 * 4 * min(targets * spec.vocab_size, max(CHUNK, 16 * spec.vocab_size))


def layer_bytes(spec: ModelSpec, stack: StackName, dtype: str = "bfloat16") -> float:
    """Bytes that one token's pass through one layer keeps for the backward pass (of mixtures, the active experts')."""
    width, size = spec.width, BYTES[dtype]
    queries = spec.heads(stack) * spec.head_width(stack)
    keys = spec.kv_heads(stack) * spec.head_width(stack)
    inner, experts = spec.feedforward_width(stack), spec.feedforward.experts
    elements, exact = 0.0, 0.0
    for step in block_plan(spec, stack, 0).steps:
        elements += 2 * width * (step.before.norm + step.after.norm)
        for sub in step.sublayers:
            elements += 2 * width * (sub.before.norm + sub.out.norm) + width
            if sub.kind is SublayerKind.feedforward:
                kept = (4 if spec.feedforward.gated else 2) * inner + inner * sub.inner.norm
                elements += kept * (experts.active if experts else 1) + (experts.count if experts else 0)
            else:
                elements += 2 * queries + 2 * keys + queries * sub.inner.norm
                exact += 4 * spec.heads(stack)
    return elements * size + exact


def activation_bytes(
    spec: ModelSpec,
    length: int,
    sequences: int = 1,
    dtype: str = "bfloat16",
    *,
    decoder_length: int | None = None,
    checkpointing: bool = False,
) -> float:
    """Bytes kept at the peak of a step.

    Args:
        spec: the model.
        length: tokens of a sequence (of the encoder, in an encoder-decoder).
        sequences: sequences at once.
        dtype: what activations are computed in.
        decoder_length: the decoder's own; None: `length`.
        checkpointing: keep each layer's input alone and recompute the rest.
    """
    size, total = BYTES[dtype], 0.0
    tokens = {stack: length * sequences for stack in spec.stacks}
    if len(spec.stacks) == 2 and decoder_length is not None:
        tokens["decoder"] = decoder_length * sequences
    for stack, number in tokens.items():
        layer = layer_bytes(spec, stack, dtype)
        depth = spec.depth(stack)
        kept = depth * spec.width * size if checkpointing else depth * layer
        total += number * (kept + spec.width * size * (1 + 2 * has_final_norm(spec)))
    if checkpointing:
        total += max(number * layer_bytes(spec, stack, dtype) for stack, number in tokens.items())
    return total + head_bytes(spec, tokens[spec.output_stack])
