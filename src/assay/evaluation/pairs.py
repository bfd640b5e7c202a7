"""A prompt and its answer as tokens, for any family; the log-likelihood of answers; answers written.

The prompt goes where a family reads: a causal decoder reads it from the left, a prefix decoder sees it whole, an
encoder-decoder encodes it. The answer is what is predicted, its first token from the prompt's last (or from the
decoder's start token), so

    log p(answer | prompt) = sum_i ln p(a_i | prompt, a_1 ... a_{i-1}) = - sum of the targets' nats.

An encoder writes nothing, and chooses: mask tokens stand behind the prompt, as many as the longest choice has tokens,
shorter choices being filled up with end tokens, and ln p is summed over them, each predicted by itself (Schick &
Schuetze 2021, PET, in one pass). With a mask for each of a choice's own tokens, their number would tell it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.data.batch import Batch, assemble
from assay.errors import UserError
from assay.generation.model import Model
from assay.generation.visibility import prompt_context
from assay.nn.batch import hidden_at_targets, to_tensors
from assay.objectives.base import Example, Ints, Lengths, Vocabulary, decoder_only, encoder_decoder, join
from assay.spec.axes import Family, HeadKind, PromptRule

__all__ = [
    "Codec",
    "Pair",
    "Scores",
    "fill_rows",
    "pair_batches",
    "rolling",
    "score",
    "vocabulary_of",
]

CHUNK_ELEMENTS = 2**22
"""Logits held at once."""


@dataclass(frozen=True, eq=False)
class Pair:
    """What is given and what is asked for, as tokens."""

    prompt: Ints
    """[p] with what the model wants before a text; at least one token."""
    answer: Ints
    """[a] without anything around it, but for an end token where one was asked for."""
    cut: int = 0
    """Tokens that the prompt lost at its beginning to fit the window."""
    tail: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """What stands behind the answer's places, in an encoder."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Log-likelihoods of answers."""

    nats: NDArray[np.float64]
    """[pairs] -ln p(answer | prompt)."""
    tokens: Ints
    """[pairs] tokens of each answer."""
    greedy: NDArray[np.bool_]
    """[pairs] whether every token of the answer is the likeliest one."""


