import json

import polars
import pytest

from assay.data.corpus import Corpus, hash_documents
from assay.data.sources import read
from assay.data.split import split
from assay.errors import UserError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_text_file_is_one_document_unchanged(tmp_path):
    content = "one\r\ntwo\n\n  – three 日本\n"
    corpus = read(write(tmp_path / "a.txt", content))
    assert corpus.documents == [content] and corpus.bytes == len(content.encode())
    assert read(write(tmp_path / "code.py", content)).documents == [content]  # any UTF-8 text
    assert read(write(tmp_path / "bom.md", b"\xef\xbb\xbf" + content.encode())).documents == [content]


def test_rows_are_documents(tmp_path):
    texts = ["first", "second\u2028line", "third"]
    lines = "\n".join(json.dumps({"text": t, "body": t.upper()}, ensure_ascii=False) for t in texts)
    path = write(tmp_path / "a.jsonl", lines + "\n \t\n\n")
    assert read(path).documents == texts
    assert read(path, text_field="body").documents == [t.upper() for t in texts]
    polars.DataFrame({"text": [*texts, None, " "], "n": range(5)}).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").documents == texts


def test_folders_are_read_in_order_of_their_paths(tmp_path):
    write(tmp_path / "d" / "b" / "2.txt", "b2")
    write(tmp_path / "d" / "a.txt", "a")
    write(tmp_path / "d" / "c.ndjson", '{"text": "c1"}\n{"text": "c2"}')
    write(tmp_path / "d" / ".hidden.txt", "no")
    write(tmp_path / "d" / ".git" / "x.txt", "no")
    write(tmp_path / "d" / "image.png", b"\x89PNG\0\0")
    write(tmp_path / "d" / "empty.txt", "")
    polars.DataFrame({"text": ["p"]}).write_parquet(tmp_path / "d" / "p.parquet")
    corpus = read(tmp_path / "d")
    assert corpus.documents == ["a", "b2", "c1", "c2", "p"]
    assert corpus.skipped == ("empty.txt", "image.png")
    assert read(str(tmp_path / "d")).hash == corpus.hash


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "the file is empty"),
        ("a.txt", b" \n\t\n", "no text in it"),
        ("a.txt", b"abc\0def", "byte 3 is NUL"),
        ("a.txt", b"abcd\xff", "byte 4 is 0xff"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("model.bin", b"\0" * 9, "byte 0 is NUL"),
        ("a.jsonl", b'{"text": "x"}\n{"text": }', "line 2: not valid JSON"),
        ("a.jsonl", b'{"text": "x"}\n\n["x"]', "line 3: a list, where an object"),
        ("a.jsonl", b'{"body": "x", "id": 1}', "line 1: there is no field 'text'; there are: 'body', 'id'"),
        ("a.jsonl", b'{"text": 7}', "holds a int, not text"),
        ("a.jsonl", b'{"text": "\\ud800"}', "half a surrogate pair"),
        ("a.parquet", b"PAR1 nothing", "cannot be read as Parquet"),
    ],
)
def test_bad_files_are_told_with_the_place(tmp_path, name, content, says):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as error:
        read(path)
    assert says in str(error.value) and str(path) in str(error.value)
    assert error.value.remedy
    assert "\n" not in str(error.value)


def test_bad_columns(tmp_path):
    polars.DataFrame({"body": ["x"], "n": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"no column 'text'; there are: 'body', 'n'"):
        read(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"column 'n' holds Int64, not text"):
        read(tmp_path / "a.parquet", text_field="n")


def test_missing_and_empty(tmp_path):
    write(tmp_path / "texts.txt", "x")
    with pytest.raises(UserError, match=r"no such file or folder. Did you mean 'texts.txt'"):
        read(tmp_path / "text.txt")
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "none" / "at" / "all")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="no text in it"):
        read(tmp_path / "folder")
    write(tmp_path / "folder" / "a.bin", b"\0")
    with pytest.raises(UserError, match=r"none of its 1 files holds text \(the first is a.bin\)"):
        read(tmp_path / "folder")


def test_a_broken_text_file_in_a_folder_is_told(tmp_path):
    write(tmp_path / "good.txt", "good")
    write(tmp_path / "bad.txt", b"\xff")
    with pytest.raises(UserError, match=r"bad.txt: this is not UTF-8 text: byte 0"):
        read(tmp_path)


def test_hash_sees_borders():
    assert hash_documents(["ab", "c"]) != hash_documents(["a", "bc"]) != hash_documents(["abc"])
    assert hash_documents(["a", ""]) != hash_documents(["a"])


def make_corpus(sizes):
    return Corpus([f"{i:06d} " + "x" * size for i, size in enumerate(sizes)], "test", "test")


@pytest.mark.parametrize("count", [10, 100, 1000])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_split_by_document(count, share):
    corpus = make_corpus([200 + 37 * i % 800 for i in range(count)])
    train, heldout = split(corpus, share)
    assert sorted([*train.documents, *heldout.documents]) == corpus.documents
    assert not set(train.documents) & set(heldout.documents)
    assert abs(heldout.bytes / corpus.bytes - share) < (0.03 * share + 1.1 / count if count < 100 else 0.04 * share)


def test_split_depends_on_texts_alone():
    corpus = make_corpus(range(100, 200))
    backwards = Corpus(corpus.documents[::-1], "other", "elsewhere")
    assert set(split(backwards).heldout.documents) == set(split(corpus).heldout.documents)


def test_equal_documents_fall_on_the_same_side():
    corpus = make_corpus(range(100, 150))
    doubled = Corpus([*corpus.documents, *corpus.documents], "test", "test")
    train, heldout = split(doubled)
    assert len(heldout) and not set(train.documents) & set(heldout.documents)


def test_one_document_gives_its_last_tenth():
    text = " ".join(f"wörd{i}" for i in range(2000))
    train, heldout = split(Corpus([text], "test", "test"))
    assert train.documents[0] + heldout.documents[0] == text
    assert abs(heldout.bytes / len(text.encode()) - 0.1) < 0.005
    assert heldout.documents[0].startswith(" w")  # cut before a word
    no_spaces = split(Corpus(["é" * 5000], "test", "test"))
    assert abs(no_spaces.heldout.bytes - 1000) <= 2


def test_documents_larger_than_the_share():
    train, heldout = split(make_corpus([1000, 3000, 2000]))
    assert [len(d) for d in heldout.documents] == [1007] and len(train) == 2


def test_too_little_to_split():
    with pytest.raises(UserError, match="too few"):
        split(Corpus(["x"], "test", "test"))
