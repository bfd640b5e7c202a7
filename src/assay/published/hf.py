"""What many Hugging Face configurations have in common, both ways, so that family files hold what is their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.published.base import Fields
from assay.published.config import Config
from assay.spec.axes import Activation, PositionKind, RopeScalingKind
from assay.spec.model import ModelSpec
from assay.spec.parts import RopeScaling

__all__ = [
    "SPELLED", "activation", "heads_of", "layer_types", "llama_heads", "rope", "rope_fields", "tokens", "tokens_of",
    "window_layers", "windows",
]  # fmt: skip

ACTIVATIONS = {
    "gelu": Activation.gelu,
    "gelu_python": Activation.gelu,
    "gelu_new": Activation.gelu_tanh,
    "gelu_fast": Activation.gelu_tanh,
    "gelu_pytorch_tanh": Activation.gelu_tanh,
    "silu": Activation.silu,
    "swish": Activation.silu,
    "relu": Activation.relu,
    "relu2": Activation.relu2,
}
"""transformers' names. `gelu_fast` and `gelu_new` write the tanh approximation in two ways."""

SPELLED = {
    Activation.gelu: "gelu",
    Activation.gelu_tanh: "gelu_pytorch_tanh",
    Activation.silu: "silu",
    Activation.relu: "relu",
    Activation.relu2: "relu2",
}
"""The way back."""


