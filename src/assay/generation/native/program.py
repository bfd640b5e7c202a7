"""One generation's native steps: the written program, its threads, and which row reads whose keys."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.generation.cache import Cache, KeyValues, Memory
from assay.generation.native.library import STEP, Op
from assay.generation.native.writer import Writer
from assay.generation.plan import Plan
from assay.nn.transformer import Transformer


class Program:
    """A decoder's step for some rows: one native call a token. Weights and caches are read where they lie.

    Beams part and join without a key being copied: every row writes its newest key into its own row of the cache, and
    a table says for each earlier key in which row it lies. `finish` puts them in order.
    """

    def __init__(self, net: Transformer, plan: Plan, cache: Cache, length: int) -> None:
        """Args: net: the model; plan, cache: of this generation, the prompt read; length: tokens foreseen in all."""
        loaded = STEP.load()
        assert loaded is not None, STEP.reason
        self._library, self._cache = loaded, cache
        written = Writer(net, plan, cache, length)
        self.rows, self._kept, self._logits = written.rows, written.kept, written.logits
        self._own = [kept for entry in cache.layers if isinstance(kept := entry["attention"], KeyValues)]
        self._array = (Op * len(written.ops))(*written.ops)
        threads = torch.get_num_threads()
        self._scores = torch.empty(threads * written.longest)
        self._panel = torch.empty(written.widest * (-(-self.rows // 16) * 16))
        self._handle: int | None = loaded.open_program(
            ctypes.addressof(self._array), len(self._array), threads, self.rows, written.longest,
            self._scores.data_ptr(), self._panel.data_ptr(),
        )  # fmt: skip
        if not self._handle:
            raise MemoryError("no memory for a decoding program")
        self._longest = written.longest
        # In int32, from the first `select` on: which row's tables and memory, and which row's keys, a row reads.
        self._origin: Int[Tensor, " rows"] | None = None
        self._where: Int[Tensor, "rows times"] | None = None

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Logits after one more token a row; the same storage every time."""
        time = self._own[0].length
        tokens = tokens.contiguous()
        self._library.step_program(self._handle, tokens.data_ptr(), time)
        for kept in self._own:
            kept.length = time + 1
        return self._logits

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with the given rows, as many as there are, in that order; repeats allowed."""
        time = self._own[0].length
        if self._where is None or self._origin is None:
            self._origin = torch.arange(self.rows, dtype=torch.int32)
            # A key yet to come lies in its own row.
            self._where = self._origin[:, None].repeat(1, self._longest)
            self._library.reorder_program(self._handle, self._origin.data_ptr(), self._where.data_ptr())
        self._origin.copy_(self._origin.index_select(0, rows))
        self._where[:, :time] = self._where[:, :time].index_select(0, rows)

    def finish(self) -> Int[Tensor, " rows"] | None:
        """End the steps: each row's keys into its own row of the cache, for who reads it without the table.

        Returns:
            Which of the first step's rows each row comes from; None where rows never changed place.
        """
        origin = None if self._origin is None else self._origin.long()
        if self._handle and self._where is not None and origin is not None:
            held = self._where[:, None, : self._own[0].length].long()
            for entry in self._cache.layers:
                for kept in entry.values():
                    if isinstance(kept, Memory):
                        kept.select(origin)
                    elif isinstance(kept, KeyValues):
                        kept.gather(held)
        self.close()
        self._origin = None
        return origin

    def close(self) -> None:
        """End its threads."""
        if self._handle:
            self._library.close_program(self._handle)
            self._handle = None

    def __del__(self) -> None:
        """As `close`."""
        if getattr(self, "_handle", None):
            self.close()


__all__ = ["Program"]
