"""From what a caller hands in (padding mask, prefix length, prompt tokens) to the one rule and its facts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from assay.errors import UserError
from assay.spec.axes import Family, PromptRule
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Padding, Prefix, Rule, Table
from assay.spec.model import ModelSpec


class Context(NamedTuple):
    """Who sees whom, and where every token stands."""

    mask: Mask
    position_ids: Tensor | None


def self_context(
    spec: ModelSpec,
    input_ids: Int[Tensor, "b s"],
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    prefix_length: int | Tensor | None,
) -> Context:
    """Mask and positions of the stack that reads `input_ids`.

    Args:
        spec: the model.
        input_ids: tokens.
        attention_mask: [B, S], 1 for real tokens; or a whole table [B, S, S] or [B, 1, S, S], nonzero = visible.
        position_ids: given positions, or None for the family's own: counted from the first real token in
            decoders, from the first column in encoders, from the prompt's tokens where the family has such a rule.
        prefix_length: leading positions visible to every row; None: the family's own rule; 0: causal.
    """
    rows, length = input_ids.shape
    whole_table = attention_mask is not None and attention_mask.dim() > 2
    real = None if whole_table else padding(attention_mask, input_ids, "attention_mask")
    derived = None
    if spec.prompt.rule is not PromptRule.none:
        if attention_mask is None:
            real = begun(spec, input_ids)
        derived = prompt_context(spec, input_ids, real)
    if attention_mask is not None and whole_table:
        table = attention_mask.reshape(rows, length, length) != 0
        mask = Mask(Table(), MaskFacts(blocked=~table))
        own = derived.position_ids if derived is not None else None
        return Context(mask, position_ids if position_ids is not None else own)
    bidirectional = spec.family in (Family.encoder, Family.encoder_decoder)
    rule: Rule = Bidirectional() if bidirectional else Causal()
    prefix = None
    if not bidirectional:
        prefix = leading(prefix_length, input_ids)
        if prefix_length is None and derived is not None:
            prefix = derived.mask.facts.prefix
        if prefix is not None:
            rule = rule | Prefix()
    if real is not None:
        rule = rule & Padding()
    if position_ids is None and derived is not None:
        position_ids = derived.position_ids
    if position_ids is None and real is not None and not bidirectional:
        position_ids = counted(real)
    return Context(Mask(rule, MaskFacts(prefix=prefix, key_mask=real)), position_ids)


def padding(attention_mask: Tensor | None, ids: Tensor, name: str) -> Tensor | None:
    """[B, S] True for real tokens, or None where all are real.

    Raises:
        UserError: a shape other than the tokens'.
    """
    if attention_mask is None:
        return None
    if attention_mask.shape != ids.shape:
        raise UserError(
            f"{name}: shape {list(attention_mask.shape)} does not fit tokens of shape {list(ids.shape)}. "
            "Give one entry a token: 1 for real ones, 0 for padding."
        )
    real = attention_mask.to(ids.device) != 0
    return None if bool(real.all()) else real


def memory_mask(attention_mask: Tensor | None, input_ids: Tensor) -> Mask:
    """Who sees the encoder's output: everyone, but padding is seen by no one."""
    real = padding(attention_mask, input_ids, "attention_mask")
    return Mask(Bidirectional()) if real is None else Mask(Bidirectional() & Padding(), MaskFacts(key_mask=real))


def leading(prefix_length: int | Tensor | None, ids: Tensor) -> Tensor | None:
    """[B, S] True for the first `prefix_length` positions of each row; None where there are none.

    Raises:
        UserError: a length outside the row.
    """
    if prefix_length is None:
        return None
    lengths = torch.as_tensor(prefix_length, device=ids.device).reshape(-1, 1)
    if len(lengths) not in (1, len(ids)):
        raise UserError(f"prefix_length: {len(lengths)} lengths for {len(ids)} rows. Give one number, or one a row.")
    if bool((lengths < 0).any()) or bool((lengths > ids.shape[1]).any()):
        raise UserError(f"prefix_length: {lengths.flatten().tolist()} leaves a row of {ids.shape[1]} tokens.")
    if not bool(lengths.any()):
        return None
    return (torch.arange(ids.shape[1], device=ids.device)[None] < lengths).expand_as(ids)


def counted(real: Tensor) -> Int[Tensor, "b s"]:
    """Positions from 0 at each row's first real token; padding before it stands at 0."""
    before = (real.long().cumsum(-1) == 0).sum(-1, keepdim=True)
    return (torch.arange(real.shape[1], device=real.device)[None] - before).clamp(min=0)


def prompt_context(spec: ModelSpec, input_ids: Int[Tensor, "b s"], real: Tensor | None = None) -> Context | None:
    """Prefix and positions that ChatGLM-6B and GLM-130B read off the prompt; None where no row holds `<sop>`.

    Keys before `<sop>` are visible to every row. ChatGLM-6B: first row of positions counts through the context,
    then stays at the mask's position; the second is 0 in the context and 1, 2 ... from `<sop>` on. GLM-130B: one
    row of positions; with [gMASK] it counts on, with [MASK] it stays at the mask's position from `<sop>` on.
    Source: the published modeling code of both.
    """
    say = spec.prompt
    assert say.sop is not None
    starts = input_ids == say.sop
    if not bool(starts.any()):
        return None
    length = input_ids.shape[1]
    column = torch.arange(length, device=input_ids.device)[None]
    found = starts.any(-1, keepdim=True)
    start = torch.where(found, starts.long().argmax(-1, keepdim=True), 0)
    prefix = column < start
    before = torch.zeros_like(start) if real is None else (real.long().cumsum(-1) == 0).sum(-1, keepdim=True)
    masked, short = _mask_position(spec, input_ids)
    count = (column - before).clamp(min=0)
    hole = (masked - before).clamp(min=0)
    after = found & (column >= start)
    if say.rule is PromptRule.chatglm:
        first = torch.where(after, hole, count)
        second = torch.where(after, column - start + 1, 0)
        ids = torch.stack((first, second), 1)
        return Context(Mask(Causal() | Prefix(), MaskFacts(prefix=prefix)), ids)
    return Context(Mask(Causal() | Prefix(), MaskFacts(prefix=prefix)), torch.where(after & short, hole, count))


def begun(spec: ModelSpec, input_ids: Int[Tensor, "b s"]) -> Tensor | None:
    """[B, S] False for pad tokens before a row's first other token; None where no row begins with one.

    Families that read mask and positions off the tokens read their padding off them too, where no mask is given.
    """
    if spec.tokens.pad is None:
        return None
    real = (input_ids != spec.tokens.pad).long().cumsum(-1) > 0
    return None if bool(real.all()) else real


def _mask_position(spec: ModelSpec, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 1] column of the first [gMASK], else of the first [MASK]; and whether the row has [MASK] alone."""
    say = spec.prompt
    long, short = (torch.eq(input_ids, -1 if token is None else token) for token in (say.gmask, say.mask))
    has_long, has_short = long.any(-1, keepdim=True), short.any(-1, keepdim=True)
    column = torch.where(has_long, long.long().argmax(-1, keepdim=True), short.long().argmax(-1, keepdim=True))
    return column, has_short & ~has_long