class Codec:
    """Turns texts into pairs for one model."""

    def __init__(self, model: Model, *, length: int | None = None) -> None:
        """Args: model: with a tokenizer. length: tokens of a window; None: the model's `context`.

        Raises:
            UserError: no tokenizer, a model without a head over its vocabulary, a special token that is missing.
        """
        self.model, self.spec = model, model.spec
        family = model.spec.family
        if model.spec.head.kind is HeadKind.none:
            raise UserError(
                f"head = none: this {family} model scores no tokens, so tasks in text are not defined for it.",
                "Take a checkpoint with its masked-LM head, or another family.",
            )
        self.vocabulary = vocabulary_of(model)
        self.writes = family is not Family.encoder
        """Whether answers can be written; an encoder chooses among given ones."""
        self._widths: dict[tuple[str, ...], int] = {}
        if not self.writes and self.vocabulary.mask is None:
            raise UserError(
                "tokens.mask: the encoder's vocabulary has no mask token, so an answer has no place to stand.",
                "Name one in the model's spec, or use a tokenizer that has one.",
            )
        self.own = hasattr(model.tokenizer, "vocabulary")
        self.two = family is Family.encoder_decoder
        self.length = min(length or model.spec.context, model.spec.context)

    @property
    def begin(self) -> int:
        """The token that an empty prompt becomes: the begin token, else an end token, else padding.

        Raises:
            UserError: none of them.
        """
        tokens = self.spec.tokens
        for token in (self.vocabulary.bos, tokens.bos, *tokens.eos, tokens.pad):
            if token is not None:
                return int(token)
        raise UserError(
            "tokens.bos: the model names no begin, end or padding token, and an empty prompt needs one.",
            "Name one in the model's spec.",
        )

    @property
    def end(self) -> int:
        """The token that ends an answer.

        Raises:
            UserError: the model has none.
        """
        found = self.vocabulary.eos
        if found is None:
            raise UserError(
                "tokens.eos: the model's tokenizer has no end token, so an answer could not end.",
                "Name one in the model's spec (tokens.eos), or use a tokenizer that has one.",
            )
        return found

    def encode(self, text: str) -> list[int]:
        """Ids of a text alone, nothing around it."""
        if self.own:
            return [int(token) for token in self.model.tokenizer.encode(text)]
        return [int(token) for token in self.model.tokenizer.encode(text, add_special_tokens=False)]

    def prompt(self, text: str) -> list[int]:
        """Ids of a prompt, with what the model wants around it, at least one."""
        if self.own:
            found = self.encode(text)
            found = found if self.two or self.vocabulary.bos is None else [self.vocabulary.bos, *found]
        else:
            found = [int(token) for token in self.model.tokenizer.encode(text)]
            if not self.two:  # what follows is the answer, not the end
                while found and found[-1] in self.spec.tokens.eos and len(found) > 1:
                    found.pop()
        return found or [self.begin]

    def pair(
        self, prompt: str, answer: str, *, end: bool = False, where: str = "", choices: Sequence[str] = ()
    ) -> Pair:
        """Prompt and answer as tokens, the prompt cut at its beginning where the window is too short.

        The prompt's tokens are those that generation begins from. The answer's are the rest of both texts
        together where these begin with the prompt's, else those of the answer alone.

        Args:
            prompt: what is given.
            answer: what is asked for.
            end: add the end token to the answer.
            where: the place of the two, for messages.
            choices: the answers that there are; an encoder has to know them.

        Raises:
            UserError: an empty answer, or one longer than the window; no choices for an encoder.
        """
        if not self.writes:
            return self._places(prompt, answer, choices, where)
        given = self.prompt(prompt)
        asked = self._answer(prompt, given, answer)
        if end:
            asked = [*asked, self.end]
        if not asked:
            raise UserError(f"{where or 'answer'}: the answer {answer!r} gives no token.", "Give some text.")
        return self.fit(given, asked, where)

    def _places(self, prompt: str, answer: str, choices: Sequence[str], where: str) -> Pair:
        """The pair of an encoder: as many places as the longest choice has tokens, and what ends a text behind them."""
        if not choices:
            raise UserError(
                f"{where or 'answer'}: family = encoder writes no answers, it chooses among given ones, and this task "
                "has no classes.",
                "Take causal, prefix or encoder_decoder, or give labels (at most 64 different ones).",
            )
        key = tuple(choices)
        if key not in self._widths:
            self._widths[key] = max(len(self.encode(choice)) for choice in key)
        asked = self.encode(answer)
        if not asked:
            raise UserError(f"{where or 'answer'}: the answer {answer!r} gives no token.", "Give some text.")
        filler = self.vocabulary.pad if self.vocabulary.eos is None else self.vocabulary.eos
        asked += [filler] * (self._widths[key] - len(asked))
        bare = self.encode(prompt)
        if self.own:
            begin, end = self.vocabulary.bos, self.vocabulary.eos
            whole = [*([] if begin is None else [begin]), *bare, *([] if end is None else [end])]
        else:
            whole = [int(token) for token in self.model.tokenizer.encode(prompt)]
        begins = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0) if bare else 1
        given, tail = whole[: begins + len(bare)], whole[begins + len(bare) :]
        return self.fit(given or [self.begin], asked, where, tail)

    def fit(self, given: Sequence[int], asked: Sequence[int], where: str = "", tail: Sequence[int] = ()) -> Pair:
        """Tokens as a pair that fits the window.

        Raises:
            UserError: the answer is longer than the window.
        """
        room = self.length if self.two else self.length + self.writes - len(asked) - len(tail)
        if room < 1 or len(asked) > self.length:
            raise UserError(
                f"{where or 'answer'}: the answer has {len(asked)} tokens, and the window is {self.length}.",
                "Give a larger length (at most the model's context), or shorter answers.",
            )
        cut = max(len(given) - room, 0)
        kept = list(given)
        if cut:
            # The begin token stays, where the window has room for it beside the prompt's end.
            lead = kept[:1] if room > 1 and kept[0] in (self.vocabulary.bos, self.spec.tokens.bos) else []
            kept = [*lead, *kept[len(kept) - room + len(lead) :]]
        return Pair(join(np.array(kept)), join(np.array(asked)), cut, np.array(tail, dtype=np.int64))

    def _answer(self, prompt: str, given: list[int], answer: str) -> list[int]:
        if self.two:
            return self.encode(answer)
        whole = self.prompt(prompt + answer)
        if len(whole) > len(given) and whole[: len(given)] == given:
            return whole[len(given) :]
        return self.encode(answer)

    def example(self, pair: Pair) -> Example:
        """The pair as this family learns or scores it: weight 1 on the answer's tokens alone."""
        if self.two:
            return encoder_decoder(pair.prompt, pair.answer, self.vocabulary)
        if not self.writes:
            return self._hidden(pair)
        sequence = join(pair.prompt, pair.answer)
        size = len(pair.prompt)
        if self.spec.prompt.rule is not PromptRule.none:
            return self._ruled(sequence, size)
        return decoder_only(sequence, prefix=size if self.spec.family is Family.prefix else 0, first=size - 1)

    def _hidden(self, pair: Pair) -> Example:
        """Mask tokens in the answer's places, each predicting what belongs there."""
        mask = self.vocabulary.mask
        assert mask is not None
        targets = join(pair.prompt, pair.answer, pair.tail)
        weights = np.zeros(len(targets), dtype=np.float32)
        weights[len(pair.prompt) : len(pair.prompt) + len(pair.answer)] = 1
        return Example(np.where(weights > 0, mask, targets), targets, weights)

    def _ruled(self, sequence: Ints, size: int) -> Example:
        """Prefix and positions as the model's own rule reads them off the prompt."""
        context = prompt_context(self.spec, torch.from_numpy(sequence[None, :-1]))
        prefix, positions = 0, np.arange(len(sequence) - 1)
        if self.spec.positions.axes == 2:
            positions = np.stack([positions, positions * 0])
        if context is not None and context.position_ids is not None and context.mask.facts.prefix is not None:
            prefix = int(context.mask.facts.prefix.sum())
            positions = context.position_ids[0].numpy()
        plain = decoder_only(sequence, prefix=prefix, first=size - 1)
        return Example(plain.inputs, plain.targets, plain.weights, prefix=prefix, positions=positions)


