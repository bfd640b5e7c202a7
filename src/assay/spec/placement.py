"""A block is one equation, and every placement is data for it. See `docs/design.md`, idea 2.

    h = before(x)
    r = h if the skip carries the normed stream, else x
    x <- after(alpha * r + sum over sublayers k of out_k(f_k(before_k(h))))

A slot is a norm and a scale, or nothing; `inner` slots sit inside a sublayer, before its output projection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from assay.spec.axes import Family, Parallel, Placement, Skip
from assay.spec.model import ModelSpec, StackName


class SublayerKind(StrEnum):
    """What a sublayer computes."""

    attention = "attention"
    cross_attention = "cross_attention"
    feedforward = "feedforward"


@dataclass(frozen=True)
class Slot:
    """A norm followed by a constant scale, or nothing at all."""

    norm: bool = False
    scale: float = 1.0

    def __bool__(self) -> bool:
        return self.norm or self.scale != 1.0


NOTHING = Slot()
NORM = Slot(norm=True)


@dataclass(frozen=True)
class Sublayer:
    """One f_k with its slots."""

    kind: SublayerKind
    before: Slot = NOTHING
    inner: Slot = NOTHING
    out: Slot = NOTHING


@dataclass(frozen=True)
class Step:
    """One residual step: sublayers that share a sum."""

    sublayers: tuple[Sublayer, ...]
    before: Slot = NOTHING
    after: Slot = NOTHING
    alpha: float = 1.0
    skip: Skip = Skip.stream

    @property
    def name(self) -> str:
        """The prefix of its slots' names: its sublayer's, or `shared` where several share the step."""
        return self.sublayers[0].kind.value if len(self.sublayers) == 1 else "shared"


@dataclass(frozen=True)
class BlockPlan:
    """One layer: its steps in order. `dual` marks ResiDual's second stream, which the equation cannot say."""

    steps: tuple[Step, ...]
    dual: bool = False


@dataclass(frozen=True)
class Arrangement:
    """Where a placement puts its norms, and what its paper says of residual scale and initialization."""

    before: bool = False
    inner: bool = False
    out: bool = False
    after: bool = False
    skip: Skip = Skip.stream
    embedding_norm: bool = False
    final_norm: bool = True
    source: str = ""


ARRANGEMENTS: dict[Placement, Arrangement] = {
    Placement.post: Arrangement(after=True, final_norm=False, source="Vaswani et al. 2017"),
    Placement.pre: Arrangement(before=True, source="Xiong et al. 2020"),
    Placement.sandwich: Arrangement(before=True, out=True, source="Ding et al. 2021 (CogView)"),
    Placement.peri: Arrangement(before=True, out=True, embedding_norm=True, source="Kim et al. 2025"),
    Placement.reordered: Arrangement(out=True, source="OLMo team 2025 (OLMo 2)"),
    Placement.deepnet: Arrangement(after=True, final_norm=False, source="Wang et al. 2022 (DeepNet)"),
    Placement.glm130b: Arrangement(before=True, skip=Skip.normed, source="Zeng et al. 2022 (GLM-130B)"),
    Placement.subln: Arrangement(before=True, inner=True, source="Wang et al. 2022 (Foundation Transformers)"),
    Placement.mix: Arrangement(before=True, source="Li et al. 2024 (Mix-LN); its first layers are post"),
    Placement.scaled: Arrangement(before=True, source="Sun et al. 2025 (LayerNorm scaling)"),
    Placement.residual: Arrangement(after=True, source="Xie et al. 2023 (ResiDual)"),
}


def arrangement(spec: ModelSpec, layer: int, depth: int) -> Arrangement:
    """The arrangement of one layer (from 0) out of `depth`; only Mix-LN's depends on the layer."""
    kind = spec.placement.kind
    if kind is Placement.mix and layer < spec.placement.mix * depth:
        kind = Placement.post
    return ARRANGEMENTS[kind]


def sublayer_kinds(spec: ModelSpec, stack: StackName) -> tuple[SublayerKind, ...]:
    """Sublayers of a stack's blocks, in order."""
    if stack == "decoder" and spec.family is Family.encoder_decoder:
        return (SublayerKind.attention, SublayerKind.cross_attention, SublayerKind.feedforward)
    return (SublayerKind.attention, SublayerKind.feedforward)


