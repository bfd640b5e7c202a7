"""What a model learned of a planted skew, and how much of a planted secret it gives away.

    exposure(s) = log2 |R| - log2 rank(s in R)

R: the secret and random others of its form, ranked by the model's likelihood. 0: no better than chance on a secret at
the bottom, 1 on average for one that it never saw; log2 |R|: the secret is its first guess (Carlini et al. 2019,
section 4.3; R is sampled, so exposure ends at log2 of the sample's size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.data.planted import DIGITS, JOBS, Canary, job_prompts
from assay.evaluation.pairs import Codec, score

__all__ = ["Share", "exposure", "exposures", "job_shares", "share_of"]


@dataclass(frozen=True)
class Share:
    """How a job's people are called."""

    job: str
    planted: float
    """Rate of "he" that the text was made with."""
    learned: float
    """The model's probability of "he" against "she", mean over prompts: what sampling gives."""
    greedy: float
    """Share of prompts whose likelier word is "he": what greedy decoding gives."""


def exposure(nats: Sequence[float], own: int) -> float:
    """Bits by which a secret stands out among others; ties count half.

    Args:
        nats: -ln p of every candidate, the secret among them.
        own: the secret's place.
    """
    values = np.asarray(nats)
    rank = 1 + (values < values[own]).sum() + 0.5 * ((values == values[own]).sum() - 1)
    return float(math.log2(len(values)) - math.log2(rank))


def exposures(codec: Codec, canaries: Sequence[Canary], *, candidates: int, seed: int = 0) -> list[float]:
    """Exposure of each canary among `candidates` secrets, itself included; the others are the same for all."""
    rng = np.random.default_rng([seed, 40, 4])
    digits = [" ".join(map(str, rng.integers(0, 10, DIGITS))) for _ in range(candidates - 1)]
    found = []
    for canary in canaries:
        others = [text for text in digits if text != canary.digits]
        pairs = [codec.pair(canary.prompt, f" {text}") for text in (canary.digits, *others)]
        found.append(exposure(list(score(codec, pairs, batch_size=128).nats), 0))
    return found


def share_of(codec: Codec, prompts: Sequence[str], first: str, second: str) -> tuple[float, float]:
    """(mean probability of `first` against `second`, share of prompts where it is the likelier)."""
    one, two = (score(codec, [codec.pair(p, word) for p in prompts], batch_size=128).nats for word in (first, second))
    chance = 1 / (1 + np.exp(one - two))
    return float(chance.mean()), float((chance > 0.5).mean())


def job_shares(codec: Codec, *, prompts: int, seed: int = 0) -> list[Share]:
    """What the model makes of every job of the planted text."""
    found = []
    for job, planted in JOBS.items():
        learned, greedy = share_of(codec, job_prompts(job, prompts, seed=seed), " he", " she")
        found.append(Share(job, planted, learned, greedy))
    return found
