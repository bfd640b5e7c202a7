"""`ModelSpec`: what a model is, as a value. See `docs/design.md`, idea 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from assay.spec.axes import Family, HeadKind, NormKind, Parallel, Placement, PositionKind, PromptRule, Skip
from assay.spec.base import Described
from assay.spec.parts import (
    AttentionSpec,
    Count,
    Depth,
    EmbeddingSpec,
    EncoderSpec,
    FeedForwardSpec,
    HeadSpec,
    InitSpec,
    NormSpec,
    PlacementSpec,
    PositionSpec,
    PromptSpec,
    Share,
    TokenSpec,
)

if TYPE_CHECKING:
    from assay.spec.flops import FlopCount
    from assay.spec.parameters import ParameterCount

StackName = Literal["encoder", "decoder"]


class ModelSpec(Described):
    """A transformer language model: family, sizes, and one choice on every axis.

    The defaults are a small LLaMA-like causal decoder. Combinations that cannot work are refused here, with the
    field, its value and what would work.
    """

    unhashed: ClassVar[frozenset[str]] = frozenset({"name"})

    name: str = ""
    """What people call it; no part of its identity."""
    family: Family = Family.causal
    """Who sees whom, and how many stacks."""
    vocab_size: Count = 2048
    """Rows of the embedding."""
    width: Count = 128
    """Features of the stream."""
    layers: Depth = 6
    """Depth of the (decoder) stack."""
    context: Count = 1024
    """Longest sequence foreseen; the size of learned position tables."""
    norm: NormSpec = NormSpec()
    """The make of every norm."""
    placement: PlacementSpec = PlacementSpec()
    """Where norms stand."""
    parallel: Parallel = Parallel.none
    """Whether attention and feed-forward share a residual step."""
    positions: PositionSpec = PositionSpec()
    """How order enters."""
    attention: AttentionSpec = AttentionSpec()
    """Attention."""
    feedforward: FeedForwardSpec = FeedForwardSpec()
    """The position-wise network."""
    embedding: EmbeddingSpec = EmbeddingSpec()
    """From tokens to the stream."""
    head: HeadSpec = HeadSpec()
    """From the stream to an output."""
    init: InitSpec = InitSpec()
    """How weights begin."""
    dropout: Share = 0.0
    """Dropout on what each sublayer adds to the stream."""
    encoder: EncoderSpec = EncoderSpec()
    """What the encoder of an encoder-decoder has of its own."""
    tokens: TokenSpec = TokenSpec()
    """Special tokens."""
    prompt: PromptSpec = PromptSpec()
    """Rules that derive mask and positions from a prompt."""

    @model_validator(mode="after")
    def _check(self) -> ModelSpec:
        for check in (_check_heads, _check_positions, _check_placement, _check_family, _check_tokens):
            check(self)
        return self

    @property
    def stacks(self) -> tuple[StackName, ...]:
        """The stacks of this family, in the order in which they run."""
        if self.family is Family.encoder_decoder:
            return ("encoder", "decoder")
        return ("encoder",) if self.family is Family.encoder else ("decoder",)

    @property
    def output_stack(self) -> StackName:
        """The stack that the head reads."""
        return self.stacks[-1]

    def depth(self, stack: StackName) -> int:
        """Layers of a stack."""
        if stack == "encoder" and self.family is Family.encoder_decoder:
            return self.encoder.layers or self.layers
        return self.layers

    def heads(self, stack: StackName) -> int:
        """Query heads of a stack's attention."""
        if stack == "encoder" and self.family is Family.encoder_decoder and self.encoder.heads:
            return self.encoder.heads
        return self.attention.heads

    def kv_heads(self, stack: StackName) -> int:
        """Key-value heads of a stack's attention."""
        return self.attention.kv_heads or self.heads(stack)

    def head_width(self, stack: StackName) -> int:
        """Features of one head."""
        return self.attention.head_width or self.width // self.heads(stack)

    def feedforward_width(self, stack: StackName) -> int:
        """Inner features of a stack's feed-forward."""
        if stack == "encoder" and self.family is Family.encoder_decoder and self.encoder.feedforward_width:
            return self.encoder.feedforward_width
        if self.feedforward.width:
            return self.feedforward.width
        return 32 * math.ceil(self.width * 8 / 3 / 32) if self.feedforward.gated else 4 * self.width

    def window(self, layer: int) -> int | None:
        """The sliding window of a layer (from 0), or None where it sees everything its mask allows."""
        layers = self.attention.window_layers
        return self.attention.window if layers is None or layer in layers else None

    def attention_scale(self, stack: StackName, layer: int) -> float:
        """What attention scores are multiplied by, in a layer (from 0)."""
        scale = self.attention.scale or self.head_width(stack) ** -0.5
        return scale / (layer + 1) if self.attention.scale_by_layer else scale

    @property
    def query_norm(self) -> NormSpec:
        """The make of the norms on queries and keys, apart from their own eps."""
        kind = self.attention.qk_norm_kind
        if kind in (None, self.norm.kind):
            return self.norm
        return NormSpec(kind=kind, eps=self.norm.eps, cast=self.norm.cast, plus_one=self.norm.plus_one)

    @property
    def init_std(self) -> float:
        """Standard deviation of weights at the start, where the rule of initialization has one."""
        return self.init.std or math.sqrt(2 / (5 * self.width))

    @property
    def rotary_width(self) -> int:
        """Features of a head that RoPE turns; 0 without RoPE."""
        if self.positions.kind is not PositionKind.rope:
            return 0
        return int(self.head_width(self.output_stack) * self.positions.fraction)

    def parameters(self) -> ParameterCount:
        """Number of parameters: an int, with `.parts` by part. Counted from the description alone."""
        from assay.spec.parameters import count

        return count(self)

    def flops(
        self,
        length: int,
        *,
        decoder_length: int | None = None,
        targets: int | None = None,
        prefix: int | None = None,
        training: bool = False,
    ) -> FlopCount:
        """FLOPs of one sequence of `length` tokens: a float, with `.parts` and `.per_token`.

        Two per multiply-add; attention over visible pairs only; the head at `targets` positions (default: all of
        the output stack's). `decoder_length` is the decoder's own length in an encoder-decoder (default: the
        same); `prefix` the visible prefix of a prefix decoder (default: half). `training` multiplies by 3.
        """
        from assay.spec.flops import count

        return count(self, length, decoder_length, targets, prefix, training)