def vocabulary_of(model: Model) -> Vocabulary:
    """What objectives and examples have to know of a model's tokens.

    Raises:
        UserError: no tokenizer, or no start token in an encoder-decoder.
    """
    if model.tokenizer is None:
        raise UserError(
            "tokenizer: the model has none, and tasks are text.",
            "Put its tokenizer into its folder, or set model.tokenizer.",
        )
    own = getattr(model.tokenizer, "vocabulary", None)
    if isinstance(own, Vocabulary):
        return own
    tokens = model.spec.tokens
    if model.spec.family is Family.encoder_decoder and tokens.decoder_start is None:
        raise UserError(
            "tokens.decoder_start: the encoder-decoder names no start token, so its answer cannot begin.",
            "Name one in the model's spec.",
        )
    end = tokens.eos[0] if tokens.eos else None
    pad = tokens.pad if tokens.pad is not None else (end or 0)
    mask = tokens.mask if tokens.mask is not None else _special(model.tokenizer, "mask_token")
    return Vocabulary(model.spec.vocab_size, pad, eos=end, decoder_start=tokens.decoder_start, mask=mask)


def _special(tokenizer: Any, name: str) -> int | None:
    """The id of a published tokenizer's special token; None where it has none."""
    text, engine = getattr(tokenizer, name, None), getattr(tokenizer, "engine", None)
    found = engine.id(text) if text and engine is not None else None
    return None if found is None else int(found)


