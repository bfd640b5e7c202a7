"""Hypothesis strategies over every axis of a model: descriptions that are valid by construction."""

from typing import Any

from hypothesis import strategies as st

from assay.spec.axes import (
    Activation,
    Cast,
    Family,
    InitKind,
    NormKind,
    Pairing,
    Parallel,
    Placement,
    PositionKind,
    QKNorm,
)
from assay.spec.model import ModelSpec

names = st.text(max_size=12)
positive = st.floats(1e-3, 1e3, allow_nan=False)
shares = st.floats(0, 0.9)
booleans = st.booleans()


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or None: the field's own default."""
    return st.none() | strategy


def members(axis: Any) -> st.SearchStrategy[str]:
    """The names of an axis."""
    return st.sampled_from([str(member) for member in axis])


@st.composite
def norms(draw: st.DrawFn, placement: str) -> dict[str, Any]:
    kind = draw(members(NormKind).filter(lambda kind: not (placement == "residual" and kind == "none")))
    return {
        "kind": kind,
        "eps": draw(st.floats(0, 0.1)),
        "weight": draw(booleans),
        "bias": None if kind == "rmsnorm" else draw(maybe(booleans)),
        "cast": draw(members(Cast)),
        "plus_one": draw(booleans),
        "fraction": draw(st.floats(0.05, 1)) if kind == "rmsnorm" else 1.0,
        "max_scale": draw(maybe(positive)),
        "alpha": draw(positive),
    }


@st.composite
def placements(draw: st.DrawFn, family: str) -> dict[str, Any]:
    kind = draw(members(Placement))
    two = family == "encoder_decoder"
    return {
        "kind": kind,
        "skip": draw(maybe(st.sampled_from(["stream", "normed"]))) if kind in ("pre", "glm130b") else None,
        "alpha": draw(maybe(positive)),
        "beta": draw(maybe(positive)),
        "encoder_alpha": draw(maybe(positive)) if two else None,
        "encoder_beta": draw(maybe(positive)) if two else None,
        "mix": draw(st.floats(0, 1)),
        "embedding_norm": draw(maybe(booleans)),
        "final_norm": draw(maybe(booleans)),
    }


@st.composite
def scalings(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": draw(st.sampled_from(["linear", "dynamic", "llama3", "yarn"])),
        "factor": draw(positive),
        "original_length": draw(st.integers(1, 8192)),
        "attention_factor": draw(maybe(positive)),
        "truncate": draw(booleans),
    }


@st.composite
def positions(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(members(PositionKind))
    rope = kind == "rope"
    xpos = draw(booleans) if rope else False
    return {
        "kind": kind,
        "offset": draw(st.integers(0, 2)),
        "theta": draw(st.floats(1, 1e7)),
        "fraction": draw(st.sampled_from([0.5, 1.0])),
        "pairing": draw(members(Pairing)),
        "axes": draw(st.sampled_from([1, 2])) if kind in ("rope", "learned") and not xpos else 1,
        "scaling": draw(maybe(scalings())) if rope else None,
        "xpos": xpos,
        "half_frequencies": draw(booleans),
        "buckets": draw(st.integers(4, 64)),
        "max_distance": draw(st.integers(32, 256)),
        "per_layer": draw(booleans),
    }


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """The fields of a valid model as plain data."""
    family = draw(members(Family))
    vocab_size = draw(st.integers(8, 300))
    layers = draw(st.integers(1, 6))
    heads = draw(st.sampled_from([1, 2, 3, 4, 8]))
    width = heads * draw(st.sampled_from([8, 16]))
    token = st.integers(0, vocab_size - 1)
    placement = draw(placements(family))
    parallel = draw(members(Parallel))
    if placement["kind"] == "residual" or (placement["skip"] == "normed" or placement["kind"] == "glm130b"):
        parallel = "none"
    window = draw(maybe(st.integers(1, 64)))
    kinds = ["lm", "none", *(["mlm"] if family == "encoder" else [])]
    return {
        "name": draw(names),
        "family": family,
        "vocab_size": vocab_size,
        "width": width,
        "layers": layers,
        "context": draw(st.integers(1, 128)),
        "norm": draw(norms(placement["kind"])),
        "placement": placement,
        "parallel": parallel,
        "positions": draw(positions()),
        "attention": {
            "heads": heads,
            "kv_heads": draw(maybe(st.sampled_from([d for d in range(1, heads + 1) if heads % d == 0]))),
            "head_width": draw(maybe(st.sampled_from([8, 16, 24]))),
            "qkv_bias": draw(booleans),
            "out_bias": draw(booleans),
            "qk_norm": draw(members(QKNorm)),
            "scale": draw(maybe(positive)),
            "scale_by_layer": draw(booleans),
            "softcap": draw(maybe(positive)),
            "window": window,
            "window_layers": draw(maybe(st.lists(st.integers(0, layers - 1), unique=True))) if window else None,
            "clip_qkv": draw(maybe(positive)),
            "relax": draw(maybe(positive)),
            "dropout": draw(shares),
        },
        "feedforward": {
            "width": draw(maybe(st.integers(1, 64))),
            "activation": draw(members(Activation)),
            "gated": draw(booleans),
            "bias": draw(booleans),
            "experts": draw(maybe(st.builds(dict, count=st.integers(2, 4), active=st.integers(1, 2)))),
            "dropout": draw(shares),
        },
        "embedding": {
            "scale": draw(maybe(positive)),
            "token_types": draw(st.integers(0, 2)),
            "gradient_shrink": draw(st.floats(0.1, 1)),
        },
        "head": {
            "kind": draw(st.sampled_from(kinds)),
            "tied": draw(booleans),
            "bias": draw(booleans),
            "scale": draw(maybe(positive)),
            "softcap": draw(maybe(positive)),
            "normalised": draw(booleans),
            "sentence_pair": draw(booleans) if family == "encoder" else False,
        },
        "init": {"kind": draw(members(InitKind)), "std": draw(maybe(positive)), "embedding_std": draw(maybe(positive))},
        "dropout": draw(shares),
        "encoder": {
            "layers": draw(maybe(st.integers(1, 6))),
            "feedforward_width": draw(maybe(st.integers(1, 64))),
        }
        if family == "encoder_decoder"
        else {},
        "tokens": {
            "pad": draw(maybe(token)),
            "bos": draw(maybe(token)),
            "eos": draw(st.lists(token, max_size=3)),
            "mask": draw(maybe(token)),
        },
        "prompt": draw(st.just({}) | st.builds(dict, rule=st.sampled_from(["chatglm", "glm130b"]), sop=token))
        if family == "prefix"
        else {},
    }


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """A valid model."""
    return ModelSpec.from_dict(draw(fields()))
