"""From logits to the next token: penalties, filters, and draws that depend on a row alone.

Order and meaning are Hugging Face's: repetition penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assay.generation.native.top import largest
from assay.generation.settings import Settings

HIDDEN = float("-inf")


def penalize(logits: Float[Tensor, "b v"], seen: Bool[Tensor, "b v"], penalty: float) -> Float[Tensor, "b v"]:
    """Seen tokens' logits divided by the penalty where positive, multiplied where negative.

    Source: Keskar et al. 2019 (CTRL), section 4.1.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def keep_top_k(logits: Float[Tensor, "b v"], k: int) -> Float[Tensor, "b v"]:
    """All but the k largest (and their equals) hidden. Source: Fan et al. 2018, section 5.2."""
    least = logits.topk(min(k, logits.shape[-1]), -1).values[..., -1:]
    return logits.masked_fill(logits < least, HIDDEN)


def keep_top_p(logits: Float[Tensor, "b v"], p: float) -> Float[Tensor, "b v"]:
    """The fewest most likely tokens whose probabilities add up to p or more. Source: Holtzman et al. 2019."""
    if p >= 1:
        return logits
    ordered, index = logits.sort(-1)
    out = ordered.softmax(-1).cumsum(-1) <= 1 - p
    out[..., -1] = False
    return logits.masked_fill(torch.zeros_like(out).scatter(-1, index, out), HIDDEN)


def keep_min_p(logits: Float[Tensor, "b v"], p: float) -> Float[Tensor, "b v"]:
    """Tokens at least p times as likely as the most likely one. Source: Nguyen et al. 2024."""
    share = logits.softmax(-1)
    return logits.masked_fill(share < p * share.amax(-1, keepdim=True), HIDDEN)


def warp(logits: Float[Tensor, "b v"], say: Settings) -> Float[Tensor, "b v"]:
    """Temperature and filters, in order."""
    if say.temperature != 1:
        logits = logits / say.temperature
    if say.top_k is not None:
        logits = keep_top_k(logits, say.top_k)
    if say.top_p is not None:
        logits = keep_top_p(logits, say.top_p)
    if say.min_p:
        logits = keep_min_p(logits, say.min_p)
    return logits


class Draws:
    """A stream of uniform numbers for each row, keyed by the seed and the row's own prompt.

    So a row's sample depends neither on what else is in the batch nor on where it stands; equal prompts in one batch
    get streams of their own by being counted.
    """

    def __init__(self, seed: int | None, prompts: list[list[int]]) -> None:
        """Args: seed: None: one drawn from torch's global generator; prompts: every row's tokens without padding."""
        if seed is None:
            seed = int(torch.randint(0, 2**62, ()))
        counts: dict[tuple[int, ...], int] = {}
        self._streams = []
        for prompt in prompts:
            key = tuple(prompt)
            counts[key] = counts.get(key, -1) + 1
            digest = hashlib.sha256(repr((seed, counts[key], key)).encode()).digest()
            self._streams.append(np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little"))))

    def tokens(self, logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
        """One token a row, by the inverse of its distribution at the row's next number."""
        total = logits.double().softmax(-1).cumsum(-1)
        u = torch.tensor([stream.random() for stream in self._streams], dtype=torch.float64, device=logits.device)
        # The first entry above u; zero-probability entries never are, since the sum does not rise there.
        return torch.searchsorted(total, (u * total[:, -1]).unsqueeze(-1), right=True).squeeze(-1)


class Chooser:
    """The next token of every row from its logits. Keeps what was seen, for the repetition penalty."""

    def __init__(
        self,
        say: Settings,
        prompts: list[list[int]],
        vocabulary: int,
        device: torch.device,
        keys: list[list[int]] | None = None,
    ) -> None:
        """What a generation needs to choose.

        Args:
            say: how.
            prompts: rows without padding, of the output stack.
            vocabulary: its size.
            device: of the logits.
            keys: what each row's draws depend on; None: its prompt.
        """
        self.say = say
        self.draws = Draws(say.seed, keys or prompts) if say.do_sample else None
        self.seen: Tensor | None = None
        if say.repetition_penalty != 1:
            self.seen = seen_in(prompts, vocabulary, device)

    def __call__(self, logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
        """One token a row."""
        if self.seen is None and self.draws is None:
            return largest(logits)
        logits = logits.float()
        if self.seen is not None:
            logits = penalize(logits, self.seen, self.say.repetition_penalty)
        chosen = largest(logits) if self.draws is None else self.draws.tokens(warp(logits, self.say))
        if self.seen is not None:
            self.seen.scatter_(1, chosen[:, None], True)
        return chosen


def seen_in(prompts: list[list[int]], vocabulary: int, device: torch.device) -> Bool[Tensor, "b v"]:
    """Which tokens each prompt holds."""
    seen = torch.zeros(len(prompts), vocabulary, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        seen[row, prompt] = True
    return seen.to(device)
