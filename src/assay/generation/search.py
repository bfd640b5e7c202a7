"""The loop: choose a token a row, say so, stop where a row has ended."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from assay.generation.decoding import Decoding
from assay.generation.sampling import Chooser
from assay.generation.settings import Settings
from assay.generation.text import StopTexts

Stream = Callable[[Tensor], object]


def search(
    run: Decoding, say: Settings, choose: Chooser, stops: StopTexts | None, stream: Stream | None
) -> Int[Tensor, "b new"]:
    """New tokens, a row each; shorter than asked for where every row has ended, ended rows filled.

    Args:
        run: the state.
        say: how many, what ends a row, what fills it.
        choose: from logits to tokens.
        stops: texts that end a row.
        stream: handed every step's new tokens [B].
    """
    rows, device = len(run.ids), run.ids.device
    made = torch.full((rows, say.max_new_tokens), say.fill, dtype=run.ids.dtype, device=device)
    if say.max_new_tokens == 0:
        return made
    ends = torch.tensor(say.eos, dtype=run.ids.dtype, device=device)
    may_end = bool(say.eos) or stops is not None
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    logits = run.begin()
    for step in range(say.max_new_tokens):
        tokens = choose(logits)
        if may_end:
            tokens = torch.where(ended, say.fill, tokens)
        made[:, step] = tokens
        if stream is not None:
            stream(tokens)
        if may_end:
            ended |= torch.isin(tokens, ends)
            if stops is not None:
                ended |= stops.reached(made, step + 1, ended)
            if bool(ended.all()):
                return made[:, : step + 1]
        if step + 1 < say.max_new_tokens:
            logits = run.step(tokens)
    return made
