"""transformers with a static cache and a compiled step, as a peer in decoding.

The loop is ours and does less than `generate(cache_implementation="static")`, which on a CPU would not compile: the
prompt runs eagerly; every further token is one call of one graph, which ends in the next token. Keys and values lie in
tensors of a fixed size, and a mask [1, 1, 1, size] hides what is not written yet, as `generate` itself gives it.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

__all__ = ["NAME", "StaticCacheLoop"]

NAME = "transformers/compiled, static cache"


class StaticCacheLoop:
    """Greedy decoding of one row. Raises what torch.compile raises where the step cannot be one graph."""

    def __init__(self, model: Any, size: int) -> None:
        """Args: model: transformers' own, ready for evaluation; size: positions of the cache, prompt and answer."""
        from transformers import StaticCache

        self.model, self.size = model, size
        self.cache = StaticCache(config=model.config, max_cache_len=size)
        self.places = torch.arange(size)
        self.seen = (self.places <= self.places[:, None])[:, None, None, None]  # [place, 1, 1, 1, size]
        self.first_seconds = 0.0
        """What the first call of the graph took: compiling."""

        def step(token: Tensor, place: Tensor, seen: Tensor) -> Tensor:
            out = model(
                input_ids=token, attention_mask=seen, position_ids=place[None], cache_position=place,
                past_key_values=self.cache, use_cache=True, logits_to_keep=1,
            )  # fmt: skip
            best: Tensor = out.logits[:, -1].argmax(-1, keepdim=True)
            return best

        self.eager = step
        self.compiled: Any = torch.compile(step, fullgraph=True, dynamic=False)

    @torch.no_grad()
    def generate(self, ids: Tensor, new: int) -> Tensor:
        """[1, prompt + new] tokens; at most the cache's size together."""
        length = ids.shape[1]
        assert length + new <= self.size + 1, "the cache is too small"
        self.cache.reset()
        places = self.places[:length]
        token = self.eager(ids, places, self.seen[:length, 0, 0, 0][None, None])
        found = [ids, token]
        for place in range(length, length + new - 1):
            began = time.perf_counter()
            token = self.compiled(token, self.places[place : place + 1], self.seen[place])
            found.append(token)
            self.first_seconds = self.first_seconds or time.perf_counter() - began
        return torch.cat(found, 1)