def _check_heads(spec: ModelSpec) -> None:
    for stack in spec.stacks:
        heads, kv = spec.heads(stack), spec.kv_heads(stack)
        if spec.attention.head_width is None and spec.width % heads:
            best = _divisor(spec.width, heads)
            raise ValueError(
                f"attention.heads: {heads} heads do not divide width {spec.width}; "
                f"use {best}, or give attention.head_width"
            )
        if heads % kv:
            raise ValueError(
                f"attention.kv_heads: {kv} does not divide {heads} heads; use a divisor such as "
                f"{_divisor(heads, kv, above=False)}"
            )
    layers = spec.attention.window_layers
    if layers is not None:
        if spec.attention.window is None:
            raise ValueError("attention.window_layers: needs attention.window, the size; give both or neither")
        if layers and max(layers) >= max(spec.depth(stack) for stack in spec.stacks):
            raise ValueError(f"attention.window_layers: layer {max(layers)} of {spec.layers}; layers count from 0")


def _divisor(number: int, wanted: int, *, above: bool = True) -> int:
    """A divisor near the wanted one, to suggest; 1 where none is near, since a file's numbers may be of any size."""
    start = min(wanted, number)
    for step in range(min(start, 10_000)):
        for near in (start - step, start + step) if above else (start - step,):
            if number % near == 0:
                return near
    return 1


