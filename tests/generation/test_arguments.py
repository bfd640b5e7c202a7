"""What `generate` refuses, in one message that names the argument; where rows end; saving."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.generation.common import model
from tests.nn.common import small, tokens

import assay
from assay.errors import UserError
from assay.generation.build import build
from assay.generation.cache import Cache


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens: -1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens: 2.5"),
        ({"temperature": 0, "do_sample": True}, "temperature: 0"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"top_k": 0}, "top_k: 0"),
        ({"top_p": 1.5}, "top_p: 1.5"),
        ({"top_p": 0.0}, "top_p: 0.0"),
        ({"min_p": -0.1}, "min_p: -0.1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: 0.0"),
        ({"num_beams": 0}, "num_beams: 0"),
        ({"num_beams": 2, "do_sample": True}, "num_beams: 2"),
        ({"num_beams": 2, "stream": print}, "stream"),
        ({"num_beams": 2, "cache": Cache()}, "cache"),
        ({"stop": "x"}, "stop: ['x'] needs a tokenizer"),
        ({"stop": [""]}, "stop: ['']"),
        ({"seed": -1}, "seed: -1"),
        ({"eos_token_id": 99}, "eos_token_id: token 99"),
        ({"pad_token_id": -1}, "pad_token_id: token -1"),
        ({"prefix_length": 9}, "prefix_length: [9]"),
        ({"decoder_input_ids": tokens(1, 2)}, "decoder_input_ids"),
        ({"attention_mask": torch.ones(1, 4)}, "attention_mask: shape [1, 4]"),
        ({"attention_mask": torch.zeros(1, 5)}, "attention_mask: row 0 is padding alone"),
    ],
)
def test_a_wrong_argument_is_named(how: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        model().generate(tokens(1, 5), **{"max_new_tokens": 3, **how})


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (torch.zeros(1, 0, dtype=torch.long), "input_ids: shape [1, 0]"),
        (torch.zeros(5, dtype=torch.long), "input_ids: shape [5]"),
        (torch.full((1, 3), 40), "input_ids: token 40"),
    ],
)
def test_a_wrong_prompt_is_named(ids: torch.Tensor, named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        model().generate(ids, max_new_tokens=3)


def test_families_that_continue_no_text_say_so() -> None:
    with pytest.raises(UserError, match="family encoder"):
        model(family="encoder").generate(tokens(1, 5), max_new_tokens=3)
    with pytest.raises(UserError, match="without a head"):
        model(head={"kind": "none"}).generate(tokens(1, 5), max_new_tokens=3)
    with pytest.raises(UserError, match="no start token"):
        model(family="encoder_decoder").generate(tokens(1, 5), max_new_tokens=3)


def test_a_learned_table_bounds_the_length() -> None:
    m = model(positions="learned", context=12)
    with pytest.raises(UserError, match=r"max_new_tokens: 9 after a prompt of 5 needs 13 .* at most 8"):
        m.generate(tokens(1, 5), max_new_tokens=9)
    assert m.generate(tokens(1, 5), max_new_tokens=8).shape == (1, 13)
    both = model(positions="learned", context=12, family="encoder_decoder", tokens={"decoder_start": 1})
    with pytest.raises(UserError, match="at most 12"):
        both.generate(tokens(1, 5), max_new_tokens=13)


def test_an_argument_without_effect_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="top_p: no effect"):
        model().generate(tokens(1, 5), max_new_tokens=1, top_p=0.5)


def test_rows_end_at_any_end_token_and_are_filled() -> None:
    m = model(tokens={"pad": 3})
    ids = tokens(3, 5, seed=5)
    free = m.generate(ids, max_new_tokens=10)[:, 5:]
    ends = sorted({int(free[0, 2]), int(free[1, 5])})
    out = m.generate(ids, max_new_tokens=10, eos_token_id=ends)[:, 5:]
    longest = 0
    for row, want in zip(out.tolist(), free.tolist(), strict=True):
        stop = next((i + 1 for i, token in enumerate(want) if token in ends), 10)
        longest = max(longest, stop)
        assert row[:stop] == want[:stop]
        assert row[stop:] == [3] * (len(row) - stop)
    assert out.shape[1] == longest
    assert torch.equal(m.generate(ids, max_new_tokens=10, eos_token_id=ends, ignore_eos=True)[:, 5:], free)


def test_no_new_tokens_gives_the_prompt_back() -> None:
    ids = tokens(2, 5)
    assert torch.equal(model().generate(ids, max_new_tokens=0), ids)
    assert torch.equal(model().generate(ids, max_new_tokens=0, num_beams=3), ids)


def test_dropout_plays_no_part_and_the_mode_is_kept() -> None:
    m, row = model(dropout=0.5), tokens(1, 5)
    right = m.generate(row, max_new_tokens=9)
    m.train()
    assert torch.equal(m.generate(row, max_new_tokens=9), right)
    assert m.training and m.transformer.training


def test_the_answer_is_an_ordinary_tensor() -> None:
    out = model().generate(tokens(1, 5), max_new_tokens=2)
    assert not out.is_inference()
    out += 1


def test_a_model_is_saved_and_loaded_unchanged(tmp_path: Path) -> None:
    m = assay.build(small(placement="deepnet"), seed=3)
    m.save(tmp_path / "m")
    again = assay.load(tmp_path / "m")
    assert again.spec == m.spec
    assert torch.equal(again(tokens(2, 5)).logits, m(tokens(2, 5)).logits)
    m.save(tmp_path / "m")  # in place of itself
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_saving_refuses_a_format_and_a_place(tmp_path: Path) -> None:
    m = build(small())
    with pytest.raises(UserError, match="format: 'asay' is unknown"):
        m.save(tmp_path / "m", format="asay")
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        m.save(tmp_path / "a.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_save_that_fails_keeps_the_old_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m = build(small())
    m.save(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("assay.generation.saving.save_file", full)
    with pytest.raises(UserError):
        build(small(), seed=1).save(tmp_path)
    assert torch.equal(assay.load(tmp_path)(tokens(1, 5)).logits, m(tokens(1, 5)).logits)