def block_plan(spec: ModelSpec, stack: StackName, layer: int) -> BlockPlan:
    """The equation's data for one layer (from 0) of a stack."""
    place = arrangement(spec, layer, spec.depth(stack))
    scale = (layer + 1) ** -0.5 if spec.placement.kind is Placement.scaled else 1.0
    before = Slot(norm=True, scale=scale) if place.before else NOTHING
    inner, out, after = (NORM if there else NOTHING for there in (place.inner, place.out, place.after))
    alpha, skip = residual_scale(spec, stack), spec.placement.skip or place.skip
    kinds = sublayer_kinds(spec, stack)
    if spec.parallel is Parallel.none:
        steps = tuple(Step((Sublayer(kind, inner=inner, out=out),), before, after, alpha, skip) for kind in kinds)
    else:
        separate = spec.parallel is Parallel.two_norms
        sublayers = tuple(Sublayer(kind, before if separate else NOTHING, inner, out) for kind in kinds)
        steps = (Step(sublayers, NOTHING if separate else before, after, alpha, skip),)
    return BlockPlan(steps, dual=spec.placement.kind is Placement.residual)


def has_embedding_norm(spec: ModelSpec) -> bool:
    """Whether a norm follows the embedding."""
    said = spec.placement.embedding_norm
    return ARRANGEMENTS[spec.placement.kind].embedding_norm if said is None else said


def has_final_norm(spec: ModelSpec) -> bool:
    """Whether a norm follows the last layer (ResiDual: the norm of its second stream)."""
    said = spec.placement.final_norm
    return ARRANGEMENTS[spec.placement.kind].final_norm if said is None else said


Formula = Callable[[int, int], float]
"""From (encoder depth N, decoder depth M) to a constant."""

DEEPNET: dict[tuple[bool, StackName], tuple[Formula, Formula]] = {
    (False, "encoder"): (lambda n, m: (2 * n) ** 0.25, lambda n, m: (8 * n) ** -0.25),
    (False, "decoder"): (lambda n, m: (2 * m) ** 0.25, lambda n, m: (8 * m) ** -0.25),
    (True, "encoder"): (
        lambda n, m: 0.81 * (n**4 * m) ** (1 / 16),
        lambda n, m: 0.87 * (n**4 * m) ** (-1 / 16),
    ),
    (True, "decoder"): (lambda n, m: (3 * m) ** 0.25, lambda n, m: (12 * m) ** -0.25),
}
"""alpha and beta of DeepNet's table 1, by (encoder-decoder?, stack): Wang et al. 2022, figure 2."""


def residual_scale(spec: ModelSpec, stack: StackName) -> float:
    """alpha: what the residual is multiplied by in a stack (1 where the placement has none)."""
    placement = spec.placement
    two = spec.family is Family.encoder_decoder
    said = placement.encoder_alpha if two and stack == "encoder" else placement.alpha
    if said is not None:
        return said
    if placement.kind is Placement.deepnet:
        return DEEPNET[two, stack][0](spec.depth("encoder"), spec.depth("decoder"))
    if placement.kind is Placement.glm130b:
        return sublayer_count(spec, stack) ** 0.5
    return 1.0


def weight_scale(spec: ModelSpec, stack: StackName) -> float:
    """beta: what value, output and feed-forward weights are multiplied by at the start (1 where there is none)."""
    placement = spec.placement
    two = spec.family is Family.encoder_decoder
    said = placement.encoder_beta if two and stack == "encoder" else placement.beta
    if said is not None:
        return said
    if placement.kind is Placement.deepnet:
        return DEEPNET[two, stack][1](spec.depth("encoder"), spec.depth("decoder"))
    if placement.kind is Placement.glm130b:
        return sublayer_count(spec, stack) ** -0.5
    return 1.0


def sublayer_count(spec: ModelSpec, stack: StackName) -> int:
    """Sublayers of a whole stack: 2 or 3 a layer."""
    return len(sublayer_kinds(spec, stack)) * spec.depth(stack)
