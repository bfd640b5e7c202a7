"""Which model uses which norm, and how large each is: read from the presets, so that no cell is typed (N6, K7, K8).

A row stands for a named model; where its sizes differ in a cell, the cell says which has what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from assay.spec.axes import Activation, Parallel, Placement, PositionKind, QKNorm, Skip
from assay.spec.model import ModelSpec
from assay.spec.parameters import PARTS
from assay.spec.placement import has_embedding_norm, residual_scale
from assay.spec.published import preset, presets

__all__ = ["MODELS", "PUBLISHED", "NormRow", "SizeRow", "norm_rows", "plain", "size_rows"]

MODELS: dict[str, tuple[str, ...]] = {
    "GPT-2": ("gpt2-",),
    "GPT-3": ("gpt3-",),
    "OPT": ("opt-",),
    "BLOOM": ("bloom-",),
    "Falcon": ("falcon-",),
    "PaLM": ("palm-",),
    "U-PaLM": ("u-palm-",),
    "LLaMA 1": ("llama-",),
    "LLaMA 2": ("llama2-",),
    "LLaMA 3": ("llama3-", "llama3.1-", "llama3.2-"),
    "Baichuan 1": ("baichuan-",),
    "Baichuan 2": ("baichuan2-",),
    "Mistral": ("mistral-",),
    "Mixtral": ("mixtral-",),
    "Qwen 2": ("qwen2-", "qwen2.5-"),
    "Qwen 3": ("qwen3-",),
    "Gemma 1": ("gemma-",),
    "Gemma 2": ("gemma2-",),
    "OLMo 1": ("olmo-",),
    "OLMo 2": ("olmo2-",),
    "SmolLM2": ("smollm2-",),
    "T5 v1.0": ("t5-small", "t5-base", "t5-large", "t5-xl", "t5-xxl"),
    "T5 v1.1": ("t5-v1.1-",),
    "Flan-T5": ("flan-t5-",),
    "UL2": ("ul2-",),
    "BERT": ("bert-",),
    "MiniLM": ("minilm-",),
    "BART": ("bart-",),
    "mBART": ("mbart-",),
    "CogView": ("cogview-",),
    "GLM-130B": ("glm-130b",),
    "ChatGLM-6B": ("chatglm-6b",),
    "ChatGLM2-6B": ("chatglm2-6b",),
    "GLM-4": ("glm-4-",),
}
"""Named models, and how the names of their presets begin."""

PUBLISHED = {
    "gpt3-175b": 174.604e9,
    "palm-540b": 540.36e9,
    "u-palm-540b": 540.36e9,
    "bloom-176b": 176.247e9,
    "llama-65b": 65.286e9,
    "t5-xxl": 11.307e9,
    "chatglm-6b": 6.17e9,
    "glm-130b": 128.7e9,
}
"""Published parameter counts, tied matrices once. As stored, with the output matrix apart, ChatGLM-6B has 6.71e9; the
130.5e9 that circulates for GLM-130B is its count untied."""


@dataclass(frozen=True)
class NormRow:
    """One line of the table of norms."""

    model: str
    norm: str
    placement: str
    eps: str
    bias: str
    positions: str
    activation: str
    family: str
    notes: str


@dataclass(frozen=True)
class SizeRow:
    """One size: parameters by part and in all."""

    model: str
    preset: str
    parts: dict[str, int]
    total: int
    published: float | None
    """What was published; None: not in the table of published counts."""

    @property
    def deviation(self) -> float | None:
        """(total - published) / published."""
        return None if self.published is None else self.total / self.published - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data, a column a part."""
        flat = {part: self.parts.get(part, 0) for part in PARTS}
        head = {"model": self.model, "preset": self.preset}
        return head | flat | {"total": self.total, "published": self.published, "deviation": self.deviation}


@cache
def norm_rows() -> tuple[NormRow, ...]:
    """The table of norms, a row a named model."""
    return tuple(_row(model) for model in MODELS)


@cache
def size_rows() -> tuple[SizeRow, ...]:
    """The table of sizes, a row a preset."""
    rows = []
    for model in MODELS:
        for name in _presets(model):
            count = preset(name).parameters()
            rows.append(SizeRow(model, name, count.parts, int(count), PUBLISHED.get(name)))
    return tuple(rows)


def _presets(model: str) -> list[str]:
    begins = MODELS[model]
    return [name for name in presets() if any(name == b or (b.endswith("-") and name.startswith(b)) for b in begins)]


def _row(model: str) -> NormRow:
    specs = {name: preset(name) for name in _presets(model)}

    def cell(read: Callable[[ModelSpec], str]) -> str:
        """One value where all sizes share it, else each with the sizes that have it."""
        sizes: dict[str, list[str]] = {}
        for name, spec in specs.items():
            sizes.setdefault(read(spec), []).append(name)
        if len(sizes) == 1:
            return next(iter(sizes))
        said = (f"{value or 'none'} ({', '.join(map(_short, names))})" for value, names in sizes.items())
        return "; ".join(said)

    notes = dict.fromkeys(note for spec in specs.values() for note in _notes(spec))
    shared = [
        note if (who := [n for n, s in specs.items() if note in _notes(s)]) == list(specs)
        else f"{note} ({', '.join(map(_short, who))})"
        for note in notes
    ]  # fmt: skip
    return NormRow(
        model,
        norm=cell(lambda spec: str(spec.norm.kind)),
        placement=cell(_placement),
        eps=cell(lambda spec: _number(spec.norm.eps)),
        bias=cell(_bias),
        positions=cell(_positions),
        activation=cell(_activation),
        family=cell(lambda spec: str(spec.family)),
        notes="; ".join(shared),
    )


