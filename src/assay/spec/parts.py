"""The parts of a model's description, one class each; `spec/model.py` puts them together.

A field that is None takes the value named in its docstring, worked out where the whole model is known.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from assay.spec.axes import (
    Activation,
    Cast,
    HeadKind,
    InitKind,
    NormKind,
    Pairing,
    Parallel,
    Placement,
    PositionKind,
    PromptRule,
    QKNorm,
    RopeScalingKind,
    Skip,
)
from assay.spec.base import Part

MOST_LAYERS = 10_000
"""The deepest model that is described: counting and building go layer by layer."""

Count = Annotated[int, Field(gt=0, le=10**15)]
Depth = Annotated[int, Field(gt=0, le=MOST_LAYERS)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class NormSpec(Part):
    """One normalization; every norm of the model is of this make."""

    shorthand: ClassVar[str | None] = "kind"

    kind: NormKind = NormKind.rmsnorm
    """Which norm."""
    eps: Annotated[float, Field(ge=0, le=0.1)] = 1e-5
    """Added under the root."""
    weight: bool = True
    """Whether a gain is learned (OLMo 1 learns none)."""
    bias: bool | None = None
    """Whether a shift is learned; None: yes for LayerNorm and DyT with a weight, no for RMSNorm."""
    cast: Cast = Cast.after_weight
    """Where a low-precision norm leaves float32."""
    plus_one: bool = False
    """The gain is 1 + w (Gemma)."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the features that RMSNorm's mean square is taken from (pRMSNorm: 0.0625)."""
    max_scale: Positive | None = None
    """Divide the input by (its largest magnitude over the whole tensor) / max_scale first (CogView: 8)."""
    alpha: Positive = 0.5
    """DyT's scalar at the start."""

    @model_validator(mode="after")
    def _check(self) -> NormSpec:
        if self.bias and self.kind is NormKind.rmsnorm:
            raise ValueError("norm.bias: rmsnorm has no shift; use layernorm, or leave bias out")
        if self.fraction != 1 and self.kind is not NormKind.rmsnorm:
            raise ValueError(f"norm.fraction: only rmsnorm takes a share of the features, not {self.kind}")
        return self

    @property
    def has_weight(self) -> bool:
        """Whether a gain is learned, all fields considered."""
        return self.weight and self.kind is not NormKind.none

    @property
    def has_bias(self) -> bool:
        """Whether a shift is learned, all fields considered."""
        if self.kind in (NormKind.none, NormKind.rmsnorm):
            return False
        return self.weight if self.bias is None else self.bias


class PlacementSpec(Part):
    """Where norms stand, and the residual's scale."""

    shorthand: ClassVar[str | None] = "kind"

    kind: Placement = Placement.pre
    """Which arrangement."""
    skip: Skip | None = None
    """What the residual carries; None: as the arrangement says."""
    alpha: Positive | None = None
    """Residual scale; None: from the depth, by the arrangement's formula."""
    beta: Positive | None = None
    """Scale of the value, output and feed-forward weights at the start; None: from the depth."""
    encoder_alpha: Positive | None = None
    """The encoder's own residual scale in an encoder-decoder; None: from the depths."""
    encoder_beta: Positive | None = None
    """The encoder's own beta in an encoder-decoder; None: from the depths."""
    mix: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Mix-LN: the share of the first layers that are Post-LN."""
    embedding_norm: bool | None = None
    """A norm after the embedding (BLOOM, BERT); None: as the arrangement says."""
    final_norm: bool | None = None
    """A norm after the last layer; None: as the arrangement says."""


class RopeScaling(Part):
    """RoPE past its trained length."""

    shorthand: ClassVar[str | None] = "kind"

    kind: RopeScalingKind
    """Which stretch."""
    factor: Positive = 1.0
    """How many times longer."""
    original_length: Count | None = None
    """Length trained before the stretch; llama3 and yarn need it."""
    low_frequency: Positive = 1.0
    """llama3: below this many turns over the original length a frequency is divided by the factor."""
    high_frequency: Positive = 4.0
    """llama3: above this many turns a frequency stays."""
    beta_fast: Positive = 32.0
    """yarn: turns above which a frequency stays."""
    beta_slow: Positive = 1.0
    """yarn: turns below which a frequency is divided."""
    attention_factor: Positive | None = None
    """yarn: scale of cosine and sine; None: 0.1 ln(factor) + 1."""
    mscale: Finite | None = None
    """yarn: DeepSeek's numerator of the attention factor."""
    mscale_all_dim: Finite | None = None
    """yarn: DeepSeek's denominator of the attention factor."""
    truncate: bool = True
    """yarn: round the correction range outward to whole dimensions."""


