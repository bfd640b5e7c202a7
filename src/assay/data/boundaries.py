"""Where words and sentences begin, as bit flags for each token, computed once when text becomes tokens.

Tokens stand for consecutive bytes of the text, so a boundary at a byte belongs to the token that covers it: a token
" The" begins a word (and perhaps a sentence) though its first byte is a space.

A word is a run of letters, digits and underscores, or any other single character that is not white space (as BERT's
basic tokenizer splits). A sentence ends with `.`, `!` or `?`, closing quotes and brackets included, before white
space, or with a blank line; ideographic full stops end one anywhere.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from assay.objectives.base import Ints

__all__ = ["BITS", "SENTENCE", "WORD", "flags"]

WORD = 1
SENTENCE = 2
BITS = {"words": WORD, "sentences": SENTENCE}
"""The bit of each kind of boundary."""

_WORDS = re.compile(r"\w+|[^\w\s]")
_ENDS = re.compile(r"""[.!?]["'”’)\]]*\s+|[。！？]["'”’)\]」』]*\s*|\n[^\S\n]*\n\s*""")


def flags(text: str, lengths: Ints) -> NDArray[np.uint8]:
    """[tokens] uint8: bit 1 where a word begins, bit 2 where a sentence begins.

    Args:
        text: the text.
        lengths: [tokens] bytes of UTF-8 that each token stands for; their sum is the text's.
    """
    found = np.zeros(len(lengths), dtype=np.uint8)
    if not len(lengths):
        return found
    ends = np.cumsum(lengths)
    words = np.fromiter((match.start() for match in _WORDS.finditer(text)), dtype=np.int64)
    sentences = np.fromiter((match.end() for match in _ENDS.finditer(text)), dtype=np.int64)
    sentences = np.append(0, sentences[sentences < len(text)])
    if not text.isascii():
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        sizes = np.sum([points >= least for least in (0, 0x80, 0x800, 0x10000)], axis=0, dtype=np.int64)
        bytes_before = np.cumsum(sizes) - sizes
        words, sentences = bytes_before[words], bytes_before[sentences]
    assert ends[-1] == (len(text) if text.isascii() else len(text.encode())), "tokens that are not the text's bytes"
    found[np.searchsorted(ends, words, side="right")] |= WORD
    found[np.searchsorted(ends, sentences, side="right")] |= SENTENCE
    return found
