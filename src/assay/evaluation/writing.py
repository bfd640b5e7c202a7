"""Answers written, greedily or drawn, by a model that writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from assay.errors import UserError
from assay.evaluation.pairs import Codec

__all__ = ["refuse_unwritten", "write"]


def write(
    codec: Codec,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int = 32,
    **how: Any,
) -> list[str]:
    """What the model writes behind each prompt, greedily unless `how` says otherwise, up to an end or a stop text.

    Args:
        codec: of the model.
        prompts: tokens of each (`Codec.prompt`).
        max_new_tokens: of each answer.
        stop: texts that end an answer and are left out of it.
        batch_size: prompts at a time.
        how: as in `Model.generate`.

    Raises:
        UserError: the model is an encoder.
    """
    refuse_unwritten(codec)
    texts = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    pad, model = codec.vocabulary.pad, codec.model
    for begin in range(0, len(order), batch_size):
        numbers = order[begin : begin + batch_size]
        width = len(prompts[numbers[0]])
        rows = [list(prompts[i]) for i in numbers]
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
        made = model.generate(
            ids, max_new_tokens=max_new_tokens, attention_mask=None if bool(mask.all()) else mask,
            stop=list(stop) or None, **how,
        )  # fmt: skip
        first = 1 if codec.two else width
        for number, row in zip(numbers, made[:, first:].tolist(), strict=True):
            texts[number] = _until(codec, row, stop)
    return texts


def refuse_unwritten(codec: Codec) -> None:
    """Refuse what only a model that writes can do.

    Raises:
        UserError: the model is an encoder.
    """
    if not codec.writes:
        raise UserError(
            "family = encoder: it writes no text; it chooses among the labels of a labelled file or a made task's "
            "choices.",
            "Take causal, prefix or encoder_decoder.",
        )


def _until(codec: Codec, ids: Sequence[int], stop: Sequence[str]) -> str:
    ends = {*codec.spec.tokens.eos, codec.vocabulary.eos}
    kept = []
    for token in ids:
        if token in ends:
            break
        kept.append(token)
    text = str(codec.model.tokenizer.decode(kept))
    cuts = [text.index(mark) for mark in stop if mark and mark in text]
    return text[: min(cuts)] if cuts else text
