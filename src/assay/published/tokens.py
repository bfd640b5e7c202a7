"""Published tokenizers as a model holds them: tokenizer.json, SentencePiece models, and GGUF's own.

Each gives `encode`, `decode`, the special tokens' texts and the chat template, whatever it is made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from assay.data.rust import guarded
from assay.errors import UserError
from assay.published.files import AGAIN
from assay.published.ranked import CHATGLM4, LLAMA3, is_ranked, ranked_tokenizer
from assay.published.token_files import FAST, PIECES, SETTINGS, SPECIALS, TEMPLATE, first_line, keep, said, settings
from assay.published.writing import replace
from assay.spec.model import ModelSpec

__all__ = ["PublishedTokenizer", "fits", "folder_tokenizer"]

MOST_SENTINELS = 10_000
"""T5 has 100."""


class Engine(Protocol):
    """What turns text into ids: a tokenizers or a SentencePiece model."""

    kind: str
    """The class that transformers opens it with."""

    @property
    def stored(self) -> str:
        """Name of the file that holds it in a published folder."""
        ...

    def encode(self, text: str, special: bool) -> list[int]:
        """Ids; with `special`, what the model wants around a text."""
        ...

    def decode(self, ids: Sequence[int], special: bool) -> str:
        """Text; with `special`, special tokens by name."""
        ...

    @property
    def largest(self) -> int:
        """The largest id."""
        ...

    def name(self, token: int) -> str:
        """What an id is called."""
        ...

    def id(self, name: str) -> int | None:
        """The id of that name."""
        ...

    def write(self, folder: Path) -> None:
        """Save into a folder."""
        ...


@dataclass
class PublishedTokenizer:
    """A published model's tokenizer."""

    engine: Engine
    source: str
    """Its file, for messages."""
    specials: Mapping[str, str] = field(default_factory=dict)
    """bos_token, eos_token, ... -> text."""
    chat_template: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else its tokenizer_config.json says; exports keep it."""
    origin: Path | None = None
    """The published folder that it was read from; exports copy its files as long as they are there."""

    def __getattr__(self, name: str) -> Any:
        """`bos_token` and its like; None where there is none."""
        if name in SPECIALS:
            return self.specials.get(name)
        raise AttributeError(name)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text, with what the model wants before and after it.

        A text that begins with the begin token itself, as chat templates write it, gets no second one.
        """
        begin = self.specials.get("bos_token")
        ids = self.engine.encode(text, add_special_tokens)
        if add_special_tokens and begin and text.startswith(begin):
            first = self.engine.id(begin)
            if len(ids) > 1 and ids[0] == ids[1] == first:
                return ids[1:]
        return ids

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        """`encode` of each."""
        return [self.encode(text, add_special_tokens) for text in texts]

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """The text of ids; special tokens are left out, or shown by name."""
        return self.engine.decode([int(token) for token in ids], specials)

    def save(self, folder: str | Path) -> None:
        """Its files, in the published form: those that it was read from where there are any, and what they lack."""
        path = Path(folder)
        kept = keep(self.origin, path) if self.origin is not None else set()
        if self.engine.stored not in kept:
            self.engine.write(path)
        if SETTINGS in kept and self._as_it_came():
            return
        fields = {"tokenizer_class": self.engine.kind, **self.settings, **self.specials}
        if self.chat_template:
            fields["chat_template"] = self.chat_template
        replace(path / SETTINGS, json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
        (path / TEMPLATE).unlink(missing_ok=True)  # it would be read before what is said now

    def save_pretrained(self, folder: str | Path) -> None:
        """The same, under transformers' name."""
        self.save(folder)

    def _as_it_came(self) -> bool:
        """Whether its settings say what they said when they were read, and which class opens it."""
        assert self.origin is not None
        found = settings(self.origin)
        now = dict(self.specials), self.chat_template, dict(self.settings)
        return "tokenizer_class" in found and said(self.origin, found) == now


@dataclass
class Fast:
    """Hugging Face's tokenizers."""

    inner: Any

    file: str = "the tokenizer"
    """Its file, for messages: some damage shows only when it is used."""
    kind: str = "PreTrainedTokenizerFast"

    def encode(self, text: str, special: bool) -> list[int]:
        """Ids.

        Raises:
            UserError: the file's parts do not go together (an unknown token that it does not have).
        """
        with guarded(f"{self.file}: cannot encode this text"):
            return list(self.inner.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int], special: bool) -> str:
        """Text.

        Raises:
            UserError: the file's parts do not go together.
        """
        with guarded(f"{self.file}: cannot decode these ids"):
            return str(self.inner.decode(list(ids), skip_special_tokens=not special))

    @property
    def largest(self) -> int:
        """The largest id."""
        return max(self.inner.get_vocab(with_added_tokens=True).values(), default=-1)

    def name(self, token: int) -> str:
        """What an id is called."""
        return str(self.inner.id_to_token(token))

    def id(self, name: str) -> int | None:
        """The id of that name."""
        found = self.inner.token_to_id(name)
        return None if found is None else int(found)

    @property
    def stored(self) -> str:
        """tokenizer.json, whatever it was made from."""
        return FAST

    def write(self, folder: Path) -> None:
        """tokenizer.json."""
        self.inner.save(str(folder / FAST))