class PositionSpec(Part):
    """How order enters the model."""

    shorthand: ClassVar[str | None] = "kind"

    kind: PositionKind = PositionKind.rope
    """Which encoding."""
    offset: Annotated[int, Field(ge=0)] = 0
    """Learned tables: added to every position (BART, OPT: 2)."""
    theta: Positive = 10_000.0
    """RoPE and sinusoidal: the base."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """RoPE: share of a head's features that rotate (ChatGLM2: 0.5)."""
    pairing: Pairing = Pairing.half
    """RoPE: which features rotate together."""
    axes: Annotated[int, Field(ge=1, le=2)] = 1
    """2: two rows of positions, each for half of a head (ChatGLM-6B), or two tables (GLM)."""
    scaling: RopeScaling | None = None
    """RoPE: stretch past the trained length."""
    xpos: bool = False
    """RoPE with xPos' decay (Sun et al. 2022)."""
    xpos_base: Positive = 512.0
    """xPos: the decay's scale base."""
    half_frequencies: bool = False
    """RoPE: frequencies rounded to float16 first, as the GLM code does."""
    scaled_bias: bool = False
    """ALiBi: the slopes are multiplied by the attention's scale too (Falcon RW)."""
    buckets: Annotated[int, Field(ge=2)] = 32
    """Relative bias: number of buckets."""
    max_distance: Count = 128
    """Relative bias: distance from which all share the last bucket."""
    per_layer: bool = False
    """Relative bias: a table in each layer (UMT5) instead of one a stack."""


class AttentionSpec(Part):
    """Attention, the same in every layer but for windows."""

    shorthand: ClassVar[str | None] = "heads"

    heads: Count = 4
    """Query heads."""
    kv_heads: Count | None = None
    """Key-value heads; None: as many as queries. 1 is multi-query."""
    head_width: Count | None = None
    """Features a head; None: width / heads."""
    qkv_bias: bool = False
    """Biases on query, key and value."""
    out_bias: bool = False
    """Bias on the output projection."""
    qk_norm: QKNorm = QKNorm.none
    """Norm on queries and keys, before RoPE."""
    qk_norm_kind: NormKind | None = None
    """Its kind; None: the norm's (PaLM in one public code: rmsnorm beside layernorm)."""
    qk_norm_eps: Annotated[float, Field(ge=0, le=0.1)] | None = None
    """Its eps; None: the norm's."""
    scale: Positive | None = None
    """Scores are multiplied by this; None: head_width^-1/2. T5: 1."""
    scale_by_layer: bool = False
    """Divide the scale by the layer's number, from 1 (GPT-2's scale_attn_by_inverse_layer_idx)."""
    softcap: Positive | None = None
    """cap * tanh(score / cap), before the mask (Gemma 2: 50)."""
    window: Count | None = None
    """A query sees the last `window` keys, itself included."""
    window_layers: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Layers, from 0, that the window holds in; None: all."""
    clip_qkv: Positive | None = None
    """Clamp queries, keys and values to this magnitude (OLMo 1)."""
    relax: Positive | None = None
    """PB-relax (CogView): softmax((s/a - max(s/a)) a) with a = this."""
    dropout: Share = 0.0
    """Dropout on attention weights."""


class ExpertSpec(Part):
    """Mixture-of-experts feed-forward (Mixtral)."""

    count: Annotated[int, Field(gt=0, le=10_000)]
    """Experts a layer."""
    active: Count = 2
    """Experts a token goes through."""

    @model_validator(mode="after")
    def _check(self) -> ExpertSpec:
        if self.active > self.count:
            raise ValueError(f"feedforward.experts.active: {self.active} of {self.count} experts cannot be active")
        return self


class FeedForwardSpec(Part):
    """The position-wise network."""

    shorthand: ClassVar[str | None] = "activation"

    width: Count | None = None
    """Inner features; None: 4 x width, or 8/3 x width up to a multiple of 32 where gated (equal parameters)."""
    activation: Activation = Activation.silu
    """The nonlinearity."""
    gated: bool = True
    """act(x W_gate) * (x W_up) instead of act(x W_up) (Shazeer 2020)."""
    bias: bool = False
    """Biases on all of its matrices."""
    experts: ExpertSpec | None = None
    """Several networks a layer and a router; None: one network."""
    dropout: Share = 0.0
    """Dropout on inner features."""


class EmbeddingSpec(Part):
    """From tokens to the stream."""

    scale: Positive | None = None
    """The embedding is multiplied by this (Gemma and mBART: sqrt(width)); None: not at all."""
    token_types: Annotated[int, Field(ge=0)] = 0
    """Segment embeddings (BERT: 2)."""
    gradient_shrink: Annotated[float, Field(gt=0, le=1)] = 1.0
    """e a + stopgrad(e) (1 - a): the share a of the gradient that passes (GLM-130B: 0.1)."""
    dropout: Share = 0.0
    """Dropout after the embedding."""


class HeadSpec(Part):
    """From the stream to an output."""

    shorthand: ClassVar[str | None] = "kind"

    kind: HeadKind = HeadKind.lm
    """Which head."""
    tied: bool = True
    """The output matrix is the token embedding."""
    bias: bool = False
    """A bias on the logits (BART's final_logits_bias, BERT's)."""
    scale: Positive | None = None
    """Logits (the hidden states before the product) are multiplied by this (tied T5: width^-1/2); None: not."""
    softcap: Positive | None = None
    """cap * tanh(logit / cap) (Gemma 2: 30)."""
    normalised: bool = False
    """The output matrix's rows are scaled to length 1 (Baichuan 2)."""
    activation: Activation = Activation.gelu
    """The masked-LM head's nonlinearity."""
    sentence_pair: bool = False
    """BERT's pooler and next-sentence output."""


