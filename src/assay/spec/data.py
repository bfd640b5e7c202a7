"""What is read and how it becomes tokens: the description of a data set."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from assay.spec.axes import Axis
from assay.spec.base import Part

RESERVED = 11
"""Ids at the vocabulary's start that stand for no text (`data/specials.py` names them)."""
BYTES = 256


class TokenizerKind(Axis):
    """How text becomes tokens."""

    bpe = "bpe"
    """Byte-level byte-pair encoding, trained on the training split."""
    bytes = "bytes"
    """One token per byte."""


class TokenizerSpec(Part):
    """A tokenizer to train; equal specs on equal text give equal tokenizers."""

    shorthand: ClassVar[str | None] = "kind"

    kind: TokenizerKind = TokenizerKind.bpe
    """Byte-pair encoding or plain bytes."""
    vocab_size: int = Field(default=2048, gt=0)
    """All ids: reserved, bytes, merges, sentinels. Follows from the rest for plain bytes."""
    sentinels: int = Field(default=32, ge=0)
    """Sentinel tokens of span corruption, at the vocabulary's end (T5: 100)."""

    @property
    def least(self) -> int:
        """Ids that any vocabulary needs: reserved, bytes, sentinels."""
        return RESERVED + BYTES + self.sentinels

    @model_validator(mode="before")
    @classmethod
    def _size_of_bytes(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"kind": value}
        if isinstance(value, dict) and value.get("kind") == "bytes" and "vocab_size" not in value:
            sentinels = value.get("sentinels", cls.model_fields["sentinels"].default)
            if isinstance(sentinels, int):
                return {**value, "vocab_size": RESERVED + BYTES + sentinels}
        return value

    @model_validator(mode="after")
    def _fits(self) -> TokenizerSpec:
        parts = f"{RESERVED} reserved + {BYTES} bytes + {self.sentinels} sentinels"
        if self.kind == TokenizerKind.bytes and self.vocab_size != self.least:
            raise ValueError(
                f"vocab_size = {self.vocab_size}: plain bytes have {self.least} ids ({parts}). "
                f"Leave vocab_size out, or give {self.least}."
            )
        if self.vocab_size < self.least:
            raise ValueError(
                f"vocab_size = {self.vocab_size} is too small: {parts} = {self.least} ids come before the "
                f"first merge. Give more than {self.least}, or fewer sentinels."
            )
        return self


class DataSpec(Part):
    """Where the text comes from, how it is split and tokenised."""

    shorthand: ClassVar[str | None] = "source"

    source: str = "stdlib"
    """A file or folder of text, JSON Lines or Parquet; `stdlib`: the running Python's own prose;
    `made:addition` and the like: text made from a name (`data/made.py`)."""
    text_field: str = "text"
    """The field (JSON Lines) or column (Parquet) that holds the text."""
    tokenizer: TokenizerSpec = TokenizerSpec()
    """How text becomes tokens."""
    heldout: float = Field(default=0.1, gt=0, lt=1)
    """Share of the bytes kept out of training, whole documents where there are several."""
