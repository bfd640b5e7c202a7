"""Pairs for models that read mask and positions off the prompt's tokens: ChatGLM-6B's rule and GLM-130B's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.evaluation.tasks_common import tiny

from assay.evaluation.pairs import Codec, Pair, fill_rows, pair_batches, score
from assay.generation.model import Model
from assay.nn.batch import to_tensors
from assay.nn.loss import target_nats

GMASK, MASK, SOP, EOP = 290, 291, 292, 293
SPECS = {
    "chatglm": {"positions": {"kind": "rope", "axes": 2}},
    "glm130b": {},
}
TEXTS = [("where are you", "here"), ("a", "bcd"), ("one two three", "4"), ("xy", "z")]


class Ending:
    """Bytes, with `mark` and <sop> behind a prompt, as ChatGLM-6B's tokenizer writes them."""

    def __init__(self, mark: int) -> None:
        self.mark = mark

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        plain = [20 + byte % 200 for byte in text.encode()]
        return [*plain, self.mark, SOP] if add_special_tokens else plain


def model_of(rule: str, mark: int) -> Model:
    model = tiny(
        "prefix", prompt={"rule": rule, "sop": SOP, "mask": MASK, "gmask": GMASK},
        tokens={"pad": 3, "eos": [EOP]}, **SPECS[rule],
    )  # fmt: skip
    model.tokenizer = Ending(mark)
    return model


def pairs_of(codec: Codec) -> list[Pair]:
    return [codec.pair(prompt, answer, end=True) for prompt, answer in TEXTS]


@pytest.mark.parametrize("mark", [GMASK, MASK])
@pytest.mark.parametrize("rule", SPECS)
def test_prefix_and_positions_by_hand(rule: str, mark: int) -> None:
    codec = Codec(model_of(rule, mark))
    pair = codec.pair("abc", "de", end=True)
    assert pair.prompt.tolist()[-2:] == [mark, SOP] and pair.answer.tolist()[-1] == EOP
    example = codec.example(pair)
    # a b c M <sop> d e; the answer's end is only a target. Keys before <sop> are seen by all: four of them.
    assert example.prefix == 4 and example.weights.tolist() == [0, 0, 0, 0, 1, 1, 1]
    if rule == "chatglm":
        assert example.positions.tolist() == [[0, 1, 2, 3, 3, 3, 3], [0, 0, 0, 0, 1, 2, 3]]
    elif mark == GMASK:
        assert example.positions.tolist() == [0, 1, 2, 3, 4, 5, 6]
    else:
        assert example.positions.tolist() == [0, 1, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("mark", [GMASK, MASK])
@pytest.mark.parametrize("rule", SPECS)
def test_scores_are_those_of_the_models_own_reading(rule: str, mark: int) -> None:
    """Batched, one by one and packed, against the model called on prompt and answer without any help."""
    model = model_of(rule, mark)
    codec = Codec(model)
    pairs = pairs_of(codec)
    expected = []
    for pair in pairs:
        ids = torch.from_numpy(np.concatenate([pair.prompt, pair.answer])[None])
        with torch.no_grad():
            logits = model(ids).logits[0].double().log_softmax(-1)
        places = range(len(pair.prompt) - 1, ids.shape[1] - 1)
        expected.append(-sum(float(logits[i, ids[0, i + 1]]) for i in places))
    np.testing.assert_allclose(score(codec, pairs, batch_size=4).nats, expected, rtol=1e-4)
    np.testing.assert_allclose(score(codec, pairs, batch_size=1).nats, expected, rtol=1e-4)
    packed = fill_rows(codec, pairs, 48)
    assert len(packed.input_ids) < len(pairs)
    assert float(target_nats(model.transformer, to_tensors(packed)).sum()) == pytest.approx(sum(expected), rel=1e-4)


@pytest.mark.parametrize("rule", SPECS)
def test_the_prompt_is_seen_whole_and_the_answer_is_not(rule: str) -> None:
    """Token flips: a later prompt token moves the first answer token's score, a later answer token does not."""
    codec = Codec(model_of(rule, GMASK))
    (_, batch), *_ = pair_batches(codec, [codec.pair("abcdef", "ghi")], batch_size=1)
    nats = target_nats(codec.model.transformer, to_tensors(batch))
    for place, moved in ((4, True), (len(batch.input_ids[0]) - 1, False)):
        flipped = batch.input_ids.copy()
        flipped[0, place] += 1
        other = target_nats(codec.model.transformer, to_tensors(replace(batch, input_ids=flipped)))
        assert (float(nats[0]) != float(other[0])) == moved


def test_a_prompt_without_its_marks_is_read_from_the_left() -> None:
    model = model_of("chatglm", GMASK)
    codec = Codec(model)
    example = codec.example(Pair(np.array([20, 21]), np.array([22])))
    assert example.prefix == 0 and example.positions.tolist() == [[0, 1], [0, 0]]


def test_a_cut_prompt_keeps_its_marks() -> None:
    codec = Codec(model_of("glm130b", GMASK), length=8)
    pair = codec.pair("abcdefghijkl", "xy")
    assert pair.cut > 0 and pair.prompt.tolist()[-2:] == [GMASK, SOP] and codec.example(pair).prefix > 0
