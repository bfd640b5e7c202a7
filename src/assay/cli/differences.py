"""What sets two descriptions apart: every field that has an effect, defaults worked out, by axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from assay.cli.inspect import active
from assay.published.compare import OF_KIND
from assay.spec.axes import HeadKind, NormKind, Placement, QKNorm
from assay.spec.model import ModelSpec
from assay.spec.parameters import PARTS
from assay.spec.placement import block_plan, has_embedding_norm, has_final_norm, residual_scale, weight_scale

__all__ = ["GROUPS", "Difference", "differences", "facts", "said"]

GROUPS = (
    "family", "norm", "placement", "positions", "attention", "feed-forward", "embedding", "head", "sizes",
    "parameters", "tokens", "training",
)  # fmt: skip
"""The axes, in the order of the table."""

GROUP = {
    "prompt": "family", "parallel": "placement", "feedforward": "feed-forward", "vocab_size": "sizes", "width": "sizes",
    "layers": "sizes", "context": "sizes", "attention.heads": "sizes", "attention.kv_heads": "sizes",
    "attention.head_width": "sizes", "feedforward.width": "sizes", "init": "training", "dropout": "training",
    "attention.dropout": "training", "feedforward.dropout": "training", "embedding.dropout": "training",
    "embedding.gradient_shrink": "training", "norm.alpha": "training", "placement.beta": "training",
}  # fmt: skip
"""The axis of a field, or of a part, where it is not called as the part is."""

WHOLE = ("positions.scaling", "feedforward.experts")
"""Parts inside parts: one value each."""

Value = Any
"""Plain data: a bool, number, string, None, or a list."""


@dataclass(frozen=True)
class Difference:
    """One field of one axis, and its value on either side; None: the field has no effect there."""

    group: str
    field: str
    a: Value
    b: Value


def differences(a: ModelSpec, b: ModelSpec, *, equal: bool = False) -> list[Difference]:
    """The fields in which two descriptions differ, in the order of `GROUPS`; with `equal`, all of them."""
    first, second = facts(a), facts(b)
    names = [*first, *(name for name in second if name not in first)]
    names.sort(key=lambda name: GROUPS.index(name[0]))  # stable: fields keep their order
    rows = [Difference(*name, first.get(name), second.get(name)) for name in names]
    return [row for row in rows if equal or row.a != row.b]


def facts(spec: ModelSpec) -> dict[tuple[str, str], Value]:
    """(axis, field) to value: what a description says, defaults worked out, fields without effect left out."""
    fields = _flat(spec.to_dict(full=True)) | _worked_out(spec)
    for name in _without_effect(spec, fields):
        fields.pop(name, None)
    found = {(_group(name), name): value for name, value in fields.items()}
    parameters = spec.parameters()
    # All parts on either side, so that they keep their order.
    found |= {("parameters", part): parameters.parts.get(part, 0) for part in PARTS}
    found["parameters", "total"] = int(parameters)
    if active(spec) != int(parameters):
        found["parameters", "active per token"] = active(spec)
    return found


def said(value: Value, group: str = "") -> str:
    """A value of an axis as the table prints it; a dash where the field has no effect."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}" if group in ("sizes", "parameters") else str(value)
    if isinstance(value, list):
        return (
            " + ".join(said(one, group) for one in value)
            if len(value) <= 4
            else f"{', '.join(map(str, value[:3]))} ... {value[-1]}"
        )
    return str(value)


def _group(name: str) -> str:
    part = name.partition(".")[0]
    return GROUP.get(name) or GROUP.get(part, part)


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Value]:
    out: dict[str, Value] = {}
    for name, value in fields.items():
        path = f"{prefix}{name}"
        if path in WHOLE:
            out[path] = value or "none"  # written by `_worked_out`
        elif isinstance(value, dict):
            out |= _flat(value, f"{path}.")
        else:
            out[path] = "none" if value is None else value
    return out


def _worked_out(spec: ModelSpec) -> dict[str, Value]:
    """The value of every field whose default depends on others; of two stacks that differ, both."""
    stacks = spec.stacks
    experts = spec.feedforward.experts
    first = block_plan(spec, stacks[-1], 0).steps[0]
    eps = spec.attention.qk_norm_eps
    return {
        "attention.heads": _each(spec.heads(stack) for stack in stacks),
        "attention.kv_heads": _each(spec.kv_heads(stack) for stack in stacks),
        "attention.head_width": _each(spec.head_width(stack) for stack in stacks),
        "attention.scale": _each(spec.attention.scale or spec.head_width(stack) ** -0.5 for stack in stacks),
        "attention.qk_norm_kind": str(spec.query_norm.kind),
        "attention.qk_norm_eps": spec.norm.eps if eps is None else eps,
        "embedding.scale": spec.embedding.scale or 1.0,
        "feedforward.width": _each(spec.feedforward_width(stack) for stack in stacks),
        "feedforward.experts": f"{experts.active} of {experts.count}" if experts else "none",
        "head.scale": spec.head.scale or 1.0,
        "init.std": spec.init_std,
        "layers": [spec.depth(stack) for stack in stacks] if len(stacks) > 1 else spec.layers,
        "norm.weight": spec.norm.has_weight,
        "norm.bias": spec.norm.has_bias,
        "placement.skip": str(first.skip),
        "placement.alpha": _each(residual_scale(spec, stack) for stack in stacks),
        "placement.beta": _each(weight_scale(spec, stack) for stack in stacks),
        "placement.embedding_norm": has_embedding_norm(spec),
        "placement.final_norm": has_final_norm(spec),
        "positions.scaling": _scaling(spec),
        "tokens.eos": ", ".join(map(str, spec.tokens.eos)) or "none",
    }


def _scaling(spec: ModelSpec) -> str:
    """The stretch of RoPE's frequencies in a line: its kind, and what differs from the defaults."""
    scaling = spec.positions.scaling
    if scaling is None:
        return "none"
    fields = scaling.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
    return " ".join([str(scaling.kind), *(f"{name}={value:g}" for name, value in fields.items())])


def _each(values: Iterable[Value]) -> Value:
    """One value where all stacks share it, else the encoder's and the decoder's."""
    found = list(values)
    return found[0] if len(set(found)) == 1 else found


def _without_effect(spec: ModelSpec, fields: dict[str, Value]) -> set[str]:
    kind = spec.positions.kind
    kept = {f"positions.{name}" for name in ("kind", *OF_KIND[kind])}
    dropped = {"name", "encoder.layers", "encoder.heads", "encoder.feedforward_width"}
    dropped |= {"placement.encoder_alpha", "placement.encoder_beta"}  # within alpha and beta
    dropped |= {name for name in fields if name.startswith("positions.") and name not in kept}
    if not spec.positions.xpos:
        dropped.add("positions.xpos_base")
    if spec.attention.qk_norm is QKNorm.none:
        dropped |= {"attention.qk_norm_kind", "attention.qk_norm_eps"}
    if spec.attention.window is None:
        dropped.add("attention.window_layers")
    if spec.norm.kind in (NormKind.none, NormKind.dyt):
        dropped.add("norm.eps")
    if spec.norm.kind is not NormKind.dyt:
        dropped.add("norm.alpha")
    if spec.norm.kind is not NormKind.rmsnorm:
        dropped.add("norm.fraction")
    if spec.placement.kind is not Placement.mix:
        dropped.add("placement.mix")
    if spec.head.kind is not HeadKind.mlm:
        dropped.add("head.activation")
    return dropped
