"""Visibility and positions of a whole generation, prompt and answer, worked out once from the prompt.

What the prompt says (its padding, its prefix, where its mask token stands) holds for all that follows: a token made
later changes none of it. So facts and positions are laid out once over the final length, and every step takes a slice.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from assay.errors import UserError
from assay.generation.visibility import leading, padding, self_context
from assay.spec.axes import Family, PositionKind, PromptRule, RopeScalingKind
from assay.spec.masks import And, Causal, Mask, MaskFacts, Or, Padding, Rule, Table
from assay.spec.model import ModelSpec


@dataclass(frozen=True, eq=False)
class Plan:
    """What the output stack reads besides new tokens."""

    ids: Int[Tensor, "b s"]
    """The prompt, padding moved to the left."""
    mask: Mask
    """The rule, with facts over prompt and answer."""
    positions: Tensor | None
    """[B, S + new] or [B, 2, S + new]; None: counted from 0."""
    memory: Tensor | None = None
    memory_mask: Mask | None = None

    def at(self, start: int, end: int) -> tuple[Mask, Tensor | None]:
        """Mask over keys `0 .. end - 1` and positions of the queries `start .. end - 1`."""
        facts, rule = self.mask.facts, self.mask.rule
        if end - start == 1:
            rule = last_row(rule)
        sliced = MaskFacts(
            prefix=None if facts.prefix is None else facts.prefix[:, :end],
            key_mask=None if facts.key_mask is None else facts.key_mask[:, :end],
            blocked=None if facts.blocked is None else facts.blocked[:, :end, :end],
        )
        return Mask(rule, sliced), None if self.positions is None else self.positions[..., start:end]

    def select(self, rows: Tensor) -> Plan:
        """The plan of the given rows of the batch, repeats allowed."""

        def take(x: Tensor | None) -> Tensor | None:
            return x if x is None or len(x) == 1 != len(self.ids) else x.index_select(0, rows)

        def facts(mask: Mask) -> Mask:
            names = [field.name for field in dataclasses.fields(MaskFacts)]
            return Mask(mask.rule, MaskFacts(**{name: take(getattr(mask.facts, name)) for name in names}))

        return Plan(
            self.ids.index_select(0, rows),
            facts(self.mask),
            take(self.positions),
            take(self.memory),
            None if self.memory_mask is None else facts(self.memory_mask),
        )


def last_row(rule: Rule) -> Rule:
    """The same rule for the newest position alone: it sees every key, whether by causality or as a prefix."""
    if isinstance(rule, Or) and Causal() in rule.parts:
        return Causal()
    if isinstance(rule, And):
        first, *rest = (last_row(part) for part in rule.parts)
        for part in rest:
            first = first & part
        return first
    return rule


def plan_prompt(
    spec: ModelSpec,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    prefix_length: int | Tensor | None,
    new: int,
) -> Plan:
    """The plan of a single-stack decoder.

    Args:
        spec: the model.
        input_ids: prompts.
        attention_mask: padding on either side, or a whole table.
        position_ids: the prompt's positions; the answer's follow as the family's rule counts on.
        prefix_length: None: the whole prompt in a prefix decoder without a rule of its own, else as in `forward`.
        new: tokens to come.

    Raises:
        UserError: shapes that do not fit, positions that do not exist.
    """
    if spec.family is Family.prefix and spec.prompt.rule is PromptRule.none and prefix_length is None:
        prefix_length = input_ids.shape[1]
    leading(prefix_length, input_ids)  # checked against the prompt alone
    if attention_mask is not None and attention_mask.dim() > 2:
        plan = _with_table(spec, input_ids, attention_mask, position_ids, new)
    else:
        real = padding(attention_mask, input_ids, "attention_mask")
        if position_ids is not None:
            position_ids = position_ids.expand(len(input_ids), *position_ids.shape[1:])
        if real is not None:
            input_ids, real, position_ids, prefix_length = to_left(input_ids, real, position_ids, prefix_length)
        given = self_context(
            spec, _longer(input_ids, _filler(spec), new), None if real is None else _longer(real, True, new),
            None, prefix_length,
        )  # fmt: skip
        plan = Plan(input_ids, given.mask, _positions(given.position_ids, position_ids, new))
    check_positions(spec, plan, new)
    return plan


def plan_answer(spec: ModelSpec, ids: Tensor, attention_mask: Tensor | None, new: int) -> Plan:
    """The plan of an encoder-decoder's decoder, which begins with `ids`; its memory is filled in later.

    Raises:
        UserError: a mask of another shape, positions that do not exist.
    """
    real = padding(attention_mask, ids, "decoder_attention_mask")
    if real is None:
        plan = Plan(ids, Mask(Causal()), None)
    else:
        # As in `forward`: a decoder behind an encoder counts positions by column.
        plan = Plan(ids, Mask(Causal() & Padding(), MaskFacts(key_mask=_longer(real, True, new))), None)
        if not bool(real[:, -1].all()):
            raise UserError(
                "decoder_attention_mask: a row ends in padding, and the answer is written behind it. "
                "Pad decoder_input_ids on the left."
            )
    check_positions(spec, plan, new)
    return plan


def to_left(
    ids: Tensor, real: Tensor, positions: Tensor | None, prefix_length: int | Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None, int | Tensor | None]:
    """The same rows with padding on their left only, as little as is needed: answers follow the last real token.

    Raises:
        UserError: a row without a real token.
    """
    if not bool(real.any(-1).all()):
        row = int((~real.any(-1)).nonzero()[0])
        raise UserError(f"attention_mask: row {row} is padding alone, so there is no prompt. Leave the row out.")
    length = real.shape[1]
    behind = real.flip(-1).long().argmax(-1, keepdim=True)
    source = (torch.arange(length, device=ids.device)[None] - behind) % length
    ids, real = ids.gather(1, source), real.gather(1, source)
    spare = int(real.long().argmax(-1).min())
    if positions is not None:
        index = source if positions.dim() == 2 else source[:, None].expand_as(positions)
        positions = positions.gather(-1, index)[..., spare:]
    if prefix_length is not None:
        lengths = torch.as_tensor(prefix_length, device=ids.device).reshape(-1, 1)
        moved = (lengths + behind - spare).clamp(min=0, max=length - spare)
        prefix_length = torch.where(lengths > 0, moved, 0).expand(len(ids), 1)
    ids, real = ids[:, spare:], real[:, spare:]
    return ids, None if bool(real.all()) else real, positions, prefix_length


def to_right(ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """An encoder's rows with padding on their right: its positions count from the first column.

    Raises:
        UserError: a mask of another shape.
    """
    if attention_mask is None or attention_mask.dim() > 2:
        return ids, attention_mask
    real = padding(attention_mask, ids, "attention_mask")
    if real is None:
        return ids, None
    before = (real.long().cumsum(-1) == 0).sum(-1, keepdim=True)
    source = (torch.arange(ids.shape[1], device=ids.device)[None] + before) % ids.shape[1]
    ids, real = ids.gather(1, source), real.gather(1, source)
    used = int(real.any(0).long().cumsum(0).argmax()) + 1
    ids, real = ids[:, :used], real[:, :used]
    return ids, None if bool(real.all()) else real


def cache_is_exact(spec: ModelSpec, length: int) -> bool:
    """Whether cached keys stay right up to `length`: RoPE with dynamic scaling turns all keys anew as a text grows."""
    scaling = spec.positions.scaling
    if scaling is None or scaling.kind is not RopeScalingKind.dynamic:
        return True
    return length <= (scaling.original_length or 0)


def check_positions(spec: ModelSpec, plan: Plan, new: int) -> None:
    """Refuse a text longer than a learned table of positions.

    Raises:
        UserError: naming how many tokens fit.
    """
    if spec.positions.kind is not PositionKind.learned:
        return
    last = plan.ids.shape[1] + max(new, 1) - 1  # the newest token is never read
    needed = last if plan.positions is None else int(plan.positions[..., :last].max()) + 1
    if needed > spec.context:
        fits = new - (needed - spec.context)
        remedy = f"Ask for at most {fits}." if fits > 0 else "Shorten the prompt."
        raise UserError(
            f"max_new_tokens: {new} after a prompt of {plan.ids.shape[1]} needs {needed} positions, and the learned "
            f"table has {spec.context}. {remedy}"
        )


def _with_table(spec: ModelSpec, ids: Tensor, table: Tensor, positions: Tensor | None, new: int) -> Plan:
    """A whole table for the prompt; the answer sees what the prompt's last token sees, and itself causally."""
    context = self_context(spec, ids, table, None, None)
    blocked = context.mask.facts.blocked
    assert blocked is not None
    length = ids.shape[1]
    total = length + new
    whole = torch.ones(len(ids), total, total, dtype=torch.bool, device=ids.device).triu(1)
    whole[:, :length, :length] = blocked
    whole[:, length:, :length] = blocked[:, -1:]
    longer = self_context(spec, _longer(ids, _filler(spec), new), None, None, None).position_ids
    return Plan(ids, Mask(Table(), MaskFacts(blocked=whole)), _positions(longer, positions, new))


def _positions(own: Tensor | None, given: Tensor | None, new: int) -> Tensor | None:
    """Given positions, continued as the family's own would go on from the prompt's last one."""
    if given is None:
        return own
    length = given.shape[-1]
    if own is None:
        ahead = torch.arange(1, new + 1, device=given.device).expand(*given.shape[:-1], new)
    else:
        ahead = own[..., length:] - own[..., length - 1 : length]
    return torch.cat((given, given[..., -1:] + ahead), -1)


def _longer(x: Tensor, value: int | bool, new: int) -> Tensor:
    return torch.cat((x, x.new_full((len(x), new), value)), 1)


def _filler(spec: ModelSpec) -> int:
    """A token that no prompt rule looks for."""
    special = {spec.prompt.sop, spec.prompt.mask, spec.prompt.gmask, spec.tokens.pad}
    return next(token for token in range(spec.vocab_size + 1) if token not in special)