@dataclass
class Pieces:
    """A SentencePiece model. `first` and `last` stand around a text; `shift` is what ids lie above the model's own."""

    inner: Any
    raw: bytes
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    shift: int = 0
    extra: Mapping[str, int] = field(default_factory=dict)
    """Tokens beside the model's own, by name."""
    file: str = "tokenizer.model"
    kind: str = "LlamaTokenizer"

    def encode(self, text: str, special: bool) -> list[int]:
        """Ids; names of extra tokens in the text become their ids."""
        ids: list[int] = []
        for piece in _cut(text, self.extra):
            ids += [self.extra[piece]] if piece in self.extra else [self._up(i) for i in self.inner.encode(piece)]
        return [*self.first, *ids, *self.last] if special else ids

    def decode(self, ids: Sequence[int], special: bool) -> str:
        """Text."""
        names = {token: name for name, token in self.extra.items()}
        text = ""
        run: list[int] = []
        for token in ids:
            own = self._down(token)
            if token in names or own is None or self.inner.is_control(own):
                text += self.inner.decode(run) + (self.name(token) if special else "")
                run = []
            else:
                run.append(own)
        return text + str(self.inner.decode(run))

    @property
    def largest(self) -> int:
        """The largest id."""
        return max([self.inner.get_piece_size() - 1 + self.shift, *self.extra.values()])

    def name(self, token: int) -> str:
        """What an id is called."""
        own = self._down(token)
        name = next((n for n, t in self.extra.items() if t == token), None)
        return name or (f"<{token}>" if own is None else str(self.inner.id_to_piece(own)))

    def id(self, name: str) -> int | None:
        """The id of that name."""
        if name in self.extra:
            return self.extra[name]
        found = self.inner.piece_to_id(name)
        return None if found == self.inner.unk_id() else self._up(int(found))

    @property
    def stored(self) -> str:
        """The model's own file."""
        return self.file

    def write(self, folder: Path) -> None:
        """The model, as it came."""
        (folder / self.file).write_bytes(self.raw)

    def _up(self, own: int) -> int:
        return FAIRSEQ_UNKNOWN if self.shift and own == self.inner.unk_id() else own + self.shift

    def _down(self, token: int) -> int | None:
        own = token - self.shift
        return own if 0 <= own < self.inner.get_piece_size() else None


FAIRSEQ_UNKNOWN = 3
"""Where models of fairseq's numbering (mBART) keep the unknown token."""


def _cut(text: str, names: Mapping[str, int]) -> list[str]:
    if not any(names):
        return [text]
    import re

    longest = sorted(names, key=len, reverse=True)
    return [piece for piece in re.split("(" + "|".join(map(re.escape, filter(None, longest))) + ")", text) if piece]