def activation(config: Config, *names: str, default: str) -> str:
    """The nonlinearity named in a field.

    Raises:
        UserError: one that assay does not have.
    """
    name = config.text(*names, default=default)
    if name not in ACTIVATIONS:
        field = next(n for n in names if config.raw(n) == name)
        raise config.fail(field, "this activation is not supported.", f"Supported: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name].value


def tokens(config: Config, *, pad: int | None = None, bos: int | None = None, eos: int | None = None) -> Fields:
    """Special tokens; the keywords are the family's defaults where the configuration has no such field."""
    ends = config.raw("eos_token_id", eos)
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    said = {"pad": config.raw("pad_token_id", pad), "bos": config.raw("bos_token_id", bos)}
    said["decoder_start"] = config.raw("decoder_start_token_id")
    size = config.integer("vocab_size", "padded_vocab_size", default=None)
    # Published files say -1, or an id past the table, for "none".
    inside = {name: t for name, t in said.items() if _is_token(t, size)}
    return {**inside, "eos": [t for t in ends if _is_token(t, size)]}


def _is_token(value: Any, size: int | None) -> bool:
    return isinstance(value, int) and value >= 0 and (size is None or value < size)


def tokens_of(spec: ModelSpec) -> Fields:
    """Special tokens, as a configuration says them."""
    say = spec.tokens
    ends: Any = list(say.eos)
    return {
        "pad_token_id": say.pad,
        "bos_token_id": say.bos,
        "eos_token_id": None if not ends else ends[0] if len(ends) == 1 else ends,
    }


def rope(config: Config, *, theta: float = 10_000.0, context: int) -> Fields:
    """Rotary positions: `rope_theta`, `rope_scaling` (`type` or `rope_type`), `partial_rotary_factor`.

    transformers 5 writes all of it into one field, `rope_parameters`.

    Raises:
        UserError: a scaling that assay does not have, or one that lacks a field.
    """
    scaling = config.raw("rope_scaling") or config.raw("rope_parameters") or {}
    if not isinstance(scaling, dict):
        raise config.fail("rope_scaling", "an object with type and factor belongs here.")
    one = Config({**scaling, **{n: v for n, v in config.fields.items() if v is not None}}, config.place)
    fields: Fields = {"kind": "rope", "theta": float(one.number("rope_theta", default=theta))}
    fraction = one.number("partial_rotary_factor", default=None)
    if fraction is not None:
        fields["fraction"] = float(fraction)
    if scaling:
        stretched = _scaling(config, scaling, context)
        if stretched:
            fields["scaling"] = stretched
    return fields


def _scaling(config: Config, said: Fields, context: int) -> Fields | None:
    kind = said.get("rope_type") or said.get("type") or "default"
    if kind == "default":
        return None
    if not isinstance(kind, str) or kind not in RopeScalingKind.__members__:
        known = ", ".join(RopeScalingKind)
        raise config.fail("rope_scaling", f"the scaling {kind!r} is not supported.", f"Supported: {known}.")
    if not isinstance(said.get("factor"), int | float):
        raise config.fail("rope_scaling", "factor is missing.", "Give the factor that the weights were trained with.")
    fields: Fields = {"kind": kind, "factor": float(said["factor"])}
    original = said.get("original_max_position_embeddings")
    if kind == RopeScalingKind.dynamic:
        # The published code stretches from max_position_embeddings, whatever the original length is said to be.
        fields["original_length"] = context
    elif kind == RopeScalingKind.yarn:
        fields["original_length"] = original or context
        fields |= {n: said[n] for n in ("beta_fast", "beta_slow", "attention_factor", "mscale") if said.get(n)}
        fields |= {"mscale_all_dim": said["mscale_all_dim"]} if said.get("mscale_all_dim") else {}
        fields |= {"truncate": said["truncate"]} if "truncate" in said else {}
    elif kind == RopeScalingKind.llama3:
        if original is None:
            raise config.fail("rope_scaling", "original_max_position_embeddings is missing.")
        fields["original_length"] = original
        fields["low_frequency"] = said.get("low_freq_factor", 1.0)
        fields["high_frequency"] = said.get("high_freq_factor", 4.0)
    return fields


def rope_fields(spec: ModelSpec) -> Fields:
    """Rotary positions, as a configuration says them."""
    say = spec.positions
    fields: Fields = {"rope_theta": say.theta}
    if say.kind is not PositionKind.rope:
        return fields
    if say.fraction != 1:
        fields["partial_rotary_factor"] = say.fraction
    fields["rope_scaling"] = None if say.scaling is None else _said(say.scaling)
    return fields


def _said(say: RopeScaling) -> Fields:
    fields: Fields = {"rope_type": say.kind.value, "factor": say.factor}
    if say.kind is RopeScalingKind.llama3:
        fields |= {"low_freq_factor": say.low_frequency, "high_freq_factor": say.high_frequency}
        fields |= {"original_max_position_embeddings": say.original_length}
    elif say.kind is RopeScalingKind.yarn:
        fields |= {"beta_fast": say.beta_fast, "beta_slow": say.beta_slow, "truncate": say.truncate}
        fields |= {"original_max_position_embeddings": say.original_length}
        more = ("attention_factor", "mscale", "mscale_all_dim")
        fields |= {name: getattr(say, name) for name in more if getattr(say, name) is not None}
    return fields


def llama_heads(config: Config, **defaults: Any) -> Fields:
    """Heads, key-value heads and head width under the names that LLaMA's successors share.

    Args: config; defaults: `kv_heads` and `head_width` where the class has them.
    """
    heads = config.integer("num_attention_heads")
    fields: Fields = {"heads": heads}
    kv = config.integer(
        "num_key_value_heads", default=_unless_said(config, "num_key_value_heads", defaults, "kv_heads")
    )
    width = config.integer("head_dim", default=_unless_said(config, "head_dim", defaults, "head_width"))
    # What follows from other fields stays unsaid, so that one architecture has one description.
    if kv not in (None, heads):
        fields["kv_heads"] = kv
    if width is not None and width * heads != config.integer("hidden_size"):
        fields["head_width"] = width
    fields["dropout"] = float(config.number("attention_dropout", default=0.0))
    return fields


def _unless_said(config: Config, name: str, defaults: Fields, field: str) -> Any:
    """The class's default; a null in the file means the general one instead."""
    return None if name in config else defaults.get(field)


def heads_of(spec: ModelSpec) -> Fields:
    """The way back of `llama_heads`."""
    return {
        "num_attention_heads": spec.heads("decoder"),
        "num_key_value_heads": spec.kv_heads("decoder"),
        "head_dim": spec.head_width("decoder"),
        "attention_dropout": spec.attention.dropout,
    }


def windows(size: int | None, layers: Sequence[int] | None) -> Fields:
    """A sliding window of a size in some layers (None: in all)."""
    if size is None or (layers is not None and not layers):
        return {}
    return {"window": size} if layers is None else {"window": size, "window_layers": list(layers)}


def layer_types(spec: ModelSpec) -> list[str]:
    """The way back of `window_layers`."""
    seen = (spec.window(layer) for layer in range(spec.layers))
    return ["full_attention" if window is None else "sliding_attention" for window in seen]


def window_layers(config: Config, count: int) -> list[int] | None:
    """Layers that `layer_types` calls sliding; None where there is no such field.

    Raises:
        UserError: a type that assay does not have, or as many types as there are no layers.
    """
    types = config.raw("layer_types")
    if types is None:
        return None
    if not isinstance(types, list) or len(types) != count:
        raise config.fail("layer_types", f"a list with one type for each of {count} layers belongs here.")
    known = ("full_attention", "sliding_attention")
    for kind in types:
        if kind not in known:
            raise config.fail("layer_types", f"{kind!r} is not supported.", f"Supported: {', '.join(known)}.")
    return [layer for layer, kind in enumerate(types) if kind == "sliding_attention"]
