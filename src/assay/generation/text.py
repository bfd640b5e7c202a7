"""Between tokens and text while a text grows: pieces as they become certain, stop strings, chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from assay.errors import UserError

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that are no whole character yet."""


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text, by whatever kind of tokenizer the model holds."""
    found = tokenizer.encode(text)
    return [int(token) for token in getattr(found, "ids", found)]


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of ids, special tokens left out."""
    return str(tokenizer.decode([int(token) for token in ids]))


class Unfolding:
    """The text of one row as its tokens come: `add` gives what each token makes certain, `rest` what was held back.

    Tokens are decoded together with some before them, since a token's text may depend on its left neighbour (a space
    that only a word's beginning drops) and a character may be spread over several.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int] = ()) -> None:
        """Args: tokenizer: decodes; prompt: tokens before the first one, whose text is not told."""
        self._tokenizer = tokenizer
        self._ids = list(prompt[-8:])
        self._known = len(self._ids)
        self._start = 0

    def add(self, token: int) -> str:
        """The text that this token completes; '' while a character is unfinished."""
        self._ids.append(token)
        text = self._fresh()
        if not text or text.endswith(UNFINISHED):
            return ""
        self._start, self._known = self._known, len(self._ids)
        return text

    def rest(self) -> str:
        """What `add` has held back."""
        text = self._fresh()
        self._known = len(self._ids)
        return text

    def _fresh(self) -> str:
        before = decode(self._tokenizer, self._ids[self._start : self._known])
        return decode(self._tokenizer, self._ids[self._start :])[len(before) :]


class StopTexts:
    """Whether rows have come to one of several texts, also one that spans tokens."""

    def __init__(self, stops: Sequence[str], tokenizer: Any, prompts: list[list[int]]) -> None:
        """Args: stops: texts that end a row; tokenizer: decodes; prompts: every row's tokens before the answer."""
        self._stops, self._tokenizer = tuple(stops), tokenizer
        self._rows = [Unfolding(tokenizer, prompt) for prompt in prompts]
        self._tails = [""] * len(prompts)
        self._keep = max(map(len, self._stops)) - 1

    def reached(self, made: Int[Tensor, "b n"], count: int, ended: Bool[Tensor, " b"]) -> Bool[Tensor, " b"]:
        """Which rows reach a stop text with their newest token, the `count`-th; rows that ended are left alone."""
        newest, over = made[:, count - 1].tolist(), ended.tolist()
        hits = [False] * len(newest)
        for row, token in enumerate(newest):
            if over[row]:
                continue
            text = self._tails[row] + self._rows[row].add(token)
            hits[row] = any(stop in text for stop in self._stops)
            self._tails[row] = text[len(text) - min(self._keep, len(text)) :]
        return torch.tensor(hits, device=made.device)

    def found(self, made: Int[Tensor, "n t"]) -> Bool[Tensor, " n"]:
        """Which rows hold a stop text, each decoded whole (beam search, where rows change places)."""
        texts = [decode(self._tokenizer, row) for row in made.tolist()]
        return torch.tensor([any(stop in text for stop in self._stops) for text in texts], device=made.device)


class Teller:
    """Hands on one row's text as it grows, up to the first stop text; what may begin one is held back."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stops: Sequence[str], tell: Any) -> None:
        """Args: tokenizer, prompt: as for `Unfolding`; stops: texts that end it; tell: called with every piece."""
        self._unfolding = Unfolding(tokenizer, prompt)
        self._stops, self._tell = tuple(stops), tell
        self._held, self.over = "", False
        self.text = ""

    def __call__(self, token: int) -> None:
        """One more token."""
        self._pass(self._unfolding.add(token))

    def finish(self) -> str:
        """Tell what was held back; returns the whole text."""
        self._pass(self._unfolding.rest())
        if not self.over:
            self._say(self._held)
        return self.text

    def _pass(self, piece: str) -> None:
        if self.over:
            return
        text = self._held + piece
        cuts = [text.index(stop) for stop in self._stops if stop in text]
        if cuts:
            self._say(text[: min(cuts)])
            self._held, self.over = "", True
            return
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._say(text[: len(text) - held])
        self._held = text[len(text) - held :]

    def _say(self, piece: str) -> None:
        self.text += piece
        if piece and self._tell is not None:
            self._tell(piece)


def _overlap(text: str, stop: str) -> int:
    """Longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def chat_text(tokenizer: Any, messages: Sequence[dict[str, str]], **variables: Any) -> str:
    """The prompt that a tokenizer's chat template makes of messages [{"role": ..., "content": ...}, ...].

    The template is a program from a checkpoint: it runs in a sandbox (`templates.py`).

    Raises:
        UserError: no template, or one that refuses these messages.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise UserError("messages: this model's tokenizer has no chat template. Use generate_text with a plain prompt.")
    from assay.generation.templates import render

    names = {name: getattr(tokenizer, name, None) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    specials = {name: str(value) if value is not None else "" for name, value in names.items()}
    return render(template, {"messages": list(messages), "add_generation_prompt": True, **specials, **variables})
