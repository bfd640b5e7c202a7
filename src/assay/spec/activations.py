"""Activation memory of a training step by a stated formula: what the backward pass must find again.

For every token and layer, each tensor that autograd saves is counted once (`spec.memory.saved_elements`): with fused
attention no table of scores is kept. Added here: of a mixture of experts, what the other active experts keep, and the
router's probabilities. The head keeps one chunk of float32 logits twice, and the gradient of what it read. With
checkpointing only each layer's input is kept, and one layer's activations while it is recomputed.

Source: the way of counting is Korthikanti et al. 2022 (section 4), whose 34 s b h bytes a layer belong to GPT's block
with dropout masks and, 5 a s^2 b more, scores that are kept; the terms here are of this package's own block, and are
held against measured bytes (`tests/training/test_step_bytes.py`).
"""

from __future__ import annotations

from assay.spec.memory import BYTES, LOSS_ELEMENTS, feedforward_tensors, loss_rows, saved_elements, step_bytes
from assay.spec.model import ModelSpec, StackName

__all__ = ["activation_bytes", "head_bytes", "layer_bytes"]


def head_bytes(spec: ModelSpec, targets: int) -> int:
    """Bytes of one chunk of float32 logits and of what is computed from it; rows come in multiples of 64."""
    return 2 * 4 * min(loss_rows(targets) * spec.vocab_size, max(LOSS_ELEMENTS, 256 * spec.vocab_size))


def layer_bytes(spec: ModelSpec, stack: StackName, dtype: str = "bfloat16", *, memory: float = 1.0) -> float:
    """Bytes that one token's pass through one layer keeps for the backward pass (of mixtures, the active experts').

    memory: tokens of an encoder for each of the decoder's.
    """
    of_memory = saved_elements(spec, stack, 0, 1, dtype=dtype) if stack == "decoder" and len(spec.stacks) == 2 else 0
    own = saved_elements(spec, stack, 1, dtype=dtype) + _experts(spec, stack, dtype)
    return (own + memory * of_memory) * BYTES[dtype]


def activation_bytes(
    spec: ModelSpec,
    length: int,
    sequences: int = 1,
    dtype: str = "bfloat16",
    *,
    decoder_length: int | None = None,
    checkpointing: bool = False,
) -> float:
    """Bytes kept at the peak of a step, gradients of weights apart.

    Args:
        spec: the model.
        length: tokens of a sequence (of the encoder, in an encoder-decoder).
        sequences: sequences at once.
        dtype: what activations are computed in.
        decoder_length: the decoder's own; None: `length`.
        checkpointing: keep each layer's input alone and recompute the rest.
    """
    size = BYTES[dtype]
    tokens = {stack: length * sequences for stack in spec.stacks}
    if len(spec.stacks) == 2 and decoder_length is not None:
        tokens["decoder"] = decoder_length * sequences
    mixed = {stack: number * _experts(spec, stack, dtype) * size for stack, number in tokens.items()}
    step = step_bytes(spec, sequences, length, decoder_length=decoder_length, checkpointing=checkpointing, dtype=dtype)
    out = tokens[spec.output_stack]
    head = head_bytes(spec, out) + out * spec.width * size
    if checkpointing:
        return step.saved + max(head, step.layer + max(mixed.values()))
    return step.saved + sum(spec.depth(stack) * extra for stack, extra in mixed.items()) + head


def _experts(spec: ModelSpec, stack: StackName, dtype: str) -> int:
    """Elements a token that a mixture keeps beyond one feed-forward's."""
    experts = spec.feedforward.experts
    if experts is None:
        return 0
    return spec.feedforward_width(stack) * feedforward_tensors(spec, dtype) * (experts.active - 1) + experts.count
