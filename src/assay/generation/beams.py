"""Beam search with Hugging Face's scores and stopping rules, so that equal models give equal beams."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from assay.generation.decoding import Decoding
from assay.generation.native.top import top
from assay.generation.sampling import penalize, seen_in
from assay.generation.settings import Settings
from assay.generation.text import StopTexts

WORST = -1.0e9


def beam_search(
    run: Decoding, say: Settings, prompts: list[list[int]], stops: StopTexts | None
) -> Int[Tensor, "b new"]:
    """The best of `say.num_beams` hypotheses a row: sum of log-probabilities / length^length_penalty.

    Candidates that end are kept among the finished ones if they stand within the first `num_beams`; the search ends
    where no running hypothesis can still beat the worst finished one (`early_stopping`: once enough are finished).
    Source: Wu et al. 2016, section 7, with the conventions of Hugging Face's `generate`.
    """
    logits = run.begin()
    rows, beams, vocabulary = len(run.ids), say.num_beams, logits.shape[-1]
    device = logits.device
    new = say.max_new_tokens
    run.select(torch.arange(rows, device=device).repeat_interleave(beams))
    logits = logits.repeat_interleave(beams, 0)
    seen = None
    if say.repetition_penalty != 1:
        seen = seen_in([prompt for prompt in prompts for _ in range(beams)], vocabulary, device)
    kept = min(max(2, 1 + len(say.eos)) * beams, beams * vocabulary)
    ends = torch.tensor(say.eos, dtype=torch.long, device=device)
    running = torch.full((rows, beams, new), say.fill, dtype=torch.long, device=device)
    finished = running.clone()
    lengths = torch.zeros(rows, beams, dtype=torch.long, device=device)
    scores = torch.zeros(rows, beams, device=device)
    scores[:, 1:] = WORST
    best = torch.full((rows, beams), WORST, device=device)
    done = torch.zeros(rows, beams, dtype=torch.bool, device=device)
    hopeful = torch.ones(rows, 1, dtype=torch.bool, device=device)
    in_front = torch.arange(kept, device=device) < beams
    offset = torch.arange(rows, device=device)[:, None] * beams
    for step in range(new):
        chances = logits.float().log_softmax(-1)
        if seen is not None:
            chances = penalize(chances, seen, say.repetition_penalty)
        total = (chances.view(rows, beams, vocabulary) + scores[:, :, None]).flatten(1)
        value, index = top(total, kept)
        parent, token = index // vocabulary, index % vocabulary
        candidates = _gather(running, parent)
        candidates[:, :, step] = token
        ending = torch.isin(token, ends) | (step + 1 == new)
        if stops is not None:
            ending |= stops.found(candidates.flatten(0, 1)[:, : step + 1]).view_as(ending)
        # Running hypotheses of the next step: the best that do not end.
        order = (value + ending * WORST).topk(beams).indices
        running, scores = _gather(candidates, order), (value + ending * WORST).gather(1, order)
        chosen = (parent.gather(1, order) + offset).flatten()
        # Finished ones: old and new, the best `beams` of them.
        closed = ending & in_front
        final = value / ((step + 1) ** say.length_penalty)
        final = final + (done.all(-1, keepdim=True) & say.early_stopping) * WORST
        final = final + ~hopeful * WORST + ~closed * WORST
        merged = torch.cat((best, final), 1)
        order_finished = merged.topk(beams).indices
        finished = _gather(torch.cat((finished, candidates), 1), order_finished)
        lengths = torch.cat((lengths, torch.full_like(token, step + 1)), 1).gather(1, order_finished)
        best = merged.gather(1, order_finished)
        done = torch.cat((done, closed), 1).gather(1, order_finished)
        reachable = scores[:, :1] / ((step + 1) ** say.length_penalty)
        worst = torch.where(done, best.min(1, keepdim=True).values, WORST)
        hopeful = hopeful & (reachable > worst).any(-1, keepdim=True)
        enough = say.early_stopping and bool(done.all())
        if step + 1 == new or not bool(hopeful.any()) or enough or bool(ending.all()):
            break
        run.select(chosen)
        last = running[:, :, step].flatten()
        if seen is not None:
            seen = seen.index_select(0, chosen).scatter(1, last[:, None], True)
        logits = run.step(last)
    return finished[:, 0, : int(lengths[:, 0].max())] if new else finished[:, 0]


def _gather(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))