class InitSpec(Part):
    """How weights begin."""

    shorthand: ClassVar[str | None] = "kind"

    kind: InitKind = InitKind.auto
    """Which rule for matrices."""
    std: Positive | None = None
    """Standard deviation, where the rule has one; None: sqrt(2 / (5 width)) (Nguyen & Salazar 2019), GPT-2's 0.02
    at width 1,000."""
    embedding_std: Positive | None = None
    """The embeddings' own; None: `std` (T5: 1, Xavier-like rules: width^-1/2)."""


class EncoderSpec(Part):
    """What the encoder of an encoder-decoder has of its own; None: as the decoder."""

    shorthand: ClassVar[str | None] = "layers"

    layers: Depth | None = None
    """Depth."""
    heads: Count | None = None
    """Query heads."""
    feedforward_width: Count | None = None
    """Inner features of the feed-forward."""


class TokenSpec(Part):
    """Ids that generation and batching need; None where the vocabulary has none."""

    pad: Annotated[int, Field(ge=0)] | None = None
    """Fills short rows."""
    bos: Annotated[int, Field(ge=0)] | None = None
    """Begins a text."""
    eos: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Any of these ends a text."""
    decoder_start: Annotated[int, Field(ge=0)] | None = None
    """What a decoder reads first."""
    mask: Annotated[int, Field(ge=0)] | None = None
    """Stands for a token, or a span, to be filled in."""


class PromptSpec(Part):
    """Rules that derive mask and positions from the prompt's tokens."""

    shorthand: ClassVar[str | None] = "rule"

    rule: PromptRule = PromptRule.none
    """Whose rule."""
    sop: Annotated[int, Field(ge=0)] | None = None
    """`<sop>`: the answer starts here; keys before it are visible to every row."""
    mask: Annotated[int, Field(ge=0)] | None = None
    """`[MASK]`."""
    gmask: Annotated[int, Field(ge=0)] | None = None
    """`[gMASK]`."""


__all__ = [
    "AttentionSpec",
    "EmbeddingSpec",
    "EncoderSpec",
    "ExpertSpec",
    "FeedForwardSpec",
    "HeadSpec",
    "InitSpec",
    "NormSpec",
    "Parallel",
    "PlacementSpec",
    "PositionSpec",
    "PromptSpec",
    "RopeScaling",
    "TokenSpec",
]
