"""Filters against Hugging Face's own on random logits; draws by distribution, seed and row."""

import pytest
import torch
from tests.generation.common import model
from tests.nn.common import tokens
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from assay.generation.sampling import Draws, keep_min_p, keep_top_k, keep_top_p, penalize, seen_in, warp
from assay.generation.settings import Settings


def random_logits(rows: int = 5, vocab: int = 60) -> torch.Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("k", [1, 5, 60, 100])
def test_top_k(k: int) -> None:
    assert torch.equal(keep_top_k(random_logits(), k), TopKLogitsWarper(k)(None, random_logits()))


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9, 0.999])
def test_top_p(p: float) -> None:
    assert torch.equal(keep_top_p(random_logits(), p), TopPLogitsWarper(p)(None, random_logits()))


@pytest.mark.parametrize("p", [0.01, 0.2, 1.0])
def test_min_p(p: float) -> None:
    assert torch.equal(keep_min_p(random_logits(), p), MinPLogitsWarper(p)(None, random_logits()))


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_repetition_penalty(penalty: float) -> None:
    ids, logits = tokens(5, 9, vocab=60), random_logits()
    ours = penalize(logits, seen_in(ids.tolist(), 60, logits.device), penalty)
    assert torch.equal(ours, RepetitionPenaltyLogitsProcessor(penalty)(ids, logits))


def test_filters_in_their_order() -> None:
    say = Settings(max_new_tokens=1, do_sample=True, temperature=0.7, top_k=20, top_p=0.8, min_p=0.05)
    theirs = random_logits()
    for step in (TemperatureLogitsWarper(0.7), TopKLogitsWarper(20), TopPLogitsWarper(0.8), MinPLogitsWarper(0.05)):
        theirs = step(None, theirs)
    assert torch.equal(warp(random_logits(), say), theirs)


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, float("-inf"), 2.0, -1.0]]).expand(4000, 5)
    drawn = Draws(3, [[i] for i in range(4000)]).tokens(logits)
    share = torch.bincount(drawn, minlength=5) / 4000
    assert share[2] == 0
    assert (share - logits[0].softmax(-1)).abs().max() < 0.03  # 3.9 standard errors


def test_a_seed_repeats_and_another_differs() -> None:
    m, row = model(), tokens(1, 5)
    how = {"max_new_tokens": 12, "do_sample": True}
    first = m.generate(row, seed=7, **how)
    assert torch.equal(first, m.generate(row, seed=7, **how))
    assert not torch.equal(first, m.generate(row, seed=8, **how))
    torch.manual_seed(1)
    a = m.generate(row, **how)
    b = m.generate(row, **how)
    torch.manual_seed(1)
    assert torch.equal(a, m.generate(row, **how)) and not torch.equal(a, b)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_row_s_sample_does_not_depend_on_its_batch(use_cache: bool) -> None:
    m = model()
    how = {"max_new_tokens": 12, "do_sample": True, "seed": 4, "top_p": 0.95, "repetition_penalty": 1.2}
    row, other = tokens(1, 5, seed=1), tokens(1, 8, seed=2)
    padded = torch.cat((torch.full((1, 3), 6), row), 1)
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[0, :3] = 0
    both = m.generate(torch.cat((padded, other)), attention_mask=mask, use_cache=use_cache, **how)
    assert both[0, 8:].tolist() == m.generate(row, **how)[0, 5:].tolist()
    assert both[1, 8:].tolist() == m.generate(other, **how)[0, 8:].tolist()


def test_equal_prompts_in_a_batch_get_samples_of_their_own() -> None:
    m = model()
    out = m.generate(tokens(1, 5).expand(3, 5), max_new_tokens=12, do_sample=True, seed=0)
    assert len({tuple(row) for row in out.tolist()}) == 3


def test_greedy_with_a_penalty_is_hugging_face_s() -> None:
    m, ids = model(), tokens(1, 5)
    out = m.generate(ids, max_new_tokens=9, repetition_penalty=4.0)
    for _ in range(9):
        with torch.no_grad():
            logits = RepetitionPenaltyLogitsProcessor(4.0)(ids, m(ids).logits[:, -1])
        ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), 1)
    assert torch.equal(out, ids)
    assert not torch.equal(out, m.generate(tokens(1, 5), max_new_tokens=9))
