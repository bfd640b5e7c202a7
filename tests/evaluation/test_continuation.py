"""Continuation bits per byte, against the definition worked out token by token."""

import math

import numpy as np
import pytest
import torch
from tests.training.conftest import sample_text

from assay.data.corpus import Corpus
from assay.data.tokenizer import ByteTokenizer
from assay.data.windows import windows
from assay.errors import UserError
from assay.evaluation.continuation import BUCKETS, continuation
from assay.nn import build
from assay.spec.model import ModelSpec

SMALL = {"width": 16, "layers": 2, "attention": {"heads": 2}, "vocab_size": 299}


@pytest.fixture
def given() -> tuple[ByteTokenizer, list]:
    tokenizer = ByteTokenizer()
    return tokenizer, windows(Corpus([sample_text(4000)], "t", "t"), tokenizer)


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
def test_it_is_the_loss_of_each_token_given_all_before_it(family: str, given: tuple) -> None:
    tokenizer, some = given
    model = build(ModelSpec.from_dict({"family": family, **SMALL}), seed=1)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)  # far from uniform
    found = continuation(model, some[:2], tokenizer.vocabulary, batch_size=2)
    from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Prefix

    nats = 0.0
    for window in some[:2]:
        prefix, rest = window.prefix_ids.astype(int), window.continuation_ids.astype(int)
        with torch.no_grad():
            if family == "encoder_decoder":
                memory = model.encode(torch.tensor(prefix)[None], Mask(Bidirectional())).hidden
                ids = torch.tensor([tokenizer.vocabulary.decoder_start, *rest[:-1]])[None]
                hidden = model.decode(ids, Mask(Causal()), memory=memory, memory_mask=Mask(Bidirectional())).hidden
                logits = model.logits(hidden)[0]
            else:
                ids = torch.tensor([tokenizer.vocabulary.bos, *prefix, *rest])[None]
                inside = (torch.arange(ids.shape[1]) <= len(prefix))[None]
                rule = Mask(Causal()) if family == "causal" else Mask(Causal() | Prefix(), MaskFacts(prefix=inside))
                logits = model.logits(model.decode(ids, rule).hidden)[0, len(prefix) : -1]
        nats -= torch.log_softmax(logits.double(), -1)[torch.arange(len(rest)), rest].sum().item()
    size = sum(w.continuation_bytes for w in some[:2])
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert found.nats_per_token == pytest.approx(nats / found.tokens, rel=1e-5)
    assert found.bytes.sum() == size


def test_an_untrained_model_guesses_uniformly(given: tuple) -> None:
    tokenizer, some = given
    found = continuation(build(ModelSpec.from_dict(SMALL | {"init": {"std": 0.02}})), some, tokenizer.vocabulary)
    assert found.bits_per_byte == pytest.approx(math.log2(299), rel=0.02)


def test_positions_add_up_and_batches_do_not_matter(given: tuple) -> None:
    tokenizer, some = given
    model = build(ModelSpec.from_dict(SMALL), seed=2)
    one, many = (continuation(model, some, tokenizer.vocabulary, batch_size=n) for n in (1, 3))
    np.testing.assert_allclose(one.nats, many.nats, rtol=1e-5)
    starts, means, counts = zip(*one.by_position, strict=True)
    assert list(starts) == list(BUCKETS[: len(starts)]) and sum(counts) == one.tokens
    assert np.dot(means, counts) == pytest.approx(one.nats.sum())


def test_the_model_is_left_as_it_was(given: tuple) -> None:
    tokenizer, some = given
    model = build(ModelSpec.from_dict(SMALL | {"dropout": 0.5}))
    model.train()
    first, second = (continuation(model, some[:1], tokenizer.vocabulary) for _ in range(2))
    assert model.training and first.bits_per_byte == second.bits_per_byte, "no dropout while measuring"
    assert all(p.grad is None for p in model.parameters())


def test_an_encoder_does_not_continue_text(given: tuple) -> None:
    tokenizer, some = given
    with pytest.raises(UserError, match="does not continue text"):
        continuation(build(ModelSpec.from_dict({"family": "encoder", **SMALL})), some, tokenizer.vocabulary)
