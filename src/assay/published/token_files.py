"""The files that a published tokenizer lies in: what its settings say, and a copy of them as they came."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.published.files import AGAIN
from assay.spec.plain import parse_json

__all__ = [
    "FAST", "KEPT", "PIECES", "SETTINGS", "SPECIALS", "TEMPLATE", "Said", "first_line", "keep", "said", "settings",
]  # fmt: skip

FAST = "tokenizer.json"
PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
"""Names that SentencePiece models have in published folders."""
SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
SPECIALS = ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token", "sep_token", "cls_token")

KEPT = (
    FAST, SETTINGS, TEMPLATE, *PIECES, "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "vocab.txt",
)  # fmt: skip
"""What a tokenizer may consist of. Programs (tokenization_*.py) are not among them: assay does not spread them."""

Said = tuple[dict[str, str], str | None, dict[str, Any]]
"""Special tokens' texts by name, the chat template, and all other settings."""


def settings(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json says; nothing where there is none.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({first_line(error)}).", AGAIN) from None
    return found if isinstance(found, dict) else {}


def said(folder: Path, given: Mapping[str, Any]) -> Said:
    """Settings taken apart; the chat template may lie in a file of its own.

    Raises:
        UserError: that file cannot be read.
    """
    names = {name: text for name in SPECIALS if (text := _text(given.get(name))) is not None}
    rest = {name: value for name, value in given.items() if name not in SPECIALS and name != "chat_template"}
    return names, _template(folder, given), rest


def keep(origin: Path, folder: Path) -> set[str]:
    """Copy a tokenizer's files as they are, each replaced in one step; the names of those that are there.

    Raises:
        OSError: they cannot be read or written.
    """
    found = {name for name in KEPT if (origin / name).is_file()}
    if origin.resolve() != folder.resolve():
        for name in sorted(found):
            part = folder / f".{name}.part"
            shutil.copyfile(origin / name, part)
            os.replace(part, folder / name)
    return found


def _template(folder: Path, given: Mapping[str, Any]) -> str | None:
    beside = folder / TEMPLATE
    if beside.is_file():
        try:
            return beside.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{beside}: cannot be read as text ({first_line(error)}).", AGAIN) from None
    found = given.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((e.get("template") for e in found if isinstance(e, dict) and e.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _text(value: Any) -> str | None:
    """A special token's text; files give it plain or as an object with `content`."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def first_line(error: BaseException) -> str:
    """The beginning of an error's message, for ours."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
