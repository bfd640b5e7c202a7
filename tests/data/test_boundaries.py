"""Where words and sentences begin, for tokens of any size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.boundaries import SENTENCE, WORD, flags


def split(text: str, sizes: list[int]) -> np.ndarray:
    """Byte lengths of tokens that cover the text: sizes over and over, the last one cut."""
    total, lengths = len(text.encode()), []
    while sum(lengths) < total:
        lengths.append(min(sizes[len(lengths) % len(sizes)], total - sum(lengths)))
    return np.array(lengths, dtype=np.int64)


def starts(text: str, bit: int) -> list[str]:
    """What stands at each boundary, up to the next, byte by byte."""
    found = np.flatnonzero(flags(text, np.ones(len(text.encode()), dtype=np.int64)) & bit)
    content = text.encode()
    return [content[a:b].decode().strip() for a, b in zip(found, [*found[1:], len(content)], strict=True)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two three! Four? Five", ["One.", "Two three!", "Four?", "Five"]),
        ('He said "yes." Then (no.) went.', ['He said "yes."', "Then (no.)", "went."]),
        ("Version 3.11 of e.g.this file", ["Version 3.11 of e.g.this file"]),
        ("A title\n\nA text\n  \nmore\nand more", ["A title", "A text", "more\nand more"]),
        ("Größe. Ähm … ja! Ünd", ["Größe.", "Ähm … ja!", "Ünd"]),
        ("一句话。第二句！好", ["一句话。", "第二句！", "好"]),
        ("   ", [""]),
    ],
)
def test_sentences(text, sentences):
    assert starts(text, SENTENCE) == sentences


def test_words():
    assert starts("Don't stop, größte 😀 x_1", WORD) == ["Don", "'", "t", "stop", ",", "größte", "😀", "x_1"]


@given(text=st.text(max_size=80), sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_a_boundary_belongs_to_the_token_that_covers_it(text, sizes):
    lengths = split(text, sizes)
    byte = flags(text, np.ones(len(text.encode()), dtype=np.int64))
    ends = np.cumsum(lengths)
    expected = [int(np.bitwise_or.reduce(byte[e - n : e])) for e, n in zip(ends, lengths, strict=True)]
    assert flags(text, lengths).tolist() == expected


def test_no_tokens():
    assert flags("", np.zeros(0, dtype=np.int64)).tolist() == []
