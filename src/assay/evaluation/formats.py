"""One continuation asked for in two formats: as a denoising objective posed its blanks, and as it is used, bare.

What is given and what is asked for are the same tokens; only the signs around them differ. A model that learned from
whole texts has one format, and no gap between the two.

    format           reads                                  writes
    plain            prompt                                 continuation
    span_corruption  prompt, sentinel 0, end                sentinel 0, continuation
    glm              prompt, [gMASK]                        <sop>, continuation
    causal_lm, prefix_lm                                    as plain

Loss is taken on the continuation's tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from assay.data.batch import assemble
from assay.data.windows import Window
from assay.errors import UserError
from assay.nn.batch import to_tensors
from assay.nn.loss import target_nats
from assay.nn.transformer import Transformer
from assay.objectives.base import Example, Ints, Lengths, Vocabulary, decoder_only, join
from assay.spec.objective import ObjectiveKind

__all__ = ["formatted", "nats_in_format"]

BARE = (ObjectiveKind.causal_lm, ObjectiveKind.prefix_lm)


def formatted(
    prompt: Ints, continuation: Ints, family: str, vocabulary: Vocabulary, objective: ObjectiveKind | None = None
) -> Example:
    """A prompt and its continuation in an objective's format.

    Args:
        prompt: [p] tokens, nothing around them.
        continuation: [c] tokens.
        family: whose example it is: causal, prefix or encoder_decoder.
        vocabulary: of the tokens.
        objective: whose format; None: plain, as generation uses it.

    Raises:
        UserError: an objective whose format is not known here, or an encoder-decoder for one that has none.
    """
    two = family == "encoder_decoder"
    nothing = np.zeros(0, dtype=np.int64)
    before, behind, sign = join(prompt), nothing, nothing
    if objective is ObjectiveKind.span_corruption:
        sign = join(vocabulary.sentinels[0])
        behind = join(vocabulary.sentinels[0], vocabulary.eos)
    elif objective is ObjectiveKind.glm and not two:
        sign, behind = join(vocabulary.named["<sop>"]), join(vocabulary.named["[gMASK]"])
    elif objective is not None and objective not in BARE:
        raise UserError(
            f"objective = {objective}: its format of a continuation is not defined in family {family}.",
            "Give span_corruption, glm (in a decoder), causal_lm or prefix_lm.",
        )
    given, asked = join(before, behind), join(sign, continuation)
    if two:
        start = vocabulary.decoder_start
        assert start is not None
        weights = np.ones(len(asked), dtype=np.float32)
        weights[: len(sign)] = 0
        return Example(given, asked, weights, decoder_inputs=join(start, asked[:-1]))
    given = join(vocabulary.bos, given)
    whole = join(given, asked)
    return decoder_only(whole, prefix=len(given) if family == "prefix" else 0, first=len(given) + len(sign) - 1)


@torch.no_grad()
def nats_in_format(
    model: Transformer,
    windows: Sequence[Window],
    vocabulary: Vocabulary,
    objective: ObjectiveKind | None = None,
    *,
    most: int | None = None,
    batch_size: int = 16,
) -> NDArray[np.float64]:
    """[windows] nats on each window's continuation, summed over its tokens.

    Args:
        model: that continues text; it is left as it was.
        windows: held-out windows.
        vocabulary: the tokenizer's.
        objective: whose format; None: plain.
        most: only the first so many tokens of each continuation.
        batch_size: windows at a time.
    """
    family, device = model.spec.family.value, next(model.parameters()).device
    found = np.zeros(len(windows))
    training = model.training
    model.eval()
    try:
        for begin in range(0, len(windows), batch_size):
            part = windows[begin : begin + batch_size]
            examples = [formatted(w.prefix_ids, w.continuation_ids[:most], family, vocabulary, objective) for w in part]
            two = examples[0].decoder_inputs is not None
            room = Lengths(
                max(len(e.inputs) for e in examples), max(len(e.targets) for e in examples) if two else None
            )  # fmt: skip
            batch = assemble([[e] for e in examples], room, family, vocabulary)
            nats = target_nats(model, to_tensors(batch, device)).double().cpu().numpy()
            np.add.at(found, begin + batch.target_positions // batch.weights.shape[1], nats)
    finally:
        model.train(training)
    return found
