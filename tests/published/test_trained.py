"""assay's own tokenizers as tokenizer.json: the ids and texts that transformers gives are assay's, for any text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import assay
from assay.data.corpus import Corpus
from assay.data.specials import NAMES
from assay.data.tokenizer import BPETokenizer, ByteTokenizer, train_tokenizer
from assay.errors import UserError
from assay.published.load import load
from assay.published.tokens import PublishedTokenizer, folder_tokenizer
from assay.published.trained import published_form, token_names
from assay.spec.data import TokenizerSpec
from assay.spec.model import ModelSpec

LINES = ["The quick brown fox jumps over the lazy dog; it's the 3rd time! naïve 漢字 x = [1, 22]\n" * 8]
SPECS = {
    "bpe": TokenizerSpec(vocab_size=330, sentinels=5),
    "bpe, unused ids": TokenizerSpec(vocab_size=900, sentinels=3),
    "bytes": TokenizerSpec(kind="bytes", sentinels=4),
    "bytes, no sentinels": TokenizerSpec(kind="bytes", sentinels=0),
}

names = [*NAMES, "<extra_id_0>", "<unused_700>"]
ODD = ("a\0b", "\r\n \t  x ", "👩‍👩‍👧 e\u0301 \ufeff", "Ġ Ċ", " ", "the quick", "\u2028 \u00a0", "<|endoftext|>", "ﬁ Ⅷ")
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
texts = st.lists(anything | st.sampled_from([*names, *ODD]), max_size=5).map("".join)


def spec_for(kind: str) -> ModelSpec:
    return ModelSpec.from_dict({"vocab_size": SPECS[kind].vocab_size, "width": 16, "attention": {"heads": 2}})


class Trio:
    """A tokenizer of assay's, the same opened by transformers, and by assay as a published one."""

    def __init__(self, kind: str, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.own: Any = train_tokenizer(SPECS[kind], Corpus(LINES, "test", "test"))
        published_form(self.own, spec_for(kind)).save(folder)
        self.theirs = AutoTokenizer.from_pretrained(folder)
        found = folder_tokenizer(folder, spec_for(kind))
        assert isinstance(found, PublishedTokenizer)
        self.again = found


@pytest.fixture(scope="module")
def trios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trio]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {kind: Trio(kind, tmp_path_factory.mktemp("tokenizer")) for kind in SPECS}


@pytest.mark.parametrize("kind", SPECS)
@given(text=texts)
def test_ids_and_text_are_the_same(kind: str, trios: dict[str, Trio], text: str) -> None:
    """Names of special tokens in a text are text, as they are in training."""
    trio = trios[kind]
    ids = trio.own.encode(text).tolist()
    assert trio.theirs(text)["input_ids"] == ids == trio.again.encode(text)
    assert trio.theirs.encode(text, add_special_tokens=False) == ids
    assert trio.theirs.decode(ids) == text == trio.again.decode(ids)


@pytest.mark.parametrize("kind", SPECS)
@given(data=st.data())
def test_any_ids_give_the_same_text(kind: str, trios: dict[str, Trio], data: st.DataObject) -> None:
    """Cut characters, special tokens, ids that no text has."""
    trio = trios[kind]
    ids = data.draw(st.lists(st.integers(0, SPECS[kind].vocab_size - 1), max_size=30))
    for shown in (False, True):
        want = trio.own.decode(ids, specials=shown)
        assert trio.theirs.decode(ids, skip_special_tokens=not shown) == want
        assert trio.again.decode(ids, specials=shown) == want


def test_a_tokenizer_that_reads_special_names_in_a_text_is_told_apart(trios: dict[str, Trio], tmp_path: Path) -> None:
    """The test above sees it: without the setting, "<pad>" in a document is one token."""
    from transformers import AutoTokenizer

    trio = trios["bpe"]
    published_form(trio.own, spec_for("bpe")).save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["split_special_tokens"]
    path.write_text(json.dumps(settings))
    read = AutoTokenizer.from_pretrained(tmp_path)("a <pad> b")["input_ids"]
    assert 0 in read and 0 not in trio.own.encode("a <pad> b")
    found = folder_tokenizer(tmp_path, spec_for("bpe"))
    assert found is not None and found.encode("a <pad> b") == read


@pytest.mark.parametrize("kind", SPECS)
def test_special_tokens_have_their_names_and_places(kind: str, trios: dict[str, Trio]) -> None:
    trio, size = trios[kind], SPECS[kind].vocab_size
    assert len(trio.theirs) == size
    assert trio.theirs.convert_ids_to_tokens(list(range(11))) == list(NAMES)
    ids = trio.own.vocabulary
    for name in ("pad", "eos", "bos", "mask"):
        assert getattr(trio.theirs, f"{name}_token_id") == getattr(ids, name)
    for number, token in enumerate(ids.sentinels):
        assert trio.theirs.convert_tokens_to_ids(f"<extra_id_{number}>") == token
    assert trio.again.eos_token == "<eos>" and trio.again.engine.id("<mask>") == ids.mask
    assert set(trio.theirs.all_special_ids) == {*range(11), *ids.sentinels}
    both = trio.theirs(["one", "a longer one"], padding=True)
    assert set(both) == {"input_ids", "attention_mask"}  # a model takes them as they are
    short = trio.own.encode("one").tolist()
    assert both["input_ids"][0][: len(short)] == short and set(both["input_ids"][0][len(short) :]) <= {ids.pad}


def test_names_are_those_of_their_ids() -> None:
    found = token_names(ByteTokenizer(SPECS["bytes"]))
    assert found[:2] == ["<pad>", "<eos>"] and found[11 + ord("A")] == "A" and found[11 + ord(" ")] == "Ġ"
    assert found[-1] == "<extra_id_0>" and len(found) == 271


@pytest.mark.parametrize("kind", ["bpe", "bytes"])
def test_a_saved_model_brings_its_tokenizer(kind: str, trios: dict[str, Trio], tmp_path: Path) -> None:
    own = trios[kind].own
    model = assay.build(spec_for(kind))
    model.tokenizer = own
    model.save(tmp_path / "hf", format="hf")
    again = load(tmp_path / "hf")
    text = "The quick <eos> 漢字"
    assert again.tokenizer.encode(text) == own.encode(text).tolist()
    again.save(tmp_path / "twice", format="hf")  # now as an imported one
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()
    assert np.array_equal(load(tmp_path / "twice").tokenizer.encode(text), own.encode(text))


def test_another_models_tokenizer_is_refused(trios: dict[str, Trio], tmp_path: Path) -> None:
    model = assay.build(spec_for("bytes"))
    model.tokenizer = trios["bpe"].own
    assert isinstance(model.tokenizer, BPETokenizer)
    with pytest.raises(UserError, match=r"330 ids.*vocab_size = 271"):
        model.save(tmp_path / "hf", format="hf")
    assert not (tmp_path / "hf").exists()
