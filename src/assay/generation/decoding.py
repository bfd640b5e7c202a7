"""One generation as it runs: tokens in, the newest position's logits out, with a cache or without."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.generation.cache import Cache
from assay.generation.native import Program, why_not
from assay.generation.plan import Plan, cache_is_exact
from assay.nn.transformer import Transformer


class Decoding:
    """The state of one generation.

    `begin` reads the prompt, `step` one more token a row; both answer with logits [B, vocabulary] of the newest
    position. Without a cache every call reads the whole text again, under the same facts.
    """

    def __init__(self, net: Transformer, plan: Plan, new: int, *, cache: Cache | None, use_cache: bool = True) -> None:
        """Args: net: what computes; plan: visibility and positions; new: tokens to come; cache: one to carry on."""
        self.net, self.plan = net, plan
        length = plan.ids.shape[1]
        self.ids = torch.cat((plan.ids, plan.ids.new_zeros((len(plan.ids), new))), 1)
        self.length = length
        """Tokens read or about to be read."""
        self.cache: Cache | None = None
        self._carried = cache is not None
        if use_cache and cache_is_exact(net.spec, length + new):
            self.cache = Cache() if cache is None else cache
            reuse(self.cache, plan)
            self.cache.prepare(net, length + new)
        self.new = new
        self.native: Program | None = None
        self.eager_because: str | None = None
        """Why steps run the modules one by one; None where they run natively, or before the first step."""

    def begin(self) -> Float[Tensor, "b v"]:
        """Read the prompt (what of it the cache does not hold yet)."""
        return self._read()

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Read one more token a row."""
        if self.native is None and self.eager_because is None:
            self._choose()
        self.ids[:, self.length] = tokens
        self.length += 1
        return self._read() if self.native is None else self.native.step(tokens)

    def select(self, rows: Int[Tensor, " n"]) -> None:
        """Go on with the given rows, in that order; rows may repeat (beam search)."""
        same_count = len(rows) == len(self.ids)
        self.ids = self.ids.index_select(0, rows)
        if self.native is not None and same_count:
            self.native.select(rows)
            return
        self._settle()
        self.native = None  # the next step chooses anew
        self.plan = self.plan.select(rows)
        if self.cache is not None:
            self.cache.select(rows)

    def finish(self) -> None:
        """Let a cache that was handed in know which tokens it holds, for a later call; one's own is over."""
        if not self._carried and self.native is not None:
            self.native.close()
            self.cache = None
        self._settle()
        if self.cache is not None:
            self.cache.ids = self.ids[:, : self.cache.length].clone()
            self.cache.bounds = bounds(self.plan)

    def _settle(self) -> None:
        """Leave cache and plan as the modules would have them by now."""
        if self.native is not None and self.cache is not None:
            origin = self.native.finish()
            self.plan = self.plan if origin is None else self.plan.select(origin)

    def _choose(self) -> None:
        """After the prompt: one native call a token where that is possible."""
        self.eager_because = why_not(self.net, self.plan, self.cache, self.new)
        if self.eager_because is None and self.cache is not None:
            self.native = Program(self.net, self.plan, self.cache, self.ids.shape[1])

    def _read(self) -> Tensor:
        start = 0 if self.cache is None else self.cache.length
        mask, positions = self.plan.at(start, self.length)
        keep: dict[str, Any] = {} if self.cache is None else {"cache": self.cache.layers, "past": start}
        out = self.net.decode(
            self.ids[:, start : self.length], mask, position_ids=positions, memory=self.plan.memory,
            memory_mask=self.plan.memory_mask, **keep,
        )  # fmt: skip
        return self.net.logits(out.hidden[:, -1])


def reuse(cache: Cache, plan: Plan) -> None:
    """Cut a cache from an earlier call down to what this call's tokens share with it; at least one is read anew.

    Keys of a prefix were computed seeing the whole prefix, so they hold only under the same prefix.
    """
    cache.reused = 0
    if cache.ids is None:
        return
    before = bounds(plan)
    same = plan.memory is None and cache.ids.shape[0] == plan.ids.shape[0] and before == cache.bounds
    common = min(cache.ids.shape[1], plan.ids.shape[1] - 1)
    if same and common > 0:
        equal = (cache.ids[:, :common] == plan.ids[:, :common]).all(0)
        common = common if bool(equal.all()) else int(equal.long().argmin())
    if not same or common < max(1, prefix_end(plan)):
        cache.clear()
        return
    cache.cut(common)
    cache.reused = common


def prefix_end(plan: Plan) -> int:
    """How many leading tokens see each other: their keys hold together or not at all."""
    prefix = plan.mask.facts.prefix
    if prefix is None:
        return 0
    return int((prefix.any(0).long() * torch.arange(1, prefix.shape[1] + 1, device=prefix.device)).max())


def bounds(plan: Plan) -> tuple[object, ...]:
    """All that decides keys besides the tokens: prefix lengths, padding before the text, first positions."""
    facts, length = plan.mask.facts, plan.ids.shape[1]
    padded = None if facts.key_mask is None else (~facts.key_mask).sum(-1).tolist()
    prefix = None if facts.prefix is None else facts.prefix.sum(-1).tolist()
    first = None if plan.positions is None else plan.positions[..., 0].tolist()
    table = None if facts.blocked is None else (length, id(facts.blocked))
    return (str(plan.mask.rule), padded, prefix, first, table)
