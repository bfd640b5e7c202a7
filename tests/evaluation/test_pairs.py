"""Pairs of prompt and answer: log-likelihoods against their definition, loss on the answer alone, windows, writing."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.evaluation.tasks_common import FAMILIES, tiny

from assay.errors import UserError
from assay.evaluation.pairs import Codec, fill_rows, pair_batches, rolling, score
from assay.evaluation.writing import write
from assay.nn.batch import to_tensors
from assay.nn.loss import loss_sum, target_nats

TEXTS = [("The sky is", " blue"), ("a", "bc"), ("", " begins"), ("one two three four", "!")]


def pairs_of(codec: Codec, end: bool = True) -> list:
    return [codec.pair(prompt, answer, end=end) for prompt, answer in TEXTS]


@pytest.mark.parametrize("family", FAMILIES)
def test_log_likelihood_is_the_chain_rule_of_each_token_given_all_before_it(family: str) -> None:
    model = tiny(family)
    codec = Codec(model)
    pairs = pairs_of(codec)
    found = score(codec, pairs, batch_size=3)
    for number, pair in enumerate(pairs):
        nats, greedy = 0.0, True
        for place, token in enumerate(pair.answer):
            before = torch.tensor([[*pair.prompt, *pair.answer[:place]]])
            with torch.no_grad():
                if family == "encoder_decoder":
                    start = torch.tensor([[0, *pair.answer[:place]]])
                    logits = model(torch.tensor([pair.prompt]), decoder_input_ids=start).logits[0, -1]
                else:  # a prefix decoder sees the prompt whole, and nothing else
                    seen = len(pair.prompt) if family == "prefix" else 0
                    logits = model(before, prefix_length=seen).logits[0, -1]
            nats -= float(torch.log_softmax(logits.double(), -1)[int(token)])
            greedy &= int(logits.argmax()) == int(token)
        assert found.nats[number] == pytest.approx(nats, rel=1e-4)
        assert found.greedy[number] == greedy and found.tokens[number] == len(pair.answer)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_likelihood_is_the_sum_of_target_nats_and_batches_do_not_matter(family: str) -> None:
    codec = Codec(tiny(family))
    pairs = pairs_of(codec)
    one, many = score(codec, pairs, batch_size=1), score(codec, pairs, batch_size=4)
    np.testing.assert_allclose(one.nats, many.nats, rtol=1e-5)
    for numbers, batch in pair_batches(codec, pairs, batch_size=1):
        nats = target_nats(codec.model.transformer, to_tensors(batch)).sum()
        assert float(nats) == pytest.approx(one.nats[numbers[0]], rel=1e-5)
    packed = fill_rows(codec, pairs, 40)
    assert len(packed.input_ids) < len(pairs), "several a row"
    nats = target_nats(codec.model.transformer, to_tensors(packed))
    assert float(nats.sum()) == pytest.approx(one.nats.sum(), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_is_on_the_answer_alone(family: str) -> None:
    codec = Codec(tiny(family))
    batch = fill_rows(codec, pairs_of(codec), 40)

    def gradient(changed: object) -> torch.Tensor:
        codec.model.zero_grad()
        loss_sum(codec.model.transformer, to_tensors(changed)).total.backward()
        return torch.cat([p.grad.flatten() for p in codec.model.parameters() if p.grad is not None])

    assert int(batch.weights.sum()) == sum(len(pair.answer) for pair in pairs_of(codec))
    before = gradient(batch)
    other = np.where(batch.weights > 0, batch.targets, (batch.targets + 7) % 299)
    assert torch.equal(gradient(dataclasses.replace(batch, targets=other)), before), "prompts have no targets"
    wrong = np.where(batch.weights > 0, (batch.targets + 7) % 299, batch.targets)
    assert not torch.equal(gradient(dataclasses.replace(batch, targets=wrong)), before), "answers have"


def test_the_prefix_family_alone_reads_the_prompt_both_ways() -> None:
    """In the hidden states of the prompt's first token: they know its last token in a prefix decoder only."""
    for family in ("causal", "prefix"):
        model = tiny(family)
        batches = [
            next(pair_batches(Codec(model), [Codec(model).pair(p, "x")], batch_size=1))[1] for p in ("abc", "abd")
        ]
        states = []
        for batch in batches:
            given = to_tensors(batch)
            with torch.no_grad():
                states.append(model.transformer.decode(given.input_ids, given.mask).hidden[0, 1])
        assert torch.equal(*states) == (family == "causal")