def _short(name: str) -> str:
    """The part of a preset's name that tells it from its sisters: 7b of llama2-7b."""
    for begins in (b for found in MODELS.values() for b in found if b.endswith("-")):
        if name.startswith(begins):
            return name if "." in begins else name.removeprefix(begins)
    return name


def _number(value: float) -> str:
    """1e-05 as 1e-5."""
    mantissa, e, exponent = f"{value:.6g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def _placement(spec: ModelSpec) -> str:
    """The arrangement, and the step that attention and feed-forward share.

    GLM's code norms first and carries the normed stream: Post-LN DeepNorm with the norm moved to the next entry.
    """
    kind = {Placement.glm130b: "DeepNorm-post (glm130b)", Placement.deepnet: "DeepNorm-post (deepnet)"}
    together = {
        Parallel.none: "",
        Parallel.one_norm: ", parallel, one norm",
        Parallel.two_norms: ", parallel, two norms",
    }
    skip = ", normed skip" if spec.placement.skip is Skip.normed else ""
    return f"{kind.get(spec.placement.kind, spec.placement.kind)}{skip}{together[spec.parallel]}"


def _bias(spec: ModelSpec) -> str:
    """Where biases are: norms, query-key-value, attention's output, feed-forward."""
    there = {
        "norm": spec.norm.has_bias,
        "qkv": spec.attention.qkv_bias,
        "output": spec.attention.out_bias,
        "feed-forward": spec.feedforward.bias,
    }
    names = [name for name, has in there.items() if has]
    return "all" if len(names) == len(there) else ", ".join(names) or "none"


def _positions(spec: ModelSpec) -> str:
    positions = spec.positions
    if positions.kind is PositionKind.learned:
        return f"learned (+{positions.offset})" if positions.offset else "learned"
    if positions.kind is PositionKind.relative:
        return f"relative {positions.buckets}/{positions.max_distance}"
    if positions.kind is not PositionKind.rope:
        return "ALiBi" if positions.kind is PositionKind.alibi else str(positions.kind)
    axes = "2D " if positions.axes == 2 else ""
    part = f", {positions.fraction:g} of a head" if positions.fraction != 1 else ""
    theta = f" {positions.theta:.6g}" if positions.theta != 10_000 else ""
    scaling = f", {positions.scaling.kind} x{positions.scaling.factor:g}" if positions.scaling else ""
    return f"{axes}RoPE{theta}{part}{scaling}"


def _activation(spec: ModelSpec) -> str:
    """GELU, and gated forms by their own names (Shazeer 2020)."""
    names = {Activation.relu: "ReLU", Activation.gelu: "GELU", Activation.gelu_tanh: "GELU (tanh)"}
    gated = {
        Activation.silu: "SwiGLU", Activation.gelu: "GeGLU", Activation.gelu_tanh: "GeGLU (tanh)",
        Activation.relu: "ReGLU",
    }  # fmt: skip
    kind = spec.feedforward.activation
    return (gated if spec.feedforward.gated else names).get(kind, f"{'gated ' * spec.feedforward.gated}{kind}")


def _notes(spec: ModelSpec) -> list[str]:
    """What else tells a model apart."""
    attention, heads, kv = spec.attention, spec.heads(spec.output_stack), spec.kv_heads(spec.output_stack)
    alpha = residual_scale(spec, spec.output_stack)
    experts = spec.feedforward.experts
    said = {
        "embedding norm": has_embedding_norm(spec),
        f"alpha {alpha:.4g}": alpha != 1,
        "gain 1 + w": spec.norm.plus_one,
        "no gain": not spec.norm.has_weight,
        f"input over its maximum / {spec.norm.max_scale or 0:g}": spec.norm.max_scale is not None,
        "q/k norm a head": attention.qk_norm is QKNorm.head,
        "q/k norm over the full width": attention.qk_norm is QKNorm.full,
        "multi-query": kv == 1 < heads,
        "grouped-query": 1 < kv < heads,
        f"window {attention.window}": attention.window is not None,
        "no 1/sqrt(d)": attention.scale == 1,
        f"soft-cap {attention.softcap or 0:g} and {spec.head.softcap or 0:g}": attention.softcap is not None,
        f"clipped qkv {attention.clip_qkv or 0:g}": attention.clip_qkv is not None,
        f"PB-relax {attention.relax or 0:g}": attention.relax is not None,
        "embedding x sqrt(d)": bool(spec.embedding.scale) and spec.embedding.scale == spec.width**0.5,
        "normalised head": spec.head.normalised,
        f"{experts.active} of {experts.count} experts" if experts else "": experts is not None,
        "gradient shrink": spec.embedding.gradient_shrink != 1,
    }
    return [note for note, holds in said.items() if holds]


def plain(rows: tuple[NormRow, ...] | tuple[SizeRow, ...]) -> list[dict[str, Any]]:
    """Rows as plain data."""
    return [row.to_dict() if isinstance(row, SizeRow) else asdict(row) for row in rows]
