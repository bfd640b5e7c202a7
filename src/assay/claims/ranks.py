"""Ranks of trained runs on held-out text, for the claims that read them: C9 and C34."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median

from assay.claims.lab import Trained

__all__ = ["Ranks", "attention_of", "measured"]


@dataclass(frozen=True)
class Ranks:
    """One run: representations by layer (0: the embedding), and the means over its heads' attention matrices."""

    rank_one: tuple[float, ...]
    """Relative residual to the nearest rank-1 matrix."""
    cosine: tuple[float, ...]
    """Mean cosine between different tokens."""
    effective: tuple[float, ...]
    """Effective rank of the representations."""
    heads: dict[str, float]
    """exact, effective (both over the size), stable, condition (median), full (share of exact full rank)."""


def attention_of(heads: list[tuple[float, float, float, float, int]]) -> dict[str, float]:
    """Means over heads of (exact, effective, stable, condition, size)."""
    return {
        "exact": fmean(exact / size for exact, *_, size in heads),
        "full": fmean(exact >= size for exact, *_, size in heads),
        "effective": fmean(effective / size for _, effective, _, _, size in heads),
        "stable": fmean(stable for _, _, stable, _, _ in heads),
        "condition": median(condition for *_, condition, _ in heads),
    }


def measured(run: Trained, *, length: int, rows: int, attention: bool = True) -> Ranks:
    """Ranks on the first tokens of held-out windows, in float64.

    A causal decoder sees them causally; a prefix decoder has them all as its prefix; of an encoder-decoder the encoder
    is measured. So all see the same tokens, and the mask alone differs.

    Args:
        run: done.
        length: tokens of a row.
        rows: rows.
        attention: measure the heads too.
    """
    import torch

    from assay.probes.rank import rank
    from assay.spec.axes import Family

    net = run.model().transformer.double()
    windows = [window for window in run.text().windows(4 * rows) if len(window.prefix_ids) >= length][:rows]
    ids = torch.tensor([[int(token) for token in window.prefix_ids[:length]] for window in windows])
    two = net.spec.family is Family.encoder_decoder
    found = rank(
        net, ids, decoder_input_ids=ids if two else None,
        prefix_length=length if net.spec.family is Family.prefix else None, attention=attention,
    )  # fmt: skip
    stack = "encoder" if two else net.spec.output_stack
    layers = sorted((x for x in found.layers if x.stack == stack), key=lambda x: x.layer)
    heads = [
        (h.exact, h.effective, h.stable, h.condition, h.size)
        for h in found.heads
        if h.stack == stack and h.sublayer == "attention"
    ]
    return Ranks(
        tuple(x.rank_one for x in layers), tuple(x.cosine for x in layers), tuple(x.effective for x in layers),
        attention_of(heads) if heads else {},
    )  # fmt: skip