def pair_batches(codec: Codec, pairs: Sequence[Pair], *, batch_size: int) -> Iterator[tuple[Ints, Batch]]:
    """Pairs of like length as batches, one a row, with their numbers."""
    sizes = np.array([len(pair.prompt) + len(pair.answer) for pair in pairs])
    order = np.argsort(-sizes, kind="stable")
    for begin in range(0, len(order), batch_size):
        numbers = order[begin : begin + batch_size]
        examples = [codec.example(pairs[number]) for number in numbers]
        yield numbers, assemble([[e] for e in examples], _lengths(examples), codec.spec.family.value, codec.vocabulary)


def fill_rows(codec: Codec, pairs: Sequence[Pair], length: int) -> Batch:
    """Pairs as one batch, several a row of `length` positions (more where a pair is longer): little is padded."""
    examples = sorted((codec.example(pair) for pair in pairs), key=lambda e: -len(e.inputs))
    longest = _lengths(examples)
    room = Lengths(max(longest.inputs, length), None if longest.decoder is None else max(longest.decoder, length))
    rows: list[tuple[list[Example], int, int]] = []
    for example in examples:
        inputs, decoder = len(example.inputs), len(example.targets) if codec.two else 0
        for index, (row, used, behind) in enumerate(rows):
            if used + inputs <= room.inputs and behind + decoder <= (room.decoder or 0):
                rows[index] = ([*row, example], used + inputs, behind + decoder)
                break
        else:
            rows.append(([example], inputs, decoder))
    most = max(used for _, used, _ in rows), max(behind for _, _, behind in rows)
    shape = Lengths(most[0], most[1] if codec.two else None)
    return assemble([row for row, _, _ in rows], shape, codec.spec.family.value, codec.vocabulary)


def _lengths(examples: Sequence[Example]) -> Lengths:
    two = examples[0].decoder_inputs is not None
    return Lengths(max(len(e.inputs) for e in examples), max(len(e.targets) for e in examples) if two else None)


@torch.no_grad()
def score(codec: Codec, pairs: Sequence[Pair], *, batch_size: int = 32) -> Scores:
    """Log-likelihood of each answer given its prompt; the model is left as it was."""
    net = codec.model.transformer
    nats, greedy = np.zeros(len(pairs)), np.ones(len(pairs), dtype=bool)
    matrix, training = net.head.matrix(net.embedding.weight), net.training
    net.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            for numbers, batch in pair_batches(codec, pairs, batch_size=batch_size):
                rows = numbers[batch.target_positions // batch.weights.shape[1]]
                given = to_tensors(batch, codec.model.device)
                hidden = net.head.features(hidden_at_targets(net, given))
                for part in _chunks(len(rows), len(matrix)):
                    logits = net.head.cap(torch.nn.functional.linear(hidden[part], matrix, net.head.bias)).float()
                    targets = given.targets[part, None]
                    lost = (logits.logsumexp(-1) - logits.gather(1, targets).squeeze(1)).double().cpu().numpy()
                    np.add.at(nats, rows[part], lost)
                    missed = (logits.argmax(-1) != targets[:, 0]).cpu().numpy()
                    greedy[rows[part][missed]] = False
    finally:
        net.train(training)
    return Scores(nats, np.array([len(pair.answer) for pair in pairs], dtype=np.int64), greedy)


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(CHUNK_ELEMENTS // vocabulary, 16)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def rolling(codec: Codec, tokens: Sequence[int]) -> list[Pair]:
    """A whole text's tokens as pairs that predict each of them once, in windows of the model's length.

    The first window begins from the begin token. Later ones are as long as the window allows, those before their
    own first token being context: at least one.
    """
    size, found, begin = codec.length, [], codec.begin
    whole = [begin, *tokens]
    done = 0  # tokens predicted
    while done < len(tokens):
        ahead = min(size, len(tokens) - done)
        first = max(done + ahead - size, 0) if done else 0
        found.append(Pair(join(np.array(whole[first : done + 1])), join(np.array(whole[done + 1 : done + ahead + 1]))))
        done += ahead
    return found
