"""From the model's modules to the flat list of operations that `step.c` runs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.generation.cache import Cache, KeyValues, Memory
from assay.generation.native.library import STEP, Op
from assay.generation.plan import Plan
from assay.nn.attention import Attention
from assay.nn.block import Block
from assay.nn.feedforward import FeedForward
from assay.nn.norms import Norm
from assay.nn.positions import sinusoids
from assay.nn.transformer import Transformer
from assay.spec.axes import Activation, NormKind, Pairing, PositionKind
from assay.spec.masks import Causal, Mask

EMBED, ADD_ROW, NORM, LINEAR, GATED, ROTATE, ATTEND, SUM = range(8)
ACTS = {Activation.relu: 1, Activation.gelu: 2, Activation.gelu_tanh: 3, Activation.silu: 4, Activation.relu2: 5}
NORMS = {NormKind.layernorm: 0, NormKind.rmsnorm: 1, NormKind.dyt: 2}


class Program:
    """A decoder's step for one row: one native call a token. Weights and caches are read where they lie."""

    def __init__(self, net: Transformer, plan: Plan, cache: Cache, length: int) -> None:
        """Args: net: the model; plan, cache: of this generation, the prompt read; length: tokens foreseen in all."""
        assert net.decoder is not None
        self._net, self._stack, self._cache = net, net.decoder, cache
        self._ops: list[Op] = []
        self._kept: list[Any] = []
        self._places: dict[str, Tensor] = {}
        self._handle: int | None = None
        self._longest = max(length, 1 if plan.memory is None else plan.memory.shape[1])
        self._positions(plan, length)
        x = self._enter()
        for layer in range(len(self._stack.blocks)):
            block = self._stack.blocks[layer]
            assert isinstance(block, Block)
            x = self._dual(block, layer, x) if block.dual else self._block(block, layer, x)
        self._leave(x)
        self._start()

    def step(self, token: int) -> Tensor:
        """Logits [1, vocabulary] after one more token; the same storage every time."""
        own = self._own
        time = own[0].length
        self._library.step_program(self._handle, token, time)
        for kept in own:
            kept.length = time + 1
        return self._logits

    def close(self) -> None:
        """End its threads."""
        if self._handle:
            self._library.close_program(self._handle)
            self._handle = None

    def __del__(self) -> None:
        """As `close`."""
        if getattr(self, "_handle", None):
            self.close()

    def _start(self) -> None:
        loaded = STEP.load()
        assert loaded is not None, STEP.reason
        self._library = loaded
        self._own = [kept for entry in self._cache.layers if isinstance(kept := entry["attention"], KeyValues)]
        self._array = (Op * len(self._ops))(*self._ops)
        scores = self._hold(torch.empty(self._net.spec.heads("decoder") * self._longest))
        threads = torch.get_num_threads()
        self._handle = loaded.open_program(
            ctypes.addressof(self._array), len(self._ops), threads, scores, self._longest
        )
        if not self._handle:
            raise MemoryError("no memory for a decoding program")

    # Operands

    def _hold(self, x: Tensor) -> int:
        """The address of a tensor that is kept alive."""
        assert x.is_contiguous()
        self._kept.append(x)
        return x.data_ptr()

    def _place(self, name: str, size: int) -> Tensor:
        """A buffer by name, the same at every call."""
        if name not in self._places:
            self._places[name] = torch.zeros(size)
        assert self._places[name].numel() == size
        return self._places[name]

    def _add(self, kind: int, **fields: Any) -> None:
        op = Op(kind=kind)
        for name, value in fields.items():
            if name in ("w", "bias", "dst", "seg_rows"):
                for i, item in enumerate(value):
                    if item is not None:
                        getattr(op, name)[i] = self._hold(item) if isinstance(item, Tensor) else item
            elif value is not None:
                setattr(op, name, self._hold(value) if isinstance(value, Tensor) else value)
        self._ops.append(op)

    # Positions

    def _positions(self, plan: Plan, length: int) -> None:
        """Tables over the whole generation, a row for every key that comes before."""
        stack, say = self._stack, self._net.spec.positions
        ids = stack._count(0, length, torch.device("cpu")) if plan.positions is None else plan.positions
        self._ids = ids
        turn = stack._rotary(ids, length)
        self._turn = None if turn is None else [table[0].contiguous() for table in turn]
        self._bias: dict[int, Tensor] = {}
        if say.kind in (PositionKind.alibi, PositionKind.relative):
            for layer in range(len(stack.blocks)):
                own = stack._own_table(layer)
                if own is None and layer:
                    self._bias[layer] = self._bias[0]
                    continue
                bias = stack._bias(own or stack.relative, Mask(Causal()), 1, length, torch.device("cpu"))
                assert bias is not None
                by_distance = torch.zeros(bias.shape[1], self._longest)
                by_distance[:, :length] = bias[0, :, 0].float().flip(-1)
                self._bias[layer] = by_distance

    # The stream

    def _enter(self) -> Tensor:
        net, stack, width = self._net, self._stack, self._net.spec.width
        say = net.spec.positions
        x = self._place("stream 0", width)
        self._add(EMBED, n=width, a=net.spec.embedding.scale or 1.0, src=net.embedding.weight.detach(), dst=[x])
        rows = self._ids[0].unbind(0) if say.axes == 2 else (self._ids[0],)
        tables = [t.weight.detach() for t in (stack.positions, stack.block_positions) if t is not None]
        for table, index in zip(tables, rows, strict=False):
            self._add(ADD_ROW, n=width, src=table, index=(index + say.offset).contiguous(), dst=[x])
        if say.kind is PositionKind.sinusoidal:
            table = sinusoids(self._ids, width, say.theta)[0].contiguous()
            self._add(ADD_ROW, n=width, src=table, index=torch.arange(len(table)), dst=[x])
        if stack.token_types is not None:
            zeros = torch.zeros(self._ids.shape[-1], dtype=torch.long)
            self._add(ADD_ROW, n=width, src=stack.token_types.weight.detach(), index=zeros, dst=[x])
        if stack.embedding_norm is not None:
            self._norm(stack.embedding_norm, x, x)
        return x

    def _leave(self, x: Tensor) -> None:
        net, stack, width = self._net, self._stack, self._net.spec.width
        head = net.head
        out = self._place("out", width)
        if stack.final_norm is not None:
            self._norm(stack.final_norm, self._far if stack.dual else x, out)
        else:
            self._add(SUM, n=width, a=1.0, src=self._far if stack.dual else x, dst=[out])
        if stack.dual:
            self._add(SUM, n=width, a=1.0, b=1.0, src=out, src2=x, dst=[out])
        if head.say.scale is not None:
            self._add(SUM, n=width, a=head.say.scale, src=out, dst=[out])
        matrix = (net.embedding.weight if head.weight is None else head.weight).detach()
        self._logits = torch.zeros(1, len(matrix))
        # Rows scaled to length 1, as `Head.matrix` does, without a second matrix.
        lengths = 1 / matrix.norm(dim=-1).clamp(min=1e-12) if head.say.normalised else None
        bias = None if head.bias is None else head.bias.detach()
        self._add(
            LINEAR, n=width, seg_rows=[len(matrix)], w=[matrix], bias=[bias], dst=[self._logits], src=out,
            src2=lengths, b=head.say.softcap or 0.0,
        )  # fmt: skip

    # A block: the same walk as `Block.forward`

    def _block(self, block: Block, layer: int, x: Tensor) -> Tensor:
        width = self._net.spec.width
        for wire in block.wiring:
            h = self._through(block, wire.before, x, "h")
            skip = h if wire.normed_skip else x
            alpha = float(getattr(block, wire.alpha)) if wire.alpha else 1.0
            # Another place than x: in a parallel block the next sublayer still reads it.
            total = self._place("stream 1" if x is self._place("stream 0", width) else "stream 0", width)
            for i, (name, before, out) in enumerate(wire.sublayers):
                y = self._sublayer(block, name, layer, self._through(block, before, h, "own h"))
                y = self._through(block, out, y, "own y")
                first, scale = (skip, alpha) if i == 0 else (total, 1.0)
                self._add(SUM, n=width, a=scale, b=1.0, src=first, src2=y, dst=[total])
            x = self._through(block, wire.after, total, total)
        return x

    def _dual(self, block: Block, layer: int, near: Tensor) -> Tensor:
        width = self._net.spec.width
        far = self._far = self._place("far", width)
        if layer == 0:
            self._add(SUM, n=width, a=1.0, src=near, dst=[far])
        for wire in block.wiring:
            ((name, _, _),) = wire.sublayers
            y = self._sublayer(block, name, layer, near)
            self._add(SUM, n=width, a=1.0, b=1.0, src=near, src2=y, dst=[near])
            self._add(SUM, n=width, a=1.0, b=1.0, src=far, src2=y, dst=[far])
            near = self._through(block, wire.after, near, near)
        return near

    def _through(self, block: Block, slot: str, x: Tensor, into: str | Tensor) -> Tensor:
        if not slot:
            return x
        to = self._place(into, x.numel()) if isinstance(into, str) else into
        norm, scale = getattr(block, slot, None), getattr(block, f"{slot}_scale", None)
        factor = 1.0 if scale is None else float(scale)
        if norm is None:
            self._add(SUM, n=x.numel(), a=factor, src=x, dst=[to])
        else:
            self._norm(norm, x, to, scale=factor)
        return to

    def _norm(self, norm: Norm, x: Tensor, to: Tensor, *, rows: int = 1, scale: float = 1.0) -> None:
        if norm.kind is NormKind.none:
            self._add(SUM, n=x.numel(), a=scale, src=x, dst=[to])
            return
        weight = None if norm.weight is None else norm.weight.detach()
        if weight is not None and norm.plus_one:
            weight = weight + 1.0
        self._add(
            NORM, mode=NORMS[norm.kind], n=norm.width, rows=rows, flag=norm.counted, a=norm.eps, b=scale,
            c=norm.max_scale or 0.0, d=float(norm.alpha) if norm.kind is NormKind.dyt else 0.0, w=[weight],
            bias=[None if norm.bias is None else norm.bias.detach()], src=x, dst=[to],
        )  # fmt: skip

    def _linear(self, x: Tensor, parts: Sequence[tuple[nn.Linear, Tensor]], *, clip: float = 0.0, act: int = 0) -> None:
        self._add(
            LINEAR, mode=act, n=x.numel(), src=x, a=clip, seg_rows=[m.out_features for m, _ in parts],
            w=[m.weight.detach() for m, _ in parts], dst=[to for _, to in parts],
            bias=[_bias(m) for m, _ in parts],
        )  # fmt: skip

    # Sublayers

    def _sublayer(self, block: Block, name: str, layer: int, x: Tensor) -> Tensor:
        module = getattr(block, name)
        out = self._place("y", self._net.spec.width)
        if isinstance(module, FeedForward):
            self._feedforward(module, x, out)
        else:
            self._attention(module, name, layer, x, out)
        return out

    def _feedforward(self, module: FeedForward, x: Tensor, out: Tensor) -> None:
        inner = self._place("inner", module.up.out_features)
        act = ACTS[module.activation]
        if module.gate is None:
            self._linear(x, [(module.up, inner)], act=act)
        else:
            pair = (module.gate, module.up)
            self._add(
                GATED, mode=act, n=x.numel(), src=x, seg_rows=[inner.numel()], dst=[inner],
                w=[m.weight.detach() for m in pair], bias=[_bias(m) for m in pair],
            )  # fmt: skip
        if module.inner is not None:
            self._norm(module.inner, inner, inner)
        self._linear(inner, [(module.down, out)])

    def _attention(self, module: Attention, name: str, layer: int, x: Tensor, out: Tensor) -> None:
        cross, d = name == "cross_attention", module.head_width
        q = self._place("q", module.heads * d)
        k, v = (self._place(part, module.kv_heads * d) for part in "kv")
        parts = [(module.q, q)] if cross else [(module.q, q), (module.k, k), (module.v, v)]
        self._linear(x, parts, clip=module.clip or 0.0)
        for norm, at, heads in ((module.q_norm, q, module.heads), (module.k_norm, k, module.kv_heads)):
            if norm is not None and not (cross and at is k):
                self._norm(norm, at, at, rows=heads if module.per_head else 1)
        if self._turn is not None and not cross:
            self._rotate(module, q, module.heads, *self._turn[:2])
            self._rotate(module, k, module.kv_heads, *self._turn[2:])
        mixed = self._place("mixed", q.numel())
        scale = module.scale if module.own_scale is None else float(module.own_scale)
        kept = self._cache.layers[layer][name]
        fields: dict[str, Any] = {"window": 0 if cross else self._net.spec.window(layer) or 0}
        if isinstance(kept, KeyValues):
            assert kept.k is not None and kept.v is not None
            fields |= {"src2": k, "w": [v], "k": kept.k, "v": kept.v, "capacity": kept.capacity}
            fields["bias_table"] = self._bias.get(layer)
        else:
            assert isinstance(kept, Memory) and kept.kept is not None
            keys, values = (part.contiguous() for part in kept.kept)
            length = keys.shape[2]
            fields |= {"k": keys, "v": values, "capacity": length, "rows": length, "flag": 1}
        self._add(
            ATTEND, n=d, heads=module.heads, kv_heads=module.kv_heads, a=scale, b=module.softcap or 0.0, src=q,
            dst=[mixed], **fields,
        )  # fmt: skip
        if module.inner is not None:
            self._norm(module.inner, mixed, mixed)
        self._linear(mixed, [(module.o, out)])

    def _rotate(self, module: Attention, x: Tensor, heads: int, cos: Tensor, sin: Tensor) -> None:
        say = self._net.spec.positions
        mode = 0 if say.pairing is Pairing.interleaved else module.axes
        self._add(
            ROTATE, mode=mode, n=module.head_width, rows=cos.shape[-1], heads=heads, cos=cos, sin=sin, dst=[x]
        )  # fmt: skip


def _bias(linear: nn.Linear) -> Tensor | None:
    bias = linear._parameters.get("bias")
    return None if bias is None else bias.detach()


__all__ = ["Program"]
