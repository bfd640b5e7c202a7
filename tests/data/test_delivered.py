"""A text that was sent along is read in its source's place, with its hash, and only where it was sent."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.data import delivered
from assay.data.corpus import Corpus
from assay.data.sources import read
from assay.errors import UserError


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sent"
    monkeypatch.setenv(delivered.VARIABLE, str(folder))
    return folder


def test_it_stands_for_its_source_and_field_alone(sent: Path, tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("one text\n")
    corpus = read(source)
    delivered.deliver(delivered.wrap(corpus), str(source), "text", sent)
    source.write_text("another text\n")
    found = read(source)
    assert (found.documents, found.hash, found.name, found.source) == (
        corpus.documents, corpus.hash, "text.txt", str(source),
    )  # fmt: skip
    assert read(source, text_field="body").documents == ["another text\n"]
    source.unlink()
    assert read(source).hash == corpus.hash


def test_the_running_pythons_prose_is_the_senders(sent: Path) -> None:
    delivered.deliver(delivered.wrap(Corpus(["older prose"], "stdlib", "stdlib")), "stdlib", "text", sent)
    assert read("stdlib").documents == ["older prose"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_any_text_arrives_as_it_was(sent: Path, documents: list[str]) -> None:
    delivered.deliver(delivered.wrap(Corpus(documents, "a", "b")), "b", "text", sent)
    assert read("b").documents == documents


def test_a_text_that_changed_on_its_way_is_refused(sent: Path) -> None:
    wrapped = delivered.wrap(Corpus(["good text"], "a", "b")).replace(b"good", b"evil")
    delivered.deliver(wrapped, "b", "text", sent)
    with pytest.raises(UserError, match="is not the text of b"):
        read("b")


def test_without_any_a_source_is_read_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(delivered.VARIABLE, raising=False)
    (tmp_path / "t.txt").write_text("text")
    assert read(tmp_path / "t.txt").documents == ["text"]
