"""tiktoken's files: a line a token, its bytes in base64 and its rank. Llama 3 in Meta's form and glm-4-9b have them.

The file has no merges. A token's own are the two pieces that the tokens ranked before it leave of its bytes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.published.files import AGAIN

__all__ = ["CHATGLM4", "LLAMA3", "is_ranked", "ranked_tokenizer"]

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How both cut text first."""

LLAMA3 = (
    "<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4)),
    "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>",
    *(f"<|reserved_special_token_{i}|>" for i in range(5, 251)),
)  # fmt: skip
"""Special tokens of Llama 3, which its code adds behind the file's; the first begins a text."""

CHATGLM4 = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip
"""Special tokens of glm-4-9b; [gMASK] and <sop> begin a text."""


LONGEST = 512
"""Bytes of a token; published ones end at 128, and finding a token's pieces takes the square of it."""


def is_ranked(path: Path) -> bool:
    """Whether a file begins as tiktoken's do."""
    with path.open("rb") as file:
        return bool(re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", file.read(256)))


def ranked_tokenizer(path: Path, specials: Mapping[str, int] | tuple[str, ...], first: tuple[str, ...]) -> Any:
    """The file as a tokenizers.Tokenizer.

    Args:
        path: the file.
        specials: special tokens with ids, or names that follow the file's own tokens.
        first: those that begin a text.

    Raises:
        UserError: a damaged line, or ranks with a gap.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing

    ranks = _ranks(path)
    letters = _letters()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = []
    for token, rank in sorted(ranks.items(), key=lambda entry: entry[1]):
        if len(token) > 1:
            parts = _pieces(ranks, token, rank)
            if len(parts) == 2:
                merges.append((spelled(parts[0]), spelled(parts[1])))
    inner = Tokenizer(BPE({spelled(token): rank for token, rank in ranks.items()}, merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    inner.decoder = decoders.ByteLevel()
    ids = dict(specials) if isinstance(specials, Mapping) else {n: len(ranks) + i for i, n in enumerate(specials)}
    inner.add_special_tokens([AddedToken(n, normalized=False) for n, _ in sorted(ids.items(), key=lambda e: e[1])])
    odd = next((name for name in first if name not in ids), None)
    if odd is not None:
        raise UserError(f"{path}: its special tokens have no {odd!r}, which begins every text.", AGAIN)
    wrong = next((name for name, token in ids.items() if inner.token_to_id(name) != token), None)
    if wrong is not None:
        raise UserError(f"{path}: its special token {wrong!r} does not follow the {len(ranks)} others.", AGAIN)
    if first:
        around = [(name, ids[name]) for name in first]
        inner.post_processor = TemplateProcessing(single=[*first, "$A"], special_tokens=around)
    return inner


def _ranks(path: Path) -> dict[bytes, int]:
    try:
        lines = path.read_bytes().split()
        found = {base64.b64decode(lines[i], validate=True): int(lines[i + 1]) for i in range(0, len(lines), 2)}
        if max(map(len, found), default=0) > LONGEST:
            raise UserError(f"{path}: a token has more than {LONGEST} bytes, which no such file has.", AGAIN)
    except UserError:
        raise
    except (ValueError, IndexError):
        raise UserError(f"{path}: begins as a list of ranked tokens and does not go on as one.", AGAIN) from None
    if sorted(found.values()) != list(range(len(found))) or any(bytes([byte]) not in found for byte in range(256)):
        raise UserError(f"{path}: its ranked tokens have gaps.", AGAIN)
    return found


def _pieces(ranks: Mapping[bytes, int], token: bytes, limit: int) -> list[bytes]:
    """What merging by the ranks below `limit` leaves of a token."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, limit) for a, b in pairwise(parts)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[best] >= limit:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def _letters() -> dict[int, str]:
    """GPT-2's letter for every byte: printable ones stand for themselves."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
