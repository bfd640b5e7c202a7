"""A published tokenizer as training wants one: its ids, and how many bytes of text each stands for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.tokenizer import byte_alphabet
from assay.errors import UserError
from assay.objectives.base import Ints, Vocabulary
from assay.published.tokens import Fast, PublishedTokenizer
from assay.spec.model import ModelSpec

__all__ = ["BorrowedTokenizer"]


class BorrowedTokenizer:
    """A byte-level published tokenizer (GPT-2's kind: GPT-2, LLaMA 3, OLMo, Qwen, SmolLM2 ...), without specials.

    Others are refused: held-out text is cut by bytes and words begin at bytes, so every token has to stand for a
    fixed number of them, which SentencePiece's tokens do not.
    """

    def __init__(self, inner: PublishedTokenizer, spec: ModelSpec) -> None:
        """Args: inner: as the model holds it. spec: of the model, which says what the special tokens are.

        Raises:
            UserError: no byte-level tokenizer.
        """
        self.inner, self.spec = inner, spec
        engine = inner.engine
        kind = type(getattr(getattr(engine, "inner", None), "decoder", None)).__name__
        if not isinstance(engine, Fast) or kind != "ByteLevel":
            raise UserError(
                f"{inner.source}: is no byte-level tokenizer, so its tokens stand for no fixed number of bytes, and "
                "training's held-out measure is in bits per byte.",
                "Start from a model with GPT-2's kind of tokenizer, or from a run of assay; `assay tune` takes any.",
            )
        self.backend = engine.inner

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The model's own special tokens; there are no sentinels, modes or blanks."""
        tokens = self.spec.tokens
        end = tokens.eos[0] if tokens.eos else None
        pad = tokens.pad if tokens.pad is not None else (end or 0)
        return Vocabulary(
            self.spec.vocab_size, pad, bos=tokens.bos, eos=end, decoder_start=tokens.decoder_start, mask=tokens.mask
        )

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over what decides ids."""
        tokens = json.dumps(self.spec.tokens.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256((self.backend.to_str() + tokens).encode()).hexdigest()[:16]

    def encode(self, text: str) -> Ints:
        """[n] int32 ids of the text alone."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Ints]:
        """`encode` of each.

        Raises:
            UserError: the tokenizer changed a text, so that its tokens are not the text's bytes.
        """
        found = self.backend.encode_batch(list(texts), add_special_tokens=False)
        rows = [np.asarray(encoding.ids, dtype=np.int32) for encoding in found]
        for row, text in zip(rows, texts, strict=True):
            if int(self.lengths(row).sum()) != len(text.encode()):
                raise UserError(
                    f"{self.inner.source}: changes a text before it cuts it ({text[:40]!r} ...).",
                    "Normalise the text first (Unicode NFC), or start from another model.",
                )
        return rows

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """The text."""
        return self.inner.decode(ids, specials=specials)

    def lengths(self, ids: Ints) -> Ints:
        """How many bytes each id stands for."""
        return self._lengths[np.asarray(ids, dtype=np.int64)]

    def save(self, folder: str | Path) -> None:
        """Its files, in the published form."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.inner.save(folder)

    @cached_property
    def _lengths(self) -> Ints:
        alphabet = byte_alphabet()
        table: Any = np.zeros(self.spec.vocab_size, dtype=np.int64)
        added = set(self.backend.get_added_tokens_decoder())
        for token, index in self.backend.get_vocab(with_added_tokens=True).items():
            # An added token stands for its name; all others are written a character a byte.
            plain = index not in added and all(char in alphabet for char in token)
            table[index] = len(token) if plain else len(token.encode())
        return table
