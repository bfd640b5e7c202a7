import numpy as np
import pytest

import assay.data.shards as module
from assay.data.cache import cache_dir
from assay.data.corpus import Corpus
from assay.data.shards import TokenDocuments, tokenize, write_shards
from assay.data.tokenizer import ByteTokenizer
from assay.errors import UserError

DOCUMENTS = [np.arange(5), np.arange(0), np.array([65535, 3]), np.arange(100)]
CORPUS = Corpus(["first one", "second", "x" * 500], "test", "test")


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, "<u2"), (65537, "<u4")])
def test_round_trip(tmp_path, vocab_size, dtype):
    write_shards(tmp_path / "s", iter(DOCUMENTS), vocab_size=vocab_size, note="kept")
    opened = TokenDocuments.open(tmp_path / "s")
    assert isinstance(opened.tokens, np.memmap) and opened.tokens.dtype == dtype
    assert len(opened) == 4 and opened.lengths.tolist() == [5, 0, 2, 100] and opened.total == 107
    for i, document in enumerate(DOCUMENTS):
        assert np.array_equal(opened[i], document)
    assert opened.meta["note"] == "kept"
    with pytest.raises(IndexError):
        opened[4]
    in_memory = TokenDocuments.from_arrays(DOCUMENTS)
    assert all(np.array_equal(a, b) for a, b in zip(opened, in_memory, strict=True))


def cut_off(folder):
    path = folder / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-2])


def flip(name):
    def change(folder):
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut_off, "212 bytes, where 214 were written"),
        (flip("tokens.bin"), "wrong hash"),
        (flip("offsets.npy"), "wrong hash"),
        (flip("meta.json"), "not a readable folder"),
        (lambda folder: (folder / "offsets.npy").unlink(), "not a readable folder"),
        (lambda folder: (folder / "meta.json").unlink(), "not a readable folder"),
    ],
)
def test_damage_is_found_when_opened(tmp_path, damage, says):
    folder = tmp_path / "s"
    write_shards(folder, DOCUMENTS, vocab_size=65536)
    TokenDocuments.open(folder)
    damage(folder)
    with pytest.raises(UserError, match=says) as error:
        TokenDocuments.open(folder)
    assert "Delete the folder" in error.value.remedy


def test_a_failed_write_leaves_nothing(tmp_path):
    def documents():
        yield np.arange(3)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_shards(tmp_path / "s", documents(), vocab_size=10)
    assert list(tmp_path.iterdir()) == []


def test_tokens_are_cached_by_content_and_made_again_when_damaged(monkeypatch):
    calls = []
    real = module._encode
    monkeypatch.setattr(module, "_encode", lambda *a: calls.append(a) or real(*a))
    tokenizer = ByteTokenizer()
    first = tokenize(CORPUS, tokenizer)
    assert [tokenizer.decode(d) for d in first] == CORPUS.documents
    tokenize(CORPUS, tokenizer)
    assert len(calls) == 1
    (folder,) = (cache_dir() / "tokens").iterdir()
    cut_off(folder)
    assert [tokenizer.decode(d) for d in tokenize(CORPUS, tokenizer)] == CORPUS.documents
    assert len(calls) == 2
    tokenize(Corpus(CORPUS.documents[:2], "other", "other"), tokenizer)
    assert len(calls) == 3
    assert all(not f.name.startswith(".") for f in (cache_dir() / "tokens").iterdir())  # nothing left behind


def test_a_writer_that_comes_second_keeps_what_is_there(tmp_path):
    write_shards(tmp_path / "s", DOCUMENTS, vocab_size=65536)
    before = (tmp_path / "s" / "tokens.bin").stat().st_ino
    write_shards(tmp_path / "s", DOCUMENTS, vocab_size=65536)
    assert (tmp_path / "s" / "tokens.bin").stat().st_ino == before
    write_shards(tmp_path / "s", DOCUMENTS[:1], vocab_size=65536)  # other content replaces
    assert len(TokenDocuments.open(tmp_path / "s")) == 1
    assert [f.name for f in tmp_path.iterdir()] == ["s"]


def test_no_room_for_tokens_is_told(monkeypatch):
    def full(*args, **facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_shards", full)
    with pytest.raises(UserError, match=r"No space left on device.*ASSAY_CACHE"):
        tokenize(Corpus(["never seen"], "t", "t"), ByteTokenizer())


def test_blocks_do_not_change_the_tokens(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 4)
    tokenizer = ByteTokenizer()
    assert [tokenizer.decode(ids) for ids, _ in module._encode(CORPUS, tokenizer)] == CORPUS.documents


def test_boundaries_travel_with_the_tokens(tmp_path):
    generator = np.random.default_rng(0)
    marks = [generator.integers(0, 4, len(d)).astype(np.uint8) for d in DOCUMENTS]
    pairs = zip(DOCUMENTS, marks, strict=True)
    write_shards(tmp_path / "s", pairs, vocab_size=65536, boundaries=("words", "sentences"))
    opened = TokenDocuments.open(tmp_path / "s")
    assert opened.boundaries == {"words", "sentences"} and isinstance(opened.flags, np.memmap)
    assert np.array_equal(opened.flags, np.concatenate(marks))
    in_memory = TokenDocuments.from_arrays(
        DOCUMENTS, words=[(m & 1) > 0 for m in marks], sentences=[(m & 2) > 0 for m in marks]
    )
    assert np.array_equal(in_memory.flags, opened.flags) and in_memory.boundaries == opened.boundaries
    flip("flags.bin")(tmp_path / "s")
    with pytest.raises(UserError, match=r"flags.bin.*wrong hash"):
        TokenDocuments.open(tmp_path / "s")


def test_tokenised_text_knows_its_boundaries():
    documents = tokenize(Corpus(["One two. Three!", "x"], "test", "test"), ByteTokenizer())
    assert documents.boundaries == {"words", "sentences"}
    assert np.flatnonzero(documents.flags & 1).tolist() == [0, 4, 7, 9, 14, 15]  # O t . T ! x
    assert np.flatnonzero(documents.flags & 2).tolist() == [0, 9, 15]
