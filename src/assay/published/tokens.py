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
from assay.published.writing import replace
from assay.spec.model import ModelSpec
from assay.spec.plain import parse_json

__all__ = ["PublishedTokenizer", "fits", "folder_tokenizer"]

SPECIALS = ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token", "sep_token", "cls_token")
PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
"""Names that SentencePiece models have in published folders."""
SETTINGS = "tokenizer_config.json"
MOST_SENTINELS = 10_000
"""T5 has 100."""


class Engine(Protocol):
    """What turns text into ids: a tokenizers or a SentencePiece model."""

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

    def write(self, folder: Path) -> str:
        """Save into a folder; returns the class that transformers opens it with."""
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
        """Its files, in the published form."""
        path = Path(folder)
        kind = self.engine.write(path)
        fields = {"tokenizer_class": kind, **self.settings, **self.specials}
        if self.chat_template:
            fields["chat_template"] = self.chat_template
        replace(path / "tokenizer_config.json", json.dumps(fields, indent=2, ensure_ascii=False) + "\n")

    def save_pretrained(self, folder: str | Path) -> None:
        """The same, under transformers' name."""
        self.save(folder)


@dataclass
class Fast:
    """Hugging Face's tokenizers."""

    inner: Any

    file: str = "the tokenizer"
    """Its file, for messages: some damage shows only when it is used."""

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

    def write(self, folder: Path) -> str:
        """tokenizer.json."""
        self.inner.save(str(folder / "tokenizer.json"))
        return "PreTrainedTokenizerFast"


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

    def write(self, folder: Path) -> str:
        """The model, as it came."""
        (folder / self.file).write_bytes(self.raw)
        return self.kind

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
    settings = _settings(folder)
    fast = folder / "tokenizer.json"
    if fast.is_file():
        from tokenizers import Tokenizer

        with guarded(f"{fast}: cannot be read as a tokenizer", AGAIN):
            inner = Tokenizer.from_file(str(fast))
            # A file may ask for padding or cutting, as it was last used in training: a text stays as long as it is.
            inner.no_padding()
            inner.no_truncation()
        engine: Engine = Fast(inner, str(fast))
        path = fast
    else:
        found = next((folder / name for name in PIECES if (folder / name).is_file()), None)
        if found is None:
            return None
        read = _ranked if is_ranked(found) else _pieces
        engine, path = read(found, settings, model_type), found
    said = {name: text for name in SPECIALS if (text := _text(settings.get(name))) is not None}
    rest = {n: v for n, v in settings.items() if n not in SPECIALS and n != "chat_template"}
    template = _template(folder, settings)
    return fits(PublishedTokenizer(engine, str(path), said, template, rest), spec)


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
        raise UserError(f"{path}: cannot be read as a SentencePiece model ({_first_line(error)}).", AGAIN) from None
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
    said = settings.get("added_tokens_decoder") or {}
    try:
        return {int(token): str(entry["content"]) for token, entry in said.items() if int(token) >= 0}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({_first_line(error)}).", AGAIN) from None
    return found if isinstance(found, dict) else {}


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        try:
            return beside.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{beside}: cannot be read as text ({_first_line(error)}).", AGAIN) from None
    said = settings.get("chat_template")
    if isinstance(said, list):  # several, by name
        said = next((e.get("template") for e in said if isinstance(e, dict) and e.get("name") == "default"), None)
    return said if isinstance(said, str) else None


def _text(value: Any) -> str | None:
    """A special token's text; files give it plain or as an object with `content`."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
