"""What a family cannot say: a spec is written as its configuration, read back, and the two are compared.

So no family lists what it lacks, and none can forget a field: whatever does not come back stands in the way.
"""

from __future__ import annotations

import math
from typing import Any

from assay.errors import UserError
from assay.published.base import Family, Fields, Given
from assay.published.config import Config
from assay.spec.axes import HeadKind, NormKind, Pairing, Parallel, PositionKind, QKNorm
from assay.spec.model import ModelSpec
from assay.spec.placement import block_plan, has_embedding_norm, has_final_norm

__all__ = ["in_the_way", "meaning", "written"]

TRAINING_ONLY = (
    "name",
    "init",
    "tokens",
    "dropout",
    "attention.dropout",
    "feedforward.dropout",
    "embedding.dropout",
    "embedding.gradient_shrink",
    "norm.cast",
    "norm.alpha",
)
"""Fields that leave the function of given weights as it is: how weights began, how they were trained, which tokens
stop generation, and how a low-precision norm rounds."""

OF_KIND = {
    PositionKind.none: (),
    PositionKind.learned: ("offset", "axes"),
    PositionKind.sinusoidal: ("theta",),
    PositionKind.rope: (
        "theta", "fraction", "pairing", "axes", "scaling", "xpos", "xpos_base", "half_frequencies",
    ),
    PositionKind.alibi: ("scaled_bias",),
    PositionKind.relative: ("buckets", "max_distance", "per_layer"),
}  # fmt: skip
"""The fields of `positions` that matter to each kind."""


def meaning(spec: ModelSpec) -> dict[str, Any]:
    """The function that a spec describes, as flat fields: defaults worked out, fields without effect left out.

    Two specs with equal meanings compute the same from the same weights.
    """
    fields = _flat(spec.to_dict(full=True))
    kind = spec.positions.kind
    dropped = {name for name in fields if name.startswith("positions.")} - {f"positions.{n}" for n in OF_KIND[kind]}
    dropped -= {"positions.kind"}
    if kind is not PositionKind.learned:
        dropped.add("context")
    for name in TRAINING_ONLY:
        dropped |= {field for field in fields if field == name or field.startswith(f"{name}.")}
    fields = {name: value for name, value in fields.items() if name not in dropped}
    stacks = spec.stacks
    fields |= {
        "attention.heads": tuple(spec.heads(s) for s in stacks),
        "attention.kv_heads": tuple(spec.kv_heads(s) for s in stacks),
        "attention.head_width": tuple(spec.head_width(s) for s in stacks),
        "attention.scale": tuple(spec.attention_scale(s, 0) for s in stacks),
        "attention.window": tuple(spec.window(layer) for layer in range(max(spec.depth(s) for s in stacks))),
        "feedforward.width": tuple(spec.feedforward_width(s) for s in stacks),
        "layers": tuple(spec.depth(s) for s in stacks),
        "norm.bias": spec.norm.has_bias,
        "norm.weight": spec.norm.has_weight,
        "placement.kind": _plan(spec),
        "placement.embedding_norm": has_embedding_norm(spec),
        "placement.final_norm": has_final_norm(spec),
    }
    for name in ("attention.window_layers", "encoder.layers", "encoder.heads", "encoder.feedforward_width"):
        fields.pop(name, None)
    for name in [n for n in fields if n.startswith("placement.") and n.split(".")[1] not in _PLACED]:
        fields.pop(name)
    if spec.attention.qk_norm is QKNorm.none:
        fields.pop("attention.qk_norm_eps", None)
        fields.pop("attention.qk_norm_kind", None)
    else:
        fields["attention.qk_norm_kind"] = spec.query_norm.kind
        eps = spec.attention.qk_norm_eps
        fields["attention.qk_norm_eps"] = spec.norm.eps if eps is None else eps
    if spec.norm.kind in (NormKind.none, NormKind.dyt):
        fields.pop("norm.eps")
    if spec.head.kind is not HeadKind.mlm:
        fields.pop("head.activation")
    if kind is PositionKind.rope and _rotates_pairs_alike(spec):
        fields["positions.pairing"] = Pairing.half
    if spec.embedding.scale is None:
        fields["embedding.scale"] = 1.0
    if spec.head.scale is None:
        fields["head.scale"] = 1.0
    return fields


_PLACED = ("kind", "embedding_norm", "final_norm")


def _rotates_pairs_alike(spec: ModelSpec) -> bool:
    return spec.rotary_width == 2  # one pair: both layouts are the same


def _plan(spec: ModelSpec) -> tuple[Any, ...]:
    """Every layer's equation, apart from whether its sublayers share a step (`parallel` says that)."""
    plain = spec if spec.parallel is Parallel.none else spec.model_copy(update={"parallel": Parallel.none})
    return tuple(block_plan(plain, stack, i) for stack in spec.stacks for i in range(spec.depth(stack)))


def _flat(fields: Fields, prefix: str = "") -> Fields:
    out: Fields = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out


def written(family: Family, spec: ModelSpec) -> tuple[Fields, dict[str, tuple[Any, Any]]]:
    """The family's configuration of a spec, and the fields in the way: name -> (the spec's, what came back).

    An empty second part means that the configuration says all of it.
    """
    if family.from_spec is None:
        return {}, {"family": (spec.family.value, None)}
    wanted = meaning(spec)
    config = family.from_spec(spec)
    try:
        # A shape of nothing: what only the weights would tell cannot come back from a configuration.
        fields = family.to_spec(Given(Config(config, f"{family.name}'s configuration")))
        found = meaning(ModelSpec.from_dict(fields))
    except UserError as error:
        return config, {_culprit(error): (str(error), None)}
    names = [name for name in (*wanted, *found) if not _alike(wanted.get(name), found.get(name))]
    names = [name for name in names if name in wanted or f"{name.split('.')[0]}.kind" not in names]
    if "positions.kind" in names:  # its own fields differ with it
        names = [name for name in names if name == "positions.kind" or not name.startswith("positions.")]
    return config, {name: (wanted.get(name), found.get(name)) for name in dict.fromkeys(names)}


def _culprit(error: UserError) -> str:
    """The field that a refusal begins with."""
    head = str(error).split(":")[1 if str(error).count(":") > 1 else 0].strip()
    return head.split(" ")[0] or "family"


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9)
    return bool(a == b)


def in_the_way(family: Family, spec: ModelSpec) -> list[str]:
    """Names of the spec's fields that the family cannot express; empty: it can be exported."""
    if family.from_spec is None:
        return ["family"]
    return list(written(family, spec)[1])
