"""FLOPs from the description alone: 2 per multiply-add of every matrix product, element-wise work not counted.

Training is 3 times the forward pass, attention is over visible pairs, the head runs at targets only, and
recomputation is not counted (API.md, rules of measure).
"""

from __future__ import annotations

from functools import lru_cache

from assay.spec.axes import Family, HeadKind
from assay.spec.model import ModelSpec, StackName
from assay.spec.parameters import block

TRAINING = 3
"""Forward, and twice that backward."""


class FlopCount(float):
    """FLOPs of one sequence; `.parts` by part, `.per_token` over all tokens that enter a stack."""

    parts: dict[str, float]
    tokens: int

    def __new__(cls, parts: dict[str, float], tokens: int) -> FlopCount:
        """Sum of the parts."""
        self = super().__new__(cls, sum(parts.values()))
        self.parts, self.tokens = parts, tokens
        return self

    @property
    def per_token(self) -> float:
        """FLOPs per token that enters the model."""
        return self / max(self.tokens, 1)


def visible_pairs(length: int, *, causal: bool, prefix: int = 0, window: int | None = None) -> int:
    """Number of (query, key) pairs of one sequence that a mask leaves open.

    The prefix is seen by every query that the window lets see it.
    """
    prefix = min(prefix, length)
    if window is None or window >= length:
        if not causal:
            return length * length
        return prefix * prefix + (length * (length + 1) - prefix * (prefix + 1)) // 2
    pairs = 0
    for query in range(length):
        last = query if causal and query >= prefix else (length if not causal else prefix) - 1
        pairs += max(min(last, query + window - 1) - max(0, query - window + 1) + 1, 0)
    return pairs


def count(
    spec: ModelSpec,
    length: int,
    decoder_length: int | None = None,
    targets: int | None = None,
    prefix: int | None = None,
    training: bool = False,
) -> FlopCount:
    """FLOPs of one sequence; see `ModelSpec.flops`."""
    parts = {"attention": 0.0, "pairs": 0.0, "cross_attention": 0.0, "feedforward": 0.0, "head": 0.0}
    two = spec.family is Family.encoder_decoder
    lengths = {stack: length for stack in spec.stacks}
    if two:
        lengths["decoder"] = length if decoder_length is None else decoder_length
    if prefix is None:
        prefix = length // 2 if spec.family is Family.prefix else 0
    for stack, n in lengths.items():
        causal = stack == "decoder"
        for part, rate in linear_rates(spec, stack).items():
            parts[part] += rate * n
        parts["pairs"] += _pair_flops(spec, stack, n, causal, prefix if spec.family is Family.prefix else 0)
    if two:
        keys, per_pair = lengths["encoder"], 4 * spec.heads("decoder") * spec.head_width("decoder")
        parts["cross_attention"] += spec.depth("decoder") * per_pair * keys * lengths["decoder"]
        # Keys and values of cross-attention are made from the encoder's tokens, not the decoder's.
        width = 4 * spec.width * spec.kv_heads("decoder") * spec.head_width("decoder")
        parts["cross_attention"] += spec.depth("decoder") * width * (keys - lengths["decoder"])
    out = lengths[spec.output_stack] if targets is None else targets
    parts["head"] = head_rate(spec) * out
    factor = TRAINING if training else 1
    return FlopCount({part: flops * factor for part, flops in parts.items() if flops}, sum(lengths.values()))


@lru_cache(maxsize=256)
def linear_rates(spec: ModelSpec, stack: StackName) -> dict[str, float]:
    """FLOPs per token of a stack's weight matrices, by part; of a mixture's experts the active ones."""
    experts = spec.feedforward.experts
    rates: dict[str, float] = {}
    # Layers differ in norms alone, so one stands for all.
    for parameter in block(spec, stack, 0, ""):
        if parameter.part in ("attention", "cross_attention", "feedforward") and len(parameter.shape) == 2:
            share = experts.active / experts.count if experts and ".experts." in parameter.name else 1.0
            rates[parameter.part] = rates.get(parameter.part, 0.0) + 2 * parameter.size * share
    return {part: rate * spec.depth(stack) for part, rate in rates.items()}


def head_rate(spec: ModelSpec) -> float:
    """FLOPs of the head per target."""
    if spec.head.kind is HeadKind.none:
        return 0.0
    dense = 2 * spec.width**2 if spec.head.kind is HeadKind.mlm else 0
    return 2.0 * spec.vocab_size * spec.width + dense


@lru_cache(maxsize=65536)
def _pair_flops(spec: ModelSpec, stack: StackName, length: int, causal: bool, prefix: int) -> float:
    by_window: dict[int | None, int] = {}
    for layer in range(spec.depth(stack)):
        window = spec.window(layer)
        by_window[window] = by_window.get(window, 0) + 1
    pairs = sum(
        layers * visible_pairs(length, causal=causal, prefix=prefix, window=window)
        for window, layers in by_window.items()
    )
    return 4.0 * spec.heads(stack) * spec.head_width(stack) * pairs
