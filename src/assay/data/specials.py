"""Where the tokens that stand for no text lie: reserved ids first, sentinels last.

All of them are reserved from the start, so that a later objective (UL2's modes, GLM's blanks) needs no new
vocabulary and no model has to be resized.
"""

from __future__ import annotations

from assay.objectives.base import Vocabulary
from assay.spec.data import RESERVED

__all__ = ["FIRST", "NAMES", "special_name", "vocabulary"]

NAMES = (
    "<pad>", "<eos>", "<bos>", "<mask>", "[NLU]", "[NLG]", "[S2S]", "[MASK]", "[gMASK]", "<sop>", "<eop>",
)  # fmt: skip
"""Names of ids 0, 1, 2 ...; pad is the decoder start too, as in T5."""

FIRST = len(NAMES)
"""The first id that stands for text."""

assert FIRST == RESERVED


def vocabulary(size: int, sentinels: int) -> Vocabulary:
    """The layout of `size` ids: reserved, text, then `sentinels` with sentinel 0 at the very end."""
    return Vocabulary(
        size=size,
        pad=0,
        eos=1,
        bos=2,
        mask=3,
        decoder_start=0,
        sentinels=tuple(range(size - 1, size - 1 - sentinels, -1)),
        named={name: index for index, name in enumerate(NAMES) if name.startswith("[") or "op>" in name},
    )


def special_name(token: int, size: int, sentinels: int) -> str | None:
    """What to show for a token that stands for no text; None for one that does."""
    if 0 <= token < FIRST:
        return NAMES[token]
    if size - sentinels <= token < size:
        return f"<extra_id_{size - 1 - token}>"
    return None