def _check_positions(spec: ModelSpec) -> None:
    positions = spec.positions
    rope = positions.kind is PositionKind.rope
    for stack in spec.stacks if rope else ():
        head = spec.head_width(stack)
        rotated = int(head * positions.fraction)
        if rotated % (2 * positions.axes) or not rotated:
            raise ValueError(
                f"positions.fraction: {positions.fraction} of a head of {head} rotates {rotated} features; "
                f"RoPE needs a multiple of {2 * positions.axes}: change "
                "positions.fraction, attention.heads or attention.head_width"
            )
    if positions.axes == 2 and positions.kind not in (PositionKind.rope, PositionKind.learned):
        raise ValueError(f"positions.axes: 2 rows of positions need rope or learned, not {positions.kind}")
    for field in ("scaling", "xpos"):
        if getattr(positions, field) and not rope:
            raise ValueError(f"positions.{field}: belongs to rope, not {positions.kind}; leave it out")
    if positions.kind is PositionKind.relative:
        one_way = "decoder" in spec.stacks  # a bidirectional stack keeps half of its buckets for each side
        least, exact = (2, positions.buckets // 2) if one_way else (4, positions.buckets // 4)
        least = max(least, 4 if "encoder" in spec.stacks else 2)
        if positions.buckets < least:
            raise ValueError(f"positions.buckets: {positions.buckets}; family {spec.family} needs at least {least}")
        if positions.max_distance <= exact:
            raise ValueError(
                f"positions.max_distance: {positions.max_distance} leaves no room for logarithmic buckets after "
                f"{exact} exact ones; use more than {exact}, or fewer positions.buckets"
            )
    if positions.scaled_bias and positions.kind is not PositionKind.alibi:
        raise ValueError(f"positions.scaled_bias: belongs to alibi, not {positions.kind}; leave it out")
    if positions.scaled_bias and spec.attention.scale_by_layer:
        raise ValueError("positions.scaled_bias: one bias serves all layers; leave attention.scale_by_layer out")
    if positions.xpos and positions.axes == 2:
        raise ValueError("positions.xpos: one decay goes with one row of positions; use positions.axes = 1")
    halves = 2 if spec.family in (Family.encoder, Family.encoder_decoder, Family.prefix) else 1
    if positions.kind is PositionKind.relative and positions.buckets < 2 * halves:
        raise ValueError(
            f"positions.buckets: {positions.buckets} is too few where keys on both sides are seen; use 4 or more"
        )
    scaling = positions.scaling
    if scaling and scaling.kind == "dynamic" and spec.rotary_width == 2:
        raise ValueError("positions.scaling: dynamic needs more than 2 rotated features a head; use linear")
    if scaling and scaling.kind in ("llama3", "yarn", "dynamic") and not scaling.original_length:
        raise ValueError(f"positions.scaling.original_length: {scaling.kind} needs the length trained before")


def _check_placement(spec: ModelSpec) -> None:
    placement = spec.placement
    if placement.skip is Skip.normed and placement.kind not in (Placement.pre, Placement.glm130b):
        raise ValueError(
            f"placement.skip: the residual can carry the normed stream under pre or glm130b, not {placement.kind}"
        )
    normed = placement.skip is Skip.normed or (placement.skip is None and placement.kind is Placement.glm130b)
    if spec.parallel is Parallel.two_norms and normed:
        raise ValueError("parallel: a normed skip has one norm to carry; use parallel = one_norm")
    if spec.parallel is not Parallel.none and placement.kind is Placement.residual:
        raise ValueError("parallel: ResiDual (placement residual) keeps two streams; use parallel = none")
    if placement.kind is Placement.residual and spec.norm.kind is NormKind.none:
        raise ValueError("norm.kind: ResiDual (placement residual) is made of norms; none leaves nothing of it")
    for field in ("encoder_alpha", "encoder_beta"):
        if getattr(placement, field) is not None and spec.family is not Family.encoder_decoder:
            raise ValueError(f"placement.{field}: only an encoder_decoder has one, not family {spec.family}")


def _check_family(spec: ModelSpec) -> None:
    if spec.family is not Family.encoder_decoder and spec.encoder != EncoderSpec():
        raise ValueError(
            f"encoder: family {spec.family} has a single stack, sized by layers; leave encoder out or "
            "use family = encoder_decoder"
        )
    if spec.head.sentence_pair and spec.family is not Family.encoder:
        raise ValueError(f"head.sentence_pair: BERT's pooler belongs to family encoder, not {spec.family}")
    if spec.head.kind is HeadKind.mlm and spec.family is not Family.encoder:
        raise ValueError(f"head.kind: the masked-LM head belongs to family encoder, not {spec.family}; use lm")
    if spec.prompt.rule is not PromptRule.none and spec.family is not Family.prefix:
        raise ValueError(f"prompt.rule: {spec.prompt.rule} defines a prefix; use family = prefix")


def _check_tokens(spec: ModelSpec) -> None:
    tokens = {f"tokens.{name}": getattr(spec.tokens, name) for name in ("pad", "bos", "decoder_start", "mask")}
    tokens |= {f"tokens.eos[{i}]": token for i, token in enumerate(spec.tokens.eos)}
    for field, token in tokens.items():
        if token is not None and token >= spec.vocab_size:
            raise ValueError(f"{field}: id {token} is outside the vocabulary of {spec.vocab_size}")