def folder_tokenizer(folder: Path, spec: ModelSpec, model_type: str = "") -> PublishedTokenizer | None:
    """The tokenizer in a published folder: tokenizer.json first, then a SentencePiece model; None: there is none.

    Raises:
        UserError: a damaged file, one that does not fit the model's vocabulary, or a missing package.
    """
    given = settings(folder)
    fast = folder / FAST
    if fast.is_file():
        from tokenizers import Tokenizer

        with guarded(f"{fast}: cannot be read as a tokenizer", AGAIN):
            inner = Tokenizer.from_file(str(fast))
            # A file may ask for padding or cutting, as it was last used in training: a text stays as long as it is.
            inner.no_padding()
            inner.no_truncation()
            # What transformers does too: a special token's name in a text is text.
            inner.encode_special_tokens = given.get("split_special_tokens") is True
        engine: Engine = Fast(inner, str(fast))
        path = fast
    else:
        found = next((folder / name for name in PIECES if (folder / name).is_file()), None)
        if found is None:
            return None
        read = _ranked if is_ranked(found) else _pieces
        engine, path = read(found, given, model_type), found
    return fits(PublishedTokenizer(engine, str(path), *said(folder, given), origin=folder), spec)


def fits(tokenizer: PublishedTokenizer, spec: ModelSpec) -> PublishedTokenizer:
    """The tokenizer, if every one of its ids has a row in the model's embedding.

    Raises:
        UserError: an id beyond the vocabulary.
    """
    largest = tokenizer.engine.largest
    if largest >= spec.vocab_size:
        raise UserError(
            f"{tokenizer.source}: its token {largest} ({tokenizer.engine.name(largest)!r}) is outside the model's "
            f"vocabulary of {spec.vocab_size}.",
            "Use the tokenizer that was published with these weights, or take the file out of the folder.",
        )
    return tokenizer


def _ranked(path: Path, settings: Mapping[str, Any], model_type: str) -> Engine:
    """Tiktoken's form: glm-4-9b's, or Llama 3's."""
    added = {text: token for token, text in _added(settings).items()}
    if model_type == "chatglm":
        return Fast(ranked_tokenizer(path, added or CHATGLM4, ("[gMASK]", "<sop>")), str(path))
    return Fast(ranked_tokenizer(path, added or LLAMA3, LLAMA3[:1]), str(path))


def _pieces(path: Path, settings: Mapping[str, Any], model_type: str) -> Engine:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise UserError(
            f"{path}: reading it needs the sentencepiece package.", 'Install it: pip install "assay[sentencepiece]".'
        ) from None
    try:
        raw = path.read_bytes()
        inner = SentencePieceProcessor()
        inner.LoadFromSerializedProto(raw)
        known = {inner.id_to_piece(i) for i in range(inner.get_piece_size())}
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a SentencePiece model ({first_line(error)}).", AGAIN) from None
    size, begin, end = inner.get_piece_size(), inner.bos_id(), inner.eos_id()
    extra = {text: int(token) for token, text in _added(settings).items()}
    if model_type == "chatglm":
        names = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
        extra = {name: size + number for number, name in enumerate(names)} | extra
        return Pieces(inner, raw, first=(size + 1, size + 3), extra=extra, file=path.name, kind="ChatGLMTokenizer")
    if model_type in ("mbart", "xlm-roberta"):
        own = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
        return Pieces(inner, raw, last=(2,), shift=1, extra=own | extra, file=path.name, kind="MBartTokenizer")
    t5 = model_type in ("t5", "umt5")
    if t5:
        count = settings.get("extra_ids", 100)
        if not isinstance(count, int) or not 0 <= count <= MOST_SENTINELS:
            raise UserError(
                f"{path.parent / SETTINGS}: extra_ids = {count!r}: a number from 0 to {MOST_SENTINELS:,} belongs here.",
                AGAIN,
            )
        extra = {f"<extra_id_{number}>": size + count - 1 - number for number in range(count)} | extra
    extra = {name: token for name, token in extra.items() if name not in known}
    llama = model_type in ("llama", "mistral", "mixtral", "gemma", "gemma2")
    adds_begin, adds_end = settings.get("add_bos_token", llama), settings.get("add_eos_token", t5)
    return Pieces(
        inner, raw, first=(begin,) if adds_begin and begin >= 0 else (), last=(end,) if adds_end and end >= 0 else (),
        extra=extra, file=path.name, kind="T5Tokenizer" if t5 else "LlamaTokenizer",
    )  # fmt: skip


def _added(settings: Mapping[str, Any]) -> dict[int, str]:
    found = settings.get("added_tokens_decoder") or {}
    try:
        return {int(token): str(entry["content"]) for token, entry in found.items() if int(token) >= 0}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
