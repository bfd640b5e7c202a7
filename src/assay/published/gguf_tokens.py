"""The tokenizer inside a GGUF file, rebuilt with the tokenizers library.

`gpt2` is byte-level byte-pair encoding, told apart by how it cuts text first (`tokenizer.ggml.pre`); `llama` is
SentencePiece's, whose merges follow from the pieces' scores.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from assay.data.rust import guarded
from assay.errors import UserError
from assay.published.files import AGAIN
from assay.published.gguf_file import GGUF
from assay.published.tokens import Fast, PublishedTokenizer, fits
from assay.spec.model import ModelSpec

__all__ = ["gguf_tokenizer"]

CONTROL, USER = 3, 4
"""Kinds of tokens: special ones, and words that are never cut."""

BYTE_LEVEL = ("gpt-2", "default", "olmo", "mpt", "jais", "phi-2", "granite-docling", "trillion")
"""Cut as GPT-2 does."""
DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""Digits one by one first, then as GPT-2."""
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4"), _WORDS % "{1,3}"),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"), _WORDS % ""),
}
"""Cut by a pattern of their own."""


def gguf_tokenizer(file: GGUF, spec: ModelSpec) -> PublishedTokenizer | None:
    """The tokenizer of a GGUF file; None where it holds none, or (with a warning) one of another kind.

    Raises:
        UserError: damaged, or larger than the model's vocabulary.
    """
    say = {k.removeprefix("tokenizer."): v for k, v in file.metadata.items() if k.startswith("tokenizer.")}
    kind, tokens = say.get("ggml.model"), say.get("ggml.tokens")
    if not kind or not tokens:
        return None
    _check(file, say)
    if kind not in ("gpt2", "llama"):
        _passed_over(file, f"tokenizer.ggml.model = {kind!r}")
        return None
    with guarded(f"{file.path}: its tokenizer is corrupt"):
        inner = _byte_level(file, say, tokens) if kind == "gpt2" else _sentence_pieces(file, say, tokens)
        if inner is None:
            _passed_over(file, f"tokenizer.ggml.pre = {say.get('ggml.pre')!r}")
            return None
        _add_specials(inner, tokens, say.get("ggml.token_type") or [])
        begins = kind == "llama" or say.get("ggml.pre") in ("llama-bpe", "llama3", "llama-v3")
        _surround(inner, say, tokens, begins=begins)
    names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    specials = {f"{ours}_token": name for ours, key in names.items() if (name := _named(say, tokens, key)) is not None}
    made = PublishedTokenizer(Fast(inner, str(file.path)), str(file.path), specials, say.get("chat_template"))
    return fits(made, spec)


KINDS: dict[str, tuple[type, str]] = {
    "ggml.tokens": (str, "texts"), "ggml.merges": (str, "texts"), "ggml.token_type": (int, "numbers"),
    "ggml.scores": (float, "numbers"),
}  # fmt: skip
"""Lists of the metadata, and what they hold."""


def _check(file: GGUF, say: Mapping[str, Any]) -> None:
    """Lists that hold what they should, texts that are texts.

    Raises:
        UserError: one that is something else.
    """
    for key, (kind, what) in KINDS.items():
        value = say.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, kind) for item in value)):
            raise UserError(f"{file.path}: tokenizer.{key} holds no list of {what}.", AGAIN)
    for key in ("ggml.model", "ggml.pre", "chat_template"):
        if not isinstance(say.get(key, ""), str):
            raise UserError(f"{file.path}: tokenizer.{key} is no text.", AGAIN)


def _passed_over(file: GGUF, what: str) -> None:
    warnings.warn(f"{file.path}: {what} is not supported: the model takes ids alone.", stacklevel=5)


def _byte_level(file: GGUF, say: Mapping[str, Any], tokens: Sequence[str]) -> Any | None:
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    pre = say.get("ggml.pre", "default")
    if pre in BYTE_LEVEL:
        cuts: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    elif pre in DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        cuts = [digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    elif pre in PATTERNS:
        split = pre_tokenizers.Split(Regex(PATTERNS[pre]), "isolated")
        cuts = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        return None
    merges = [tuple(merge.split(" ", 1)) for merge in say.get("ggml.merges") or []]
    odd = next((merge for merge in merges if len(merge) != 2), None)
    if odd is not None:
        raise UserError(f"{file.path}: its tokenizer's merge {odd[0]!r} joins no two pieces.", AGAIN)
    # Llama 3's merges leave some of its words out: these are taken whole.
    model = BPE({token: i for i, token in enumerate(tokens)}, merges, ignore_merges=pre in PATTERNS)
    inner = Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    inner.decoder = decoders.ByteLevel()
    return inner


def _sentence_pieces(file: GGUF, say: Mapping[str, Any], tokens: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    scores = say.get("ggml.scores") or []
    if len(scores) != len(tokens):
        raise UserError(f"{file.path}: its tokenizer has {len(tokens)} tokens and {len(scores)} scores.", AGAIN)
    ids = {token: i for i, token in enumerate(tokens)}
    unknown = _named(say, tokens, "unknown") or "<unk>"
    model = BPE(
        ids, _merges(ids, scores), unk_token=unknown if unknown in ids else None, fuse_unk=True,
        byte_fallback="<0x0A>" in ids,
    )  # fmt: skip
    inner = Tokenizer(model)
    prefix = bool(say.get("ggml.add_space_prefix", True))
    steps = [*([normalizers.Prepend("▁")] if prefix else []), normalizers.Replace(" ", "▁")]
    inner.normalizer = normalizers.Sequence(steps)
    back: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence([*back, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    return inner


def _merges(ids: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the best-scored pieces first."""
    found = []
    lengths = sorted(set(map(len, ids)))  # cutting a piece anywhere would take the square of a long one
    for piece, number in ids.items():
        ways = [(piece[:cut], piece[cut:]) for cut in lengths if 0 < cut < len(piece)]
        ways = [(a, b) for a, b in ways if a in ids and b in ids]
        found += [(-scores[number], number, ids[a], ids[b], a, b) for a, b in ways]
    return [(a, b) for *_, a, b in sorted(found, key=lambda way: way[:4])]


def _add_specials(inner: Any, tokens: Sequence[str], kinds: Sequence[int]) -> None:
    from tokenizers import AddedToken

    special = [
        AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, kinds, strict=False) if k == CONTROL
    ]
    words = [AddedToken(t, normalized=False, special=False) for t, k in zip(tokens, kinds, strict=False) if k == USER]
    inner.add_special_tokens(special)
    inner.add_tokens(words)


def _surround(inner: Any, say: Mapping[str, Any], tokens: Sequence[str], *, begins: bool) -> None:
    from tokenizers.processors import TemplateProcessing

    begin, end = _named(say, tokens, "bos"), _named(say, tokens, "eos")
    first = [begin] if begin is not None and say.get("ggml.add_bos_token", begins) else []
    last = [end] if end is not None and say.get("ggml.add_eos_token", False) else []
    if first or last:
        around = [*first, *last]
        inner.post_processor = TemplateProcessing(
            single=[*first, "$A", *last],
            special_tokens=[(name, inner.token_to_id(name)) for name in dict.fromkeys(around)],
        )


def _named(say: Mapping[str, Any], tokens: Sequence[str], key: str) -> str | None:
    number = say.get(f"ggml.{key}_token_id")
    return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None