def test_long_prompts_lose_their_beginning_and_long_answers_are_refused() -> None:
    codec = Codec(tiny(), length=16)
    pair = codec.pair("x" * 30 + "end", "abc", end=True, where="f.csv, row 2")
    assert pair.prompt[0] == 2 and codec.model.tokenizer.decode(pair.prompt)[-3:] == "end"
    assert len(pair.prompt) + len(pair.answer) - 1 == 16 and pair.cut == 34 - 13
    assert codec.pair("short", "abc").cut == 0
    with pytest.raises(UserError, match=r"f.csv, row 3: the answer has 20 tokens, and the window is 16"):
        codec.pair("p", "x" * 20, where="f.csv, row 3")
    with pytest.raises(UserError, match="gives no token"):
        codec.pair("p", "")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 32, 33, 50])
def test_rolling_windows_predict_every_token_once_in_order(family: str, length: int) -> None:
    codec = Codec(tiny(family), length=16)
    tokens = list(range(20, 20 + length))
    parts = rolling(codec, tokens)
    assert [int(t) for part in parts for t in part.answer] == tokens
    whole = [codec.begin, *tokens]
    done = 0
    for part in parts:
        assert part.prompt.tolist() == whole[done + 1 - len(part.prompt) : done + 1], "what stands before it"
        assert len(part.prompt) + len(part.answer) - 1 <= 16
        done += len(part.answer)


def test_rolling_log_likelihood_of_a_short_text_is_the_causal_loss() -> None:
    model = tiny()
    codec = Codec(model)
    ids = codec.encode("hello world")
    (part,) = rolling(codec, ids)
    with torch.no_grad():
        logits = model(torch.tensor([[2, *ids]])).logits[0, :-1].double()
    expected = -torch.log_softmax(logits, -1)[torch.arange(len(ids)), ids].sum()
    assert score(codec, [part]).nats[0] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_writing_is_greedy_generation_row_by_row(family: str) -> None:
    model = tiny(family)
    codec = Codec(model)
    prompts = [codec.prompt(text) for text, _ in TEXTS]
    together = write(codec, prompts, max_new_tokens=6)
    for prompt, text in zip(prompts, together, strict=True):
        out = model.generate(torch.tensor([prompt]), max_new_tokens=6)[0].tolist()
        made = out[1:] if family == "encoder_decoder" else out[len(prompt) :]
        made = made[: made.index(1)] if 1 in made else made
        assert text == model.tokenizer.decode(made)
    stop = together[0][2:4]
    assert write(codec, prompts[:1], max_new_tokens=6, stop=[stop])[0] == together[0][: together[0].index(stop)]


def test_a_greedy_answer_is_scored_as_greedy() -> None:
    codec = Codec(tiny("encoder_decoder"))
    prompt = codec.prompt("abc")
    out = codec.model.generate(torch.tensor([prompt]), max_new_tokens=5, ignore_eos=True)[0, 1:].tolist()
    found = score(codec, [codec.fit(prompt, out), codec.fit(prompt, [(out[0] + 1) % 299, *out[1:]])])
    assert found.greedy.tolist() == [True, False]


def test_what_cannot_answer_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match="head = none: this encoder model scores no tokens"):
        Codec(tiny("encoder", head={"kind": "none"}))
    model = tiny()
    model.tokenizer = None
    with pytest.raises(UserError, match=r"tokenizer: the model has none"):
        Codec(model)


class Plain:
    """A published tokenizer: no `vocabulary` of assay's."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [b + 11 for b in text.encode()]

    def decode(self, ids: list) -> str:
        return bytes(i - 11 for i in ids if i >= 11).decode(errors="replace")


def test_tokenizers_without_special_tokens() -> None:
    model = tiny(tokens={"pad": 0})
    model.tokenizer = Plain()
    codec = Codec(model)
    assert codec.pair("ab", "c").answer.tolist() == [ord("c") + 11], "scoring needs no end token"
    with pytest.raises(UserError, match=r"tokens.eos: the model's tokenizer has no end token.*Name one"):
        codec.pair("ab", "c", end=True)
    two = tiny("encoder_decoder", tokens={"pad": 0, "eos": [1]})
    two.tokenizer = Plain()
    with pytest.raises(UserError, match=r"tokens.decoder_start"):
        Codec(two)


class Merging(Plain):
    """Reads "bc" as one token: a cut between the two falls inside it."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [b + 11 for b in text.replace("bc", "\x01").encode()]


def test_an_answer_that_would_merge_with_its_prompt_is_encoded_alone() -> None:
    model = tiny()
    model.tokenizer = Merging()
    codec = Codec(model)
    assert codec.pair("ab", "cd").answer.tolist() == [ord("c") + 11, ord("d") + 11]
    assert codec.pair("ab", "cd").prompt.tolist() == codec.prompt("ab")
