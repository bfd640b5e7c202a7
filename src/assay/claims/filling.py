"""Infilling loss of trained runs, for the claims that read it: C6 and C31."""

from __future__ import annotations

from functools import cache

from assay.claims.lab import Trained
from assay.objectives.base import Ints
from assay.spec.data import DataSpec

__all__ = ["filled"]


def filled(run: Trained, *, length: int, count: int) -> float:
    """Nats of a hidden token of held-out text, 15% hidden in spans of 3, each run asked in the form it was trained on.

    A language model from the left; a denoiser by spans, UL2 with its mode token for short ones.

    Args:
        run: done.
        length: tokens of a piece.
        count: pieces at most.
    """
    from assay.evaluation.infilling import hidden_tokens, infilling
    from assay.spec.objective import ObjectiveKind

    model, kind = run.model(), run.run.objective.kind
    words = model.tokenizer.vocabulary
    texts = [
        hidden_tokens(tokens, words, number, density=0.15, mean_span=3.0)
        for number, tokens in enumerate(_pieces(run.run.data.model_dump_json(), length, count))
    ]
    left = kind in (ObjectiveKind.causal_lm, ObjectiveKind.prefix_lm)
    mode = "[NLU]" if kind is ObjectiveKind.ul2 else None
    return infilling(model.transformer, texts, words, form="left" if left else "spans", mode=mode)


@cache
def _pieces(data: str, length: int, count: int) -> list[Ints]:
    from assay.evaluation.infilling import pieces
    from assay.training.text import load_text

    text = load_text(DataSpec.model_validate_json(data))
    return pieces(text.heldout, text.tokenizer, length=length, count=count)
