"""Which objective goes with which family, as data. A new objective is one file and one row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from assay.errors import UserError
from assay.objectives.bart import Bart
from assay.objectives.base import Lengths, Objective, Vocabulary
from assay.objectives.causal_lm import CausalLM
from assay.objectives.glm import GLM
from assay.objectives.mlm import MLM
from assay.objectives.prefix_lm import PrefixLM
from assay.objectives.span_corruption import SpanCorruption
from assay.objectives.ul2 import UL2
from assay.spec.objective import ObjectiveKind, ObjectiveSpec

__all__ = ["FAMILIES", "REGISTRY", "Row", "check_lengths", "families", "least_length", "make"]

FAMILIES = ("causal", "prefix", "encoder_decoder", "encoder")
_GENERATES = "it is generated token by token, and an encoder does not generate; it learns from mlm"
_ENCODER = "an encoder sees every token, so predicting a later one would be copying; it learns from mlm"
_DECODERS = ("causal", "prefix")
_WRITERS = (*_DECODERS, "encoder_decoder")
_BLANKS = ("[MASK]", "[gMASK]", "<sop>", "<eop>")
_MODES = ("[NLU]", "[NLG]", "[S2S]")


@dataclass(frozen=True)
class Row:
    """One objective: how it is made, for whom, and why not for others."""

    build: Callable[[ObjectiveSpec, str, Vocabulary], Objective]
    families: tuple[str, ...]
    refused: Mapping[str, str]
    """Family: the reason, and what to take instead."""
    forms: Mapping[str, str]
    """Family: what its examples look like."""
    source: str
    """Where it was published."""
    mask: tuple[str, ...] = ()
    """Families in which it needs the mask token."""
    named: tuple[str, ...] = ()
    """Further special tokens that it needs."""


def _mlm(s: ObjectiveSpec, family: str, v: Vocabulary) -> Objective:
    idle = "mean_span" if family == "encoder" else "whole_word"
    value = getattr(s, idle)
    if value != type(s).model_fields[idle].default:
        other = "tokens or words are hidden, not spans" if family == "encoder" else "spans are cut out, not words"
        raise UserError(
            f"{idle} = {value} is not read by mlm with family = {family}: {other}.", f"Leave {idle} out."
        )  # fmt: skip
    if family == "encoder":
        return MLM(family, v, s.density, s.whole_word)
    return SpanCorruption(family, v, s.density, s.mean_span)


REGISTRY: Mapping[ObjectiveKind, Row] = {
    ObjectiveKind.causal_lm: Row(
        lambda s, family, v: CausalLM(family, v),
        _DECODERS,
        {
            "encoder_decoder": "every token is a target, so nothing is left for the encoder to read. "
            "Take prefix_lm, whose prefix goes to the encoder",
            "encoder": _ENCODER,
        },
        {"causal": "every token is a target", "prefix": "the same: its prefix is empty"},
        "Radford et al. 2018",
    ),
    ObjectiveKind.prefix_lm: Row(
        lambda s, family, v: PrefixLM(family, v, s.split),
        _WRITERS,
        {"encoder": _ENCODER},
        {
            "causal": "loss on the second part, attention causal",
            "prefix": "the first part sees itself whole",
            "encoder_decoder": "first part to the encoder, second to the decoder",
        },
        "Raffel et al. 2020, 3.2.3",
    ),
    ObjectiveKind.span_corruption: Row(
        lambda s, family, v: SpanCorruption(family, v, s.density, s.mean_span),
        _WRITERS,
        {"encoder": f"spans are asked for: {_GENERATES}"},
        {
            "causal": "corrupted text, then its spans; loss on these",
            "prefix": "the same; the corrupted text sees itself whole",
            "encoder_decoder": "corrupted text to the encoder, spans to the decoder",
        },
        "Raffel et al. 2020, 3.1.4",
    ),
    ObjectiveKind.bart: Row(
        lambda s, family, v: Bart(
            family, v, s.infilling, s.mean_span, s.permutation, s.masking, s.deletion, s.rotation
        ),
        _WRITERS,
        {"encoder": f"the whole text is asked for: {_GENERATES}"},
        {
            "causal": "damaged text, then the text; loss on the text",
            "prefix": "the same; the damaged text sees itself whole",
            "encoder_decoder": "damaged text to the encoder, the text to the decoder",
        },
        "Lewis et al. 2020, 2.2",
        mask=_WRITERS,
    ),
    ObjectiveKind.glm: Row(
        lambda s, family, v: GLM(family, v, s.density, s.mean_span, s.gmask, s.axes or 2),
        _DECODERS,
        {
            "encoder_decoder": "a span's positions point at its blank in the same row, and two stacks have a row each. "
            "Take span_corruption, its form with two stacks",
            "encoder": f"spans are asked for: {_GENERATES}",
        },
        {
            "causal": "text with blanks, then the spans; attention causal throughout",
            "prefix": "the text with blanks sees itself whole (as published)",
        },
        "Du et al. 2022; Zeng et al. 2022",
        named=_BLANKS,
    ),
    ObjectiveKind.ul2: Row(
        lambda s, family, v: UL2(family, v, s.mixture.value),
        _WRITERS,
        {"encoder": f"spans are asked for: {_GENERATES}"},
        {
            "causal": "mode token, damaged text, what is asked for (U-PaLM continues a causal model so)",
            "prefix": "the same; the damaged text sees itself whole",
            "encoder_decoder": "mode token and damaged text to the encoder",
        },
        "Tay et al. 2022",
        named=_MODES,
    ),
    ObjectiveKind.mlm: Row(
        _mlm,
        FAMILIES,
        {},
        {
            "causal": "as span_corruption (Wang et al. 2022)",
            "prefix": "as span_corruption (Wang et al. 2022)",
            "encoder_decoder": "as span_corruption (Wang et al. 2022)",
            "encoder": "BERT: 15% of the tokens, 80/10/10, predicted in place",
        },
        "Devlin et al. 2019; Wang et al. 2022",
        mask=("encoder",),
    ),
}


def families(kind: ObjectiveKind | str) -> tuple[str, ...]:
    """The families that can express an objective."""
    return REGISTRY[ObjectiveKind(kind)].families


def make(
    spec: ObjectiveSpec,
    family: str,
    vocabulary: Vocabulary,
    lengths: Lengths | tuple[int, int | None] | None = None,
    *,
    axes: int | None = None,
) -> Objective:
    """The objective a spec describes, for a family and a vocabulary.

    Args:
        spec: the objective and its settings.
        family: causal, prefix, encoder_decoder or encoder.
        vocabulary: the tokens.
        lengths: the row's positions; where given, it is checked that an example fits and has its sentinels.
            A decoder length of None means the one that goes with the encoder's.
        axes: rows of positions that the model has; None: not known.

    Raises:
        UserError: not for this family (with the reason), a setting or special token that does not fit, or lengths
            that hold no example.
    """
    kind, family = spec.kind, str(family)
    row = REGISTRY[kind]
    if family not in row.families:
        reason = row.refused.get(family, "no such family")
        raise UserError(
            f"objective = {kind.value} does not go with family = {family}: {reason}.",
            f"It goes with: {', '.join(row.families)}.",
        )
    _check_tokens(kind.value, row, family, vocabulary)
    if axes is not None and kind is ObjectiveKind.glm:
        if spec.axes not in (None, axes):
            raise UserError(
                f"objective.axes = {spec.axes}: glm would give {spec.axes} rows of positions, and the model has "
                f"positions.axes = {axes}.",
                "Leave objective.axes out, or give both the same.",
            )
        spec = spec.model_copy(update={"axes": axes})
    objective = row.build(spec, family, vocabulary)
    if lengths is not None:
        check_lengths(objective, Lengths(*lengths))
    return objective


def _check_tokens(kind: str, row: Row, family: str, vocabulary: Vocabulary) -> None:
    lacking = [name for name in row.named if name not in vocabulary.named]
    if family in row.mask and vocabulary.mask is None:
        lacking.append("a mask token")
    if lacking:
        raise UserError(
            f"objective = {kind}: the vocabulary has no {', no '.join(lacking)}.",
            "Train a tokenizer with assay (it reserves them), or choose an objective without them.",
        )
    if family == "encoder_decoder" and vocabulary.decoder_start is None:
        raise UserError(f"family = {family}: the vocabulary has no decoder start token.", "Give one.")


def check_lengths(objective: Objective, lengths: Lengths) -> Lengths:
    """The row's positions, a decoder length of None filled in; an example fits and has its sentinels.

    Raises:
        UserError: no example fits, or the longest would need more sentinels than there are.
    """
    if objective.family == "encoder_decoder" and lengths.decoder is None:
        lengths = Lengths(lengths.inputs, objective.decoder_length(lengths.inputs))
    least = least_length(objective, lengths)
    # Twice the shortest, so that any document can be cut without leaving too little at its end.
    if least < 2 * objective.shortest:
        beside = f" and decoder_length = {lengths.decoder}" if lengths.decoder is not None else ""
        raise UserError(
            f"length = {lengths.inputs}{beside} is too short for {type(objective).__name__}: a row holds "
            f"{max(least, 0)} tokens of text, and {2 * objective.shortest} are the least.",
            "Give a larger length.",
        )
    objective.check_sentinels(objective.raw_length(lengths))
    return lengths


def least_length(objective: Objective, lengths: Lengths) -> int:
    """Raw tokens that an example of any kind may take, whether its document ends with it or not."""
    kinds = range(objective.mode_count)
    return min(objective.raw_length(lengths, ends=ends, mode=mode) for ends in (False, True) for mode in kinds)
