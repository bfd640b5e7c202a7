import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import assay.data.tokenizer as module
from assay.data.cache import cache_dir, cached_bytes
from assay.data.corpus import Corpus
from assay.data.specials import FIRST, NAMES
from assay.data.tokenizer import FILE, BPETokenizer, ByteTokenizer, load_tokenizer, train_tokenizer
from assay.errors import UserError
from assay.spec.data import DataSpec, TokenizerSpec

TEXT = "The quick brown fox jumps over the lazy dog; the dog does not mind. 'Tis the 3rd time! " * 30
CORPUS = Corpus([TEXT, TEXT[::-1]], "test", "test")
SPEC = TokenizerSpec(vocab_size=400)
KINDS = {"bpe": BPETokenizer(SPEC, json.loads(module._train(CORPUS.documents, 400 - SPEC.least + 256)))}
KINDS["bytes"] = ByteTokenizer()

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(
    [*NAMES, "<extra_id_0>", "a\0b", "\r\n \t  x ", "👩‍👩‍👧 e\u0301 \ufeff", "Ġ Ċ", " ", "  leading"]
)


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
def test_round_trip_is_exact(kind, text):
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text
    assert tokenizer.lengths(ids).sum() == len(text.encode())
    vocabulary = tokenizer.vocabulary
    assert ((ids >= FIRST) & (ids < vocabulary.size - len(vocabulary.sentinels))).all()  # text gives no specials


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_texts_one_by_one(kind):
    some = ["one", "", "the dog", TEXT]
    for one, ids in zip(some, KINDS[kind].encode_batch(some), strict=True):
        assert np.array_equal(ids, KINDS[kind].encode(one))


@pytest.mark.parametrize("kind", KINDS)
def test_layout(kind):
    vocabulary = KINDS[kind].vocabulary
    sentinels = vocabulary.sentinels
    assert sentinels[0] == vocabulary.size - 1 and (np.diff(sentinels) == -1).all() and len(sentinels) == 32
    assert (vocabulary.pad, vocabulary.decoder_start) == (0, 0)
    named = [vocabulary.pad, vocabulary.eos, vocabulary.bos, vocabulary.mask, *vocabulary.named.values()]
    assert sorted(named) == list(range(FIRST))
    assert set(vocabulary.named) == {"[NLU]", "[NLG]", "[S2S]", "[MASK]", "[gMASK]", "<sop>", "<eop>"}
    shown = KINDS[kind].decode([vocabulary.bos, *KINDS[kind].encode("x"), sentinels[2]], specials=True)
    assert shown == "<bos>x<extra_id_2>"
    assert KINDS[kind].decode([vocabulary.bos, *KINDS[kind].encode("x"), sentinels[2]]) == "x"
    with pytest.raises(UserError, match="outside the vocabulary"):
        KINDS[kind].decode([vocabulary.size])


def test_bpe_compresses_and_bytes_do_not():
    assert len(KINDS["bpe"].encode(TEXT)) < len(TEXT) / 2
    assert len(KINDS["bytes"].encode("é")) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(kind, tmp_path):
    KINDS[kind].save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert type(again) is type(KINDS[kind]) and again.hash == KINDS[kind].hash
    assert np.array_equal(again.encode(TEXT), KINDS[kind].encode(TEXT))


def test_loading_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="no tokenizer there"):
        load_tokenizer(tmp_path)
    KINDS["bpe"].save(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="not a tokenizer that assay wrote"):
        load_tokenizer(tmp_path)


def test_training_is_deterministic_and_cached_by_content(monkeypatch):
    first = train_tokenizer(SPEC, CORPUS)
    calls = []
    real = module._train
    monkeypatch.setattr(module, "_train", lambda *a: calls.append(a) or real(*a))
    assert train_tokenizer(SPEC, CORPUS).hash == first.hash and not calls
    other = Corpus([*CORPUS.documents, "more text"], "test", "test")
    train_tokenizer(SPEC, other)
    train_tokenizer(SPEC.model_copy(update={"vocab_size": 410}), CORPUS)
    assert len(calls) == 2
    for entry in (cache_dir() / "tokenizer").iterdir():
        entry.unlink()
    assert train_tokenizer(SPEC, CORPUS).hash == first.hash and len(calls) == 3


def test_too_little_text_leaves_ids_unused():
    tokenizer = train_tokenizer(TokenizerSpec(vocab_size=2000), Corpus(["ab ab ab"], "t", "t"))
    assert tokenizer.vocabulary.size == 2000 and len(tokenizer.pieces) < 300
    assert tokenizer.decode(tokenizer.encode("xyz")) == "xyz"
    assert tokenizer.decode([1500]) == "" and tokenizer.decode([1500], specials=True) == "<unused_1500>"


def test_specs_refuse_what_cannot_work():
    assert TokenizerSpec(kind="bytes").vocab_size == 299 == TokenizerSpec.model_validate("bytes").vocab_size
    assert TokenizerSpec(kind="bytes", sentinels=100).vocab_size == 367
    assert DataSpec(tokenizer="bytes").tokenizer.kind == "bytes"
    with pytest.raises(ValueError, match="too small"):
        TokenizerSpec(vocab_size=256)
    with pytest.raises(ValueError, match="plain bytes have 299 ids"):
        TokenizerSpec(kind="bytes", vocab_size=2048)
    assert len(NAMES) == FIRST


def test_a_cache_that_cannot_be_written_costs_time_only(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="ASSAY_CACHE"):
        assert cached_bytes("kind", "0", lambda: b"made") == b"made"
    with warnings.catch_warnings(), pytest.warns(UserWarning):
        train_tokenizer(SPEC, CORPUS)
