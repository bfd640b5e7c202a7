"""From the one rule to what attention computes with: dense table, SDPA's forms, FlexAttention's block mask.

No other place decides visibility. A row that sees nothing gives zero output and zero gradient on every path.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from assay.spec.masks import And, Bidirectional, Causal, Mask, MaskFacts, Rule, Window

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


class Visible(NamedTuple):
    """Who sees whom in one attention call, in the form that scaled-dot-product attention takes.

    causal: the plain lower triangle, with no tensor behind it.
    bias: additive, [1 or B, 1 or H, Q, K], -inf where hidden; None where nothing is hidden or added.
    empty: [B, 1, Q, 1] rows that see nothing (their bias shows key 0, their output is set to 0); None: no such row.
    ranges: [B, Q, 2] the keys that each query sees, where `ranged.py` computes; the bias is then positions' alone.
    """

    causal: bool = False
    bias: Tensor | None = None
    empty: Tensor | None = None
    ranges: Tensor | None = None


EVERYTHING = Visible()


def to_device(mask: Mask, device: torch.device | str) -> Mask:
    """The mask with its facts as tensors on a device."""
    facts = {
        field.name: None if value is None else torch.as_tensor(value, device=device)
        for field in dataclasses.fields(MaskFacts)
        for value in [getattr(mask.facts, field.name)]
    }
    return Mask(mask.rule, MaskFacts(**facts))


def dense(
    mask: Mask, queries: int, keys: int, device: torch.device | str = "cpu", *, cross: bool = False
) -> Bool[Tensor, "b q k"]:
    """The table of the rule: True where the query sees the key.

    Queries stand at the end of the keys (with a cache, `queries < keys`); in cross-attention both count from 0.
    """
    batch = next((len(getattr(mask.facts, name)) for name in sorted(mask.rule.needs)), 1)
    b = torch.arange(batch, device=device)[:, None, None]
    q = torch.arange(queries, device=device)[None, :, None] + (0 if cross else keys - queries)
    k = torch.arange(keys, device=device)[None, None, :]
    table: Tensor = mask.rule(b, q, k, mask.facts)
    return table.expand(batch, queries, keys)


def narrow(rule: Rule, window: int | None, keys: int) -> Rule:
    """The rule within a layer's window."""
    return rule if window is None or window >= keys else rule & Window(window)


def visible(
    mask: Mask,
    queries: int,
    keys: int,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    bias: Tensor | None = None,
    cross: bool = False,
) -> Visible:
    """SDPA's form of a mask, with `bias` [1, H, Q, K] added where positions enter as one.

    The plain triangle and the open square need no tensor; everything else becomes an additive one.
    """
    rule = mask.rule
    open_square = rule == Bidirectional() or (rule == Causal() and queries == 1)
    if open_square:
        return Visible(bias=None if bias is None else bias.to(dtype))
    if rule == Causal() and queries == keys and bias is None:
        return Visible(causal=True)
    table = dense(mask, queries, keys, device, cross=cross)
    empty = None
    if rule.needs:
        empty = ~table.any(-1, keepdim=True)
        if bool(empty.any()):
            first = torch.arange(keys, device=device) == 0
            table, empty = table | (empty & first), empty.unsqueeze(1)
        else:
            empty = None
    hidden = torch.zeros(table.shape, dtype=dtype, device=device).masked_fill_(~table, float("-inf"))
    hidden = hidden.unsqueeze(1)
    return Visible(bias=hidden if bias is None else hidden + bias.to(dtype), empty=empty)


def block_mask(mask: Mask, queries: int, keys: int, device: torch.device | str = "cpu") -> BlockMask:
    """FlexAttention's block mask of the same rule (on a CPU it serves inference only)."""
    from torch.nn.attention.flex_attention import create_block_mask

    rule, facts, offset = mask.rule, mask.facts, keys - queries
    batch = next((len(getattr(facts, name)) for name in sorted(rule.needs)), None)

    def visible_to(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Any:
        return rule(b, q + offset, k, facts)

    return create_block_mask(visible_to, batch, None, queries, keys, device=str(device))


def is_causal(rule: Rule) -> bool:
    """Whether no query sees a later key, whatever the facts."""
    return rule == Causal() or (isinstance(rule, And) and any(is_causal(part) for part in rule.parts))
