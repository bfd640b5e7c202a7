"""Text to tokens and back: byte-level byte-pair encoding trained here, or plain bytes.

Both are lossless for any text: the text's ids stand for byte strings, and no text is ever read as a special
token ("<pad>" in a document is five characters). Ids: reserved, the 256 bytes, merges, sentinels
(`data/specials.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from assay.data.cache import cached_bytes, write_atomic
from assay.data.corpus import Corpus, hash_documents
from assay.data.specials import FIRST, special_name, vocabulary
from assay.errors import UserError
from assay.objectives.base import Ints, Vocabulary
from assay.spec.data import BYTES, TokenizerKind, TokenizerSpec
from assay.spec.plain import parse_json

__all__ = [
    "FILE", "BPETokenizer", "ByteTokenizer", "Tokenizer", "byte_alphabet", "load_tokenizer", "train_tokenizer",
]  # fmt: skip

FILE = "assay_tokenizer.json"
"""Name of the file that `save` writes."""

_FORMAT = 1


class Tokenizer(Protocol):
    """What the rest of assay asks of a tokenizer."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Size and special tokens."""
        ...

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over everything that decides ids."""
        ...

    def encode(self, text: str) -> Ints:
        """[n] int32 ids of the text alone: no begin or end token."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[Ints]:
        """`encode` of each, in parallel where the tokenizer can."""
        ...

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """The text; special tokens are left out, or shown by name. Bytes that are not UTF-8 become U+FFFD."""
        ...

    def lengths(self, ids: Ints) -> Ints:
        """How many bytes each id stands for; 0 for special tokens."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer into a folder, for `load_tokenizer`."""
        ...


class _ByteLevel:
    """What both kinds share: a table from id to bytes."""

    def __init__(self, spec: TokenizerSpec, pieces: list[bytes]) -> None:
        self.spec = spec
        self.pieces = pieces
        """What id FIRST + i stands for."""

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Size and special tokens."""
        return vocabulary(self.spec.vocab_size, self.spec.sentinels)

    def lengths(self, ids: Ints) -> Ints:
        """How many bytes each id stands for; 0 for special tokens."""
        return self._lengths[np.asarray(ids, dtype=np.int64)]

    @cached_property
    def _lengths(self) -> Ints:
        table = np.zeros(self.spec.vocab_size, dtype=np.int64)
        table[FIRST : FIRST + len(self.pieces)] = [len(piece) for piece in self.pieces]
        return table

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """The text; see `Tokenizer.decode`.

        Raises:
            UserError: an id outside the vocabulary.
        """
        content = []
        for token in map(int, ids):
            index = token - FIRST
            if 0 <= index < len(self.pieces):
                content.append(self.pieces[index])
            elif not 0 <= token < self.spec.vocab_size:
                raise UserError(f"token {token} lies outside the vocabulary of {self.spec.vocab_size}.")
            elif specials:
                name = special_name(token, self.spec.vocab_size, self.spec.sentinels)
                content.append((name or f"<unused_{token}>").encode())
        return b"".join(content).decode("utf-8", errors="replace")

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer into a folder, atomically. Raises OSError where it cannot be written."""
        write_atomic(Path(folder) / FILE, self._content())

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over everything that decides ids."""
        return hashlib.sha256(self._content()).hexdigest()[:16]

    def _content(self) -> bytes:
        fields = {"format": _FORMAT, "spec": self.spec.model_dump(mode="json"), "bpe": self.bpe()}
        return json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()

    def bpe(self) -> dict[str, Any] | None:
        """The model that cuts text as `tokenizers` writes it, without the reserved ids; None for plain bytes."""
        return None


class ByteTokenizer(_ByteLevel):
    """One token per byte of UTF-8: id = 11 + byte."""

    def __init__(self, spec: TokenizerSpec | None = None) -> None:
        """A byte tokenizer; the spec says how many sentinels it has."""
        super().__init__(spec or TokenizerSpec(kind=TokenizerKind.bytes), [bytes([i]) for i in range(BYTES)])

    def encode(self, text: str) -> Ints:
        """[n] int32 ids, one per byte."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32) + np.int32(FIRST)

    def encode_batch(self, texts: Sequence[str]) -> list[Ints]:
        """`encode` of each."""
        return [self.encode(text) for text in texts]


class BPETokenizer(_ByteLevel):
    """Byte-level BPE (GPT-2's pre-tokenisation) by `tokenizers`, ids shifted behind the reserved ones."""

    def __init__(self, spec: TokenizerSpec, model: dict[str, Any]) -> None:
        """From a `tokenizers` BPE in its JSON form, without special tokens."""
        from tokenizers import Tokenizer as Backend

        self._json = model
        self._backend = Backend.from_str(json.dumps(model))
        by_id = sorted(model["model"]["vocab"].items(), key=lambda item: item[1])
        assert [index for _, index in by_id] == list(range(len(by_id))), "ids of a BPE model have gaps"
        byte_of = byte_alphabet()
        super().__init__(spec, [bytes(byte_of[char] for char in token) for token, _ in by_id])
        assert FIRST + len(self.pieces) + spec.sentinels <= spec.vocab_size

    def encode(self, text: str) -> Ints:
        """[n] int32 ids."""
        return _shifted(self._backend.encode(text, add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str]) -> list[Ints]:
        """`encode` of each, in parallel threads (TOKENIZERS_PARALLELISM=false: in one)."""
        # fast: without offsets into the text
        batch = getattr(self._backend, "encode_batch_fast", self._backend.encode_batch)
        found = batch(list(texts), add_special_tokens=False)
        return [_shifted(encoding) for encoding in found]

    def bpe(self) -> dict[str, Any]:
        """See `_ByteLevel.bpe`."""
        return self._json


def train_tokenizer(spec: TokenizerSpec, corpus: Corpus) -> Tokenizer:
    """The tokenizer a spec describes, trained on `corpus` (the training split), or from the cache.

    Where the text is too small for all merges asked for, ids stay unused and the size is still the spec's.

    Raises:
        UserError: a corpus without text.
    """
    if spec.kind == TokenizerKind.bytes:
        return ByteTokenizer(spec)
    if not len(corpus):
        raise UserError(f"{corpus.source}: no text to train a tokenizer on.", "Give more text.")
    import tokenizers

    merges = spec.vocab_size - spec.least
    key = hash_documents([str(_FORMAT), tokenizers.__version__, corpus.hash, str(merges)])
    content = cached_bytes("tokenizer", key, lambda: _train(corpus.documents, BYTES + merges).encode())
    return BPETokenizer(spec, json.loads(content))


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer that `save` wrote.

    Raises:
        UserError: none there, or one that cannot be read.
    """
    path = Path(folder) / FILE
    try:
        fields = parse_json(path.read_bytes())
        spec = TokenizerSpec.model_validate(fields["spec"])
        return BPETokenizer(spec, fields["bpe"]) if fields["bpe"] else ByteTokenizer(spec)
    except FileNotFoundError:
        raise UserError(f"{path}: no tokenizer there.", "Give the folder of a run or a saved tokenizer.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except Exception as error:  # of JSON, of the spec, or the backend's, which raises bare ones
        raise UserError(f"{path}: not a tokenizer that assay wrote ({error}).", "Save it again.") from None


def _train(documents: Sequence[str], size: int) -> str:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[],
        initial_alphabet=sorted(byte_alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(documents, trainer)
    return backend.to_str()


def _shifted(encoding: Any) -> Ints:
    return np.asarray(encoding.ids, dtype=np.int32) + np.int32(FIRST)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte, the other way round (Radford et al. 2019, `encoder.py`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    alphabet.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return alphabet
