"""Infilling: nats on tokens hidden inside a text, the same tokens for every model, each asked in its own form.

    left    the text as it is: a hidden token from what stands before it alone
    spans   T5's form: the text with sentinels for its spans, then the spans (with UL2's mode token, where there is one)

A language model has only the left form, a denoiser only spans: each is asked as it was trained, and what is compared is
the loss on the hidden tokens, sentinels and ends left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from assay.data.batch import assemble
from assay.data.corpus import Corpus
from assay.data.tokenizer import Tokenizer
from assay.nn.batch import to_tensors
from assay.nn.loss import target_nats
from assay.nn.transformer import Transformer
from assay.objectives.base import Example, Ints, Key, Lengths, Vocabulary, decoder_only, encoder_decoder, join
from assay.objectives.span_corruption import SpanCorruption
from assay.spec.axes import Family

__all__ = ["Hidden", "hidden_tokens", "infilling", "pieces"]


@dataclass(frozen=True, eq=False)
class Hidden:
    """One text with some of its tokens hidden."""

    tokens: Ints
    """[n] all of them."""
    where: NDArray[np.bool_]
    """[n] which are hidden."""
    inputs: Ints
    """The text with sentinels."""
    targets: Ints
    """Sentinels and spans."""


def pieces(heldout: Corpus, tokenizer: Tokenizer, *, length: int, count: int) -> list[Ints]:
    """Up to `count` pieces of `length` tokens, one from the beginning of each document in turn."""
    found: list[Ints] = []
    tokens = [np.asarray(ids, dtype=np.int64) for ids in tokenizer.encode_batch(list(heldout.documents))]
    longest = max((len(ids) for ids in tokens), default=0)
    for start in range(0, longest, length):
        for ids in tokens:
            if start + length <= len(ids) and len(found) < count:
                found.append(ids[start : start + length])
    return found


def hidden_tokens(tokens: Ints, vocabulary: Vocabulary, number: int, *, density: float, mean_span: float) -> Hidden:
    """Hide spans of a text, as T5 does; which ones depends on its number alone."""
    objective = SpanCorruption("encoder_decoder", vocabulary, density, mean_span)
    example = objective.example(tokens, Key(0, 0, number))
    sentinels = set(vocabulary.sentinels)
    spans: dict[int, list[int]] = {}
    current: list[int] = []
    for token in example.targets:
        if int(token) in sentinels:
            current = spans.setdefault(int(token), [])
        elif int(token) != vocabulary.eos:
            current.append(int(token))
    where: list[bool] = []
    for token in example.inputs:
        if int(token) in sentinels:
            where += [True] * len(spans[int(token)])
        elif int(token) != vocabulary.eos:
            where.append(False)
    assert len(where) == len(tokens)
    return Hidden(join(tokens), np.array(where), example.inputs, example.targets)


def infilling(
    net: Transformer, texts: Sequence[Hidden], vocabulary: Vocabulary, *, form: str, mode: str | None = None
) -> float:
    """Mean nats of a hidden token.

    Args:
        net: causal, prefix or encoder_decoder.
        texts: with their hidden tokens.
        vocabulary: of the tokens.
        form: "left" (one stack alone) or "spans".
        mode: UL2's token that begins the inputs of spans, such as "[NLU]".
    """
    family = net.spec.family.value
    assert form in ("left", "spans") and not (form == "left" and family == Family.encoder_decoder)
    make = _left if form == "left" else _spans
    total, count = 0.0, 0
    device, training = next(net.parameters()).device, net.training
    net.eval()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for begin in range(0, len(texts), 16):
            rows = [[make(text, family, vocabulary, mode)] for text in texts[begin : begin + 16]]
            lengths = Lengths(
                max(len(row[0].inputs) for row in rows),
                max(len(row[0].targets) for row in rows) if family == "encoder_decoder" else None,
            )
            batch = assemble(rows, lengths, family, vocabulary)
            total += float(target_nats(net, to_tensors(batch, device)).double().sum())
            count += int((batch.weights > 0).sum())
    net.train(training)
    return total / count


def _left(text: Hidden, family: str, vocabulary: Vocabulary, mode: str | None) -> Example:
    sequence = join(vocabulary.bos, text.tokens)
    example = decoder_only(sequence, prefix=0, first=0)
    where = text.where if vocabulary.bos is not None else text.where[1:]
    return Example(example.inputs, example.targets, where.astype(np.float32))


def _spans(text: Hidden, family: str, vocabulary: Vocabulary, mode: str | None) -> Example:
    inputs = join(vocabulary.named[mode] if mode is not None else None, text.inputs)
    outside = {*vocabulary.sentinels, vocabulary.eos}
    wanted = np.array([int(token) not in outside for token in text.targets], dtype=np.float32)
    if family == "encoder_decoder":
        plain = encoder_decoder(inputs, text.targets, vocabulary)
        return Example(plain.inputs, plain.targets, wanted, decoder_inputs=plain.decoder_inputs)
    inputs = join(vocabulary.bos, inputs)
    prefix = len(inputs) if family == "prefix" else 0
    plain = decoder_only(join(inputs, text.targets), prefix=prefix, first=len(inputs) - 1)
    weights = np.concatenate([np.zeros(len(inputs) - 1, dtype=np.float32), wanted])
    return Example(plain.inputs, plain.targets, weights, prefix=prefix)
