"""Which objective goes with which family, as data. A new objective is one file and one row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from assay.errors import UserError
from assay.objectives.base import Lengths, Objective, Vocabulary
from assay.objectives.causal_lm import CausalLM
from assay.objectives.prefix_lm import PrefixLM
from assay.objectives.span_corruption import SpanCorruption
from assay.spec.objective import ObjectiveKind, ObjectiveSpec

__all__ = ["REGISTRY", "Row", "check_lengths", "families", "make"]

_ENCODER = "an encoder sees every token, so predicting a later one would be copying; it learns from mlm"


@dataclass(frozen=True)
class Row:
    """One objective: how it is made, for whom, and why not for others."""

    build: Callable[[ObjectiveSpec, str, Vocabulary], Objective]
    families: tuple[str, ...]
    refused: Mapping[str, str]
    """Family: the reason, and what to take instead."""


REGISTRY: Mapping[ObjectiveKind, Row] = {
    ObjectiveKind.causal_lm: Row(
        lambda spec, family, vocabulary: CausalLM(family, vocabulary),
        ("causal", "prefix"),
        {
            "encoder_decoder": "every token is a target, so nothing is left for the encoder to read. "
            "Take prefix_lm, whose prefix goes to the encoder",
            "encoder": _ENCODER,
        },
    ),
    ObjectiveKind.prefix_lm: Row(
        lambda spec, family, vocabulary: PrefixLM(family, vocabulary, spec.split),
        ("causal", "prefix", "encoder_decoder"),
        {"encoder": _ENCODER},
    ),
    ObjectiveKind.span_corruption: Row(
        lambda spec, family, vocabulary: SpanCorruption(family, vocabulary, spec.density, spec.mean_span),
        ("causal", "prefix", "encoder_decoder"),
        {"encoder": "spans are generated token by token, and an encoder does not generate; it learns from mlm"},
    ),
}


def families(kind: ObjectiveKind | str) -> tuple[str, ...]:
    """The families that can express an objective; none for one that is not built."""
    row = REGISTRY.get(ObjectiveKind(kind))
    return row.families if row else ()


def make(
    spec: ObjectiveSpec, family: str, vocabulary: Vocabulary, lengths: Lengths | tuple[int, int | None] | None = None
) -> Objective:
    """The objective a spec describes, for a family and a vocabulary.

    Args:
        spec: the objective and its settings.
        family: causal, prefix, encoder_decoder or encoder.
        vocabulary: the tokens.
        lengths: the row's positions; where given, it is checked that an example fits and has its sentinels.
            A decoder length of None means the one that goes with the encoder's.

    Raises:
        UserError: not built, not for this family (with the reason), or lengths that hold no example.
    """
    kind, family = spec.kind, str(family)
    row = REGISTRY.get(kind)
    if row is None:
        raise UserError(
            f"objective = {kind.value} is not built yet.", f"Built: {', '.join(k.value for k in REGISTRY)}."
        )
    if family not in row.families:
        reason = row.refused.get(family, "no such family")
        raise UserError(
            f"objective = {kind.value} does not go with family = {family}: {reason}.",
            f"It goes with: {', '.join(row.families)}.",
        )
    if family == "encoder_decoder" and vocabulary.decoder_start is None:
        raise UserError(f"family = {family}: the vocabulary has no decoder start token.", "Give one.")
    objective = row.build(spec, family, vocabulary)
    if lengths is not None:
        check_lengths(objective, Lengths(*lengths))
    return objective


def check_lengths(objective: Objective, lengths: Lengths) -> Lengths:
    """The row's positions, a decoder length of None filled in; an example fits and has its sentinels.

    Raises:
        UserError: no example fits, or the longest would need more sentinels than there are.
    """
    if objective.family == "encoder_decoder" and lengths.decoder is None:
        lengths = Lengths(lengths.inputs, objective.decoder_length(lengths.inputs))
    longest = min(objective.raw_length(lengths, ends=ends) for ends in (False, True))
    # Twice the shortest, so that any document can be cut without leaving too little at its end.
    if longest < 2 * objective.shortest:
        beside = f" and decoder_length = {lengths.decoder}" if lengths.decoder is not None else ""
        raise UserError(
            f"length = {lengths.inputs}{beside} is too short for {type(objective).__name__}: a row holds "
            f"{max(longest, 0)} tokens of text, and {2 * objective.shortest} are the least.",
            "Give a larger length.",
        )
    if isinstance(objective, SpanCorruption):
        objective.check_sentinels(objective.raw_length(lengths))
    return lengths
