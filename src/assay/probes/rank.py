"""Rank of every head's attention matrix, and of the representations layer by layer.

    report = rank(model, input_ids)                      # any model, its own mask
    report.heads[0].effective, report.layers[-1].cosine

Pure attention drives tokens together at a doubly exponential rate; skips and feed-forward networks stop it (Dong et al.
2021). The measures disagree with one another, and none is 'the' rank: exact rank says nothing of conditioning, and
generic softmax matrices are of full exact rank under any mask. A causal softmax matrix is triangular with a positive
diagonal, so of full rank without rounding: `diagonal` tells whether that diagonal survived in floating point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from assay.errors import UserError
from assay.generation.model import Model
from assay.generation.visibility import self_context
from assay.nn.transformer import Transformer
from assay.probes.looking import held_still
from assay.probes.spectra import (
    condition_number,
    effective_rank,
    exact_rank,
    mean_cosine,
    singular_values,
    stable_rank,
    token_residual,
)
from assay.spec.axes import Family, NormKind
from assay.spec.masks import Causal, Mask
from assay.spec.model import ModelSpec

__all__ = ["ABLATIONS", "HeadRank", "LayerRank", "RankReport", "ablated", "rank"]

ABLATIONS = ("skip", "feedforward", "norm")
"""What can be taken out of a description."""

_POINT = re.compile(
    r"(?P<stack>\w+)\.blocks\.(?P<layer>\d+)\.(?P<what>out|(?:cross_)?attention\.pattern|feedforward\.out)"
)


@dataclass(frozen=True)
class HeadRank:
    """One head's attention matrix; means over the examples (of the condition number, the median)."""

    stack: str
    sublayer: str
    """attention or cross_attention."""
    layer: int
    """From 1."""
    head: int
    """From 1."""
    size: int
    """Keys, the rank at most."""
    exact: float
    effective: float
    stable: float
    condition: float
    """Infinite where rounding hides the smallest singular value."""
    diagonal: bool | None
    """Of a triangular matrix: whether every diagonal entry is above 0, so that its rank is full; None of others."""


@dataclass(frozen=True)
class LayerRank:
    """The tokens' representations after a layer (0: the embedding); means over the examples."""

    stack: str
    layer: int
    effective: float
    residual: float
    """min |X - 1 v^T| / |X|: 0 where all tokens are the same."""
    rank_one: float
    """min |X - u v^T| / |X|, of any rank-1 matrix: sqrt(1 - s_1^2 / sum s^2)."""
    cosine: float
    """Mean over pairs of different tokens."""


@dataclass(frozen=True)
class RankReport:
    """One model on one batch."""

    heads: tuple[HeadRank, ...]
    layers: tuple[LayerRank, ...]


@dataclass
class _Meter:
    """A tap that measures patterns and streams as they pass, and silences what was taken out."""

    silent: bool = False
    """Whether the feed-forward adds nothing."""
    attention: bool = True
    heads: list[HeadRank] = field(default_factory=list)
    layers: list[LayerRank] = field(default_factory=list)

    def wants(self, name: str) -> bool:
        if name.endswith(".embedding"):
            return True
        found = _POINT.fullmatch(name)
        if found is None or (found["what"] == "feedforward.out" and not self.silent):
            return False
        return self.attention or not found["what"].endswith("pattern")

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if name.endswith(".embedding"):
            self.layers.append(_layer(name.partition(".")[0], 0, value))
            return value
        found = _POINT.fullmatch(name)
        assert found is not None
        if found["what"] == "feedforward.out":
            return torch.zeros_like(value)
        layer = int(found["layer"]) + 1
        if found["what"] == "out":
            # Of ResiDual's two streams the normed one, which the next layer reads.
            self.layers.append(_layer(found["stack"], layer, value[0] if value.dim() == 4 else value))
        else:
            self.heads += _heads(found["stack"], found["what"].removesuffix(".pattern"), layer, value)
        return value


