"""How to continue a text, as a value: the arguments of `generate`, checked once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from assay.errors import UserError
from assay.spec.model import ModelSpec


@dataclass(frozen=True)
class Settings:
    """The arguments of `Model.generate` that say which token comes next and when to stop."""

    max_new_tokens: int
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None
    eos: tuple[int, ...] = ()
    """Tokens that end a row; empty where none does, or none shall."""
    fill: int = 0
    """What finished rows are filled with."""


def settings(
    spec: ModelSpec,
    *,
    max_new_tokens: int,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    stop: str | Sequence[str] | None = None,
    seed: int | None = None,
    ignore_eos: bool = False,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    has_tokenizer: bool = False,
) -> Settings:
    """Checked settings.

    Raises:
        UserError: naming the argument, its value and what would work.
    """
    _whole("max_new_tokens", max_new_tokens, 0)
    _whole("num_beams", num_beams, 1)
    if not 0 < temperature < math.inf:
        raise UserError(
            f"temperature: {temperature}; logits are divided by it, so it lies above 0. "
            "For the most likely token each time, leave do_sample=False."
        )
    if top_k is not None:
        _whole("top_k", top_k, 1, "None keeps every token.")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p: {top_p}; a share of the probability, above 0 and at most 1. None keeps every token.")
    if min_p is not None and not 0 <= min_p <= 1:
        raise UserError(f"min_p: {min_p}; a share of the best token's probability, from 0 to 1.")
    if not 0 < repetition_penalty < math.inf:
        raise UserError(f"repetition_penalty: {repetition_penalty}; a factor above 0. 1 changes nothing.")
    if num_beams > 1 and do_sample:
        raise UserError(f"num_beams: {num_beams} with do_sample=True; beam search keeps the best. Use one of the two.")
    if seed is not None:
        _whole("seed", seed, 0)
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if "" in stops:
        raise UserError(f"stop: {list(stops)!r}; give texts of at least one character.")
    if stops and not has_tokenizer:
        raise UserError(f"stop: {list(stops)!r} needs a tokenizer, and this model has none. Set model.tokenizer.")
    if not do_sample:
        given = {"temperature": temperature != 1, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        idle = [name for name, value in given.items() if value]
        if idle:
            warnings.warn(f"{', '.join(idle)}: no effect without do_sample=True.", stacklevel=4)
    ends = spec.tokens.eos if eos_token_id is None else eos_token_id
    ends = (ends,) if isinstance(ends, int) else tuple(ends)
    for name, tokens in (("eos_token_id", ends), ("pad_token_id", () if pad_token_id is None else (pad_token_id,))):
        for token in tokens:
            if not 0 <= token < spec.vocab_size:
                raise UserError(f"{name}: token {token} is outside the vocabulary of {spec.vocab_size}.")
    fill = pad_token_id if pad_token_id is not None else spec.tokens.pad
    return Settings(
        max_new_tokens=max_new_tokens,
        do_sample=do_sample,
        temperature=float(temperature),
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=float(repetition_penalty),
        num_beams=num_beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        stop=stops,
        seed=seed,
        eos=() if ignore_eos else ends,
        fill=fill if fill is not None else (ends[0] if ends else 0),
    )


def _whole(name: str, value: object, least: int, more: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}: {value!r}; a whole number from {least} up.{' ' + more if more else ''}")
