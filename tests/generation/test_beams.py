"""Greedy and beam search equal transformers', on Llama and T5 with the same random weights."""

from typing import Any

import pytest
import torch
from tests.generation.peers import llama, t5
from tests.nn.common import tokens


def both(which: str, seed: int) -> tuple[Any, Any]:
    return llama(seed) if which == "llama" else t5(seed)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = 6 + tokens(3, 7, vocab=30, seed=9)
    mask = torch.ones_like(ids)
    mask[0, :3], mask[2, :1] = 0, 0
    return torch.where(mask.bool(), ids, 2), mask


@pytest.mark.parametrize("which", ["llama", "t5"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_is_theirs(which: str, seed: int) -> None:
    ours, theirs = both(which, seed)
    ids, mask = batch()
    a = ours.generate(ids, attention_mask=mask, max_new_tokens=14)
    b = theirs.generate(ids, attention_mask=mask, max_new_tokens=14, do_sample=False)
    assert a.tolist() == b.tolist()


@pytest.mark.parametrize("which", ["llama", "t5"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"length_penalty": 0.0},
        {"length_penalty": 2.0, "early_stopping": True},
        {"repetition_penalty": 1.4},
        {"use_cache": False},
    ],
    ids=str,
)
def test_beams_are_theirs(which: str, seed: int, how: dict[str, Any]) -> None:
    ours, theirs = both(which, seed)
    ids, mask = batch()
    if "repetition_penalty" in how:  # theirs also counts padding as seen
        mask = torch.ones_like(mask)
    a = ours.generate(ids, attention_mask=mask, max_new_tokens=14, num_beams=4, **how)
    b = theirs.generate(ids, attention_mask=mask, max_new_tokens=14, num_beams=4, do_sample=False, **how)
    assert a.tolist() == b.tolist()


def test_some_beams_end_and_differ_from_greedy() -> None:
    """Else the comparisons above would show little."""
    ended = different = 0
    for which in ("llama", "t5"):
        for seed in range(4):
            ours, _ = both(which, seed)
            ids, mask = batch()
            a = ours.generate(ids, attention_mask=mask, max_new_tokens=14, num_beams=4)
            b = ours.generate(ids, attention_mask=mask, max_new_tokens=14)
            ended += int((a[:, -1] == 2).sum())
            different += a.shape != b.shape or not torch.equal(a, b)
    assert ended > 3 and different > 3


def test_a_beam_is_at_least_as_likely_as_greedy_without_an_end() -> None:
    ours, _ = llama(1)
    ids = 6 + tokens(1, 6, vocab=30, seed=3)

    def score(out: torch.Tensor) -> float:
        with torch.no_grad():
            chances = ours(out).logits.log_softmax(-1)[0, 5:-1]
        return float(chances.gather(1, out[0, 6:, None]).sum())

    beams, plain = (ours.generate(ids, max_new_tokens=8, num_beams=n, ignore_eos=True) for n in (5, 1))
    assert score(beams) >= score(plain)
