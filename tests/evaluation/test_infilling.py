"""Both forms ask for the same tokens; the form of spans is the one that is trained; a model that knows wins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from assay.data.corpus import Corpus
from assay.data.specials import vocabulary
from assay.data.tokenizer import ByteTokenizer
from assay.evaluation.infilling import Hidden, _left, _spans, hidden_tokens, infilling, pieces
from assay.nn import build
from assay.objectives.base import Key
from assay.objectives.registry import make
from assay.spec.model import ModelSpec
from assay.spec.objective import ObjectiveSpec

V = vocabulary(400, 32)
TOKENS = np.random.default_rng(3).integers(20, 300, 48)


def _hidden(number: int = 0) -> Hidden:
    return hidden_tokens(TOKENS, V, number, density=0.2, mean_span=3.0)


def test_hidden_tokens_are_those_of_the_spans_in_their_order() -> None:
    text = _hidden()
    outside = {*V.sentinels, V.eos}
    assert [t for t in text.targets if int(t) not in outside] == list(TOKENS[text.where])
    assert text.where.sum() == round(0.2 * 48) and (_hidden(1).where != text.where).any()


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
def test_spans_are_as_in_training_but_for_the_weights_of_sentinels_and_end(family: str) -> None:
    trained = make(ObjectiveSpec(kind="span_corruption", density=0.2), family, V).example(TOKENS, Key(0, 0, 0))
    asked = _spans(_hidden(), family, V, None)
    assert (asked.inputs == trained.inputs).all() and (asked.targets == trained.targets).all()
    assert asked.prefix == trained.prefix
    counted = asked.weights > 0
    assert list(asked.targets[counted]) == list(TOKENS[_hidden().where])
    left_out = asked.targets[(trained.weights > 0) & ~counted]
    assert {int(t) for t in left_out} <= {*V.sentinels, V.eos}


def test_the_left_form_asks_for_the_same_tokens_and_a_mode_begins_the_inputs() -> None:
    text = _hidden()
    asked = _left(text, "causal", V, None)
    assert list(asked.targets[asked.weights > 0]) == list(TOKENS[text.where]) and asked.prefix == 0
    with_mode = _spans(text, "prefix", V, "[NLU]")
    plain = _spans(text, "prefix", V, None)
    assert len(with_mode.inputs) == len(plain.inputs) + 1 and V.named["[NLU]"] in with_mode.inputs[:2]
    assert with_mode.weights.sum() == plain.weights.sum() == text.where.sum()


@pytest.mark.parametrize(("family", "form"), [("causal", "left"), ("prefix", "spans"), ("encoder_decoder", "spans")])
def test_a_model_that_knows_nothing_has_the_entropy_of_the_vocabulary(family: str, form: str) -> None:
    spec = ModelSpec.from_dict(
        {"family": family, "width": 16, "layers": 1, "vocab_size": V.size, "attention": {"heads": 2},
         "tokens": {"decoder_start": V.decoder_start}}
    )  # fmt: skip
    net = build(spec, seed=0)
    with torch.no_grad():
        net.embedding.weight.mul_(1e-4)
        if net.head.weight is not None:
            net.head.weight.mul_(1e-4)
    found = infilling(net, [_hidden(i) for i in range(3)], V, form=form)
    assert found == pytest.approx(math.log(V.size), abs=0.01)


def test_pieces_come_from_every_document() -> None:
    tokenizer = ByteTokenizer()
    corpus = Corpus(["a" * 100, "b" * 30, "c" * 9], "x", "x")
    found = pieces(corpus, tokenizer, length=20, count=4)
    assert [tokenizer.decode(p)[0] for p in found] == ["a", "b", "a", "a"]