def rank(
    model: Model | Transformer,
    input_ids: Int[Tensor, "b s"],
    *,
    decoder_input_ids: Int[Tensor, "b t"] | None = None,
    prefix_length: int | None = None,
    attention: bool = True,
    without: tuple[str, ...] = (),
) -> RankReport:
    """Measure one batch; the model stays as it is.

    Args:
        model: any family. An ablated one is made by `ablated`, which says what to hand in as `without`.
        input_ids: token ids without padding, 2 or more a row.
        decoder_input_ids: what an encoder-decoder's decoder reads.
        prefix_length: of a prefix decoder; None: the family's own rule (else causal).
        attention: measure attention matrices too, for which they are held whole, one layer at a time.
        without: "feedforward" silences those; "skip" and "norm" are `ablated`'s work and change nothing here.

    Raises:
        UserError: rows too short, or ids that the family has no stack for.
    """
    net = model.transformer if isinstance(model, Model) else model
    spec = net.spec
    if input_ids.dim() != 2 or input_ids.shape[1] < 2:
        raise UserError(f"input_ids has shape {tuple(input_ids.shape)}.", "Give rows of 2 tokens or more.")
    two = spec.family is Family.encoder_decoder
    if two != (decoder_input_ids is not None):
        raise UserError(
            f"decoder_input_ids: family {spec.family} {'needs them' if two else 'has one stack'}.",
            "Give what the decoder reads." if two else "Leave them out.",
        )
    meter = _Meter(silent="feedforward" in without, attention=attention)
    context = self_context(spec, input_ids, None, None, prefix_length)
    with held_still(net), torch.no_grad():
        if spec.family in (Family.causal, Family.prefix):
            net.decode(input_ids, context.mask, position_ids=context.position_ids, tap=meter)
        else:
            encoded = net.encode(input_ids, context.mask, position_ids=context.position_ids, tap=meter)
            if decoder_input_ids is not None:
                net.decode(
                    decoder_input_ids, Mask(Causal()), memory=encoded.hidden, memory_mask=context.mask, tap=meter
                )
    return RankReport(tuple(meter.heads), tuple(meter.layers))


def ablated(spec: ModelSpec, without: tuple[str, ...], *, seed: int = 0, dtype: str = "float32") -> Transformer:
    """A freshly built model without skips, feed-forward or norms; hand `without` to `rank` as well.

    Without skips a step gives what its sublayers give: alpha is 0. A silent feed-forward keeps its own skip, so that
    the stream passes it by. Norms become nothing.

    Raises:
        UserError: something that is no part, or a placement that is made of norms.
    """
    from assay.nn import build

    unknown = set(without) - set(ABLATIONS)
    if unknown:
        raise UserError(f"--without {sorted(unknown)[0]}: is no part.", f"Give any of {', '.join(ABLATIONS)}.")
    if "norm" in without:
        spec = spec.with_(norm=NormKind.none.value)
    if "skip" not in without:
        return build(spec, seed=seed, dtype=dtype)
    # Any alpha but 1 becomes a tensor of the block, which can be 0 where the description's cannot.
    fields = {"placement.alpha": 0.5} | ({"placement.encoder_alpha": 0.5} if len(spec.stacks) == 2 else {})
    net = build(spec.with_(**fields), seed=seed, dtype=dtype)
    for name, buffer in net.named_buffers():
        if name.endswith("_alpha"):
            passes = "feedforward" in without and name.endswith("feedforward_alpha")
            buffer.fill_(1.0 if passes else 0.0)
    return net


def _heads(stack: str, sublayer: str, layer: int, pattern: Tensor) -> list[HeadRank]:
    rows, columns = pattern.shape[-2:]
    square = rows == columns and sublayer == "attention"
    triangular = square and not bool(pattern.triu(1).any())
    values = singular_values(pattern, triangular=triangular)  # [b, heads, k]
    size = max(rows, columns)
    exact = exact_rank(values, size, pattern.dtype).mean(0)
    effective, stable = effective_rank(values).mean(0), stable_rank(values).mean(0)
    condition = condition_number(values, size, pattern.dtype).quantile(0.5, dim=0, interpolation="lower")
    positive = (pattern.diagonal(dim1=-2, dim2=-1) > 0).all(-1).all(0)
    return [
        HeadRank(
            stack, sublayer, layer, h + 1, min(rows, columns), float(exact[h]), float(effective[h]), float(stable[h]),
            float(condition[h]), bool(positive[h]) if triangular else None,
        )
        for h in range(pattern.shape[1])
    ]  # fmt: skip


def _layer(stack: str, layer: int, x: Tensor) -> LayerRank:
    values = singular_values(x)
    squares = values.square()
    rest = squares[..., 1:].sum(-1) / squares.sum(-1).clamp_min(1e-300)
    return LayerRank(
        stack, layer, float(effective_rank(values).mean()), float(token_residual(x).mean()),
        float(rest.sqrt().mean()), float(mean_cosine(x).mean()),
    )  # fmt: skip
