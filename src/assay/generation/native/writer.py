"""From the model's modules to the flat list of operations that `step.c` runs for every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.generation.cache import Cache, KeyValues, Memory
from assay.generation.native.library import Op
from assay.generation.native.spans import span
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


class Writer:
    """The list of operations of one decoding step, its buffers and its tables: a walk over the modules, once."""

    def __init__(self, net: Transformer, plan: Plan, cache: Cache, length: int) -> None:
        """Args: net: the model; plan, cache: of this generation, the prompt read; length: tokens foreseen in all."""
        assert net.decoder is not None
        self._net, self._stack, self._cache = net, net.decoder, cache
        self.rows = len(plan.ids)
        self.ops: list[Op] = []
        self.kept: list[Any] = []
        """What the operations' addresses point into."""
        self.longest = max(length, 1 if plan.memory is None else plan.memory.shape[1])
        """Keys that a row can see."""
        self.widest = 1
        """Features of a row that a product reads."""
        self._places: dict[str, Tensor] = {}
        self._own_span = self._a_row_each(span(plan.mask))
        self._memory_span = None if plan.memory_mask is None else self._a_row_each(span(plan.memory_mask))
        self._positions(plan, length)
        x = self._enter()
        for layer in range(len(self._stack.blocks)):
            block = self._stack.blocks[layer]
            assert isinstance(block, Block)
            x = self._dual(block, layer, x) if block.dual else self._block(block, layer, x)
        self._leave(x)

    # Operands

    def _a_row_each(self, x: Tensor | None) -> Tensor | None:
        return x if x is None else x.expand(self.rows, -1).contiguous()

    def _hold(self, x: Tensor) -> int:
        """The address of a tensor that is kept alive."""
        assert x.is_contiguous()
        self.kept.append(x)
        return x.data_ptr()

    def _place(self, name: str, size: int) -> Tensor:
        """A buffer [rows, size] by name, the same at every call."""
        if name not in self._places:
            self._places[name] = torch.zeros(self.rows, size)
        assert self._places[name].shape[1] == size
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
        self.ops.append(op)
        if kind in (LINEAR, GATED):
            self.widest = max(self.widest, op.n)

    # Positions

    def _positions(self, plan: Plan, length: int) -> None:
        """Tables over the whole generation, [1 or rows, a key's time, ...]: one for all where rows agree."""
        stack, say = self._stack, self._net.spec.positions
        ids = stack._count(0, length, torch.device("cpu")) if plan.positions is None else plan.positions
        self._ids = ids = ids[:1] if bool((ids == ids[:1]).all()) else ids
        turn = stack._rotary(ids, length)
        self._turn = None if turn is None else [table.contiguous() for table in turn]
        self._bias: dict[int, Tensor] = {}
        if say.kind in (PositionKind.alibi, PositionKind.relative):
            for layer in range(len(stack.blocks)):
                own = stack._own_table(layer)
                if own is None and layer:
                    self._bias[layer] = self._bias[0]
                    continue
                bias = stack._bias(own or stack.relative, Mask(Causal()), 1, length, torch.device("cpu"))
                assert bias is not None
                by_distance = torch.zeros(bias.shape[1], self.longest)
                by_distance[:, :length] = bias[0, :, 0].float().flip(-1)
                self._bias[layer] = by_distance

    # The stream

    def _enter(self) -> Tensor:
        net, stack, width = self._net, self._stack, self._net.spec.width
        say = net.spec.positions
        x = self._place("stream 0", width)
        self._add(EMBED, n=width, a=net.spec.embedding.scale or 1.0, src=net.embedding.weight.detach(), dst=[x])
        axes = self._ids.unbind(1) if say.axes == 2 else (self._ids,)
        tables = [t.weight.detach() for t in (stack.positions, stack.block_positions) if t is not None]
        for table, index in zip(tables, axes, strict=False):
            self._add_rows(x, table, index + say.offset)
        if say.kind is PositionKind.sinusoidal:
            table = sinusoids(self._ids, width, say.theta).flatten(0, 1)
            self._add_rows(x, table, torch.arange(len(table)).view(self._ids.shape))
        if stack.token_types is not None:
            self._add_rows(x, stack.token_types.weight.detach(), torch.zeros_like(axes[0]))
        if stack.embedding_norm is not None:
            self._norm(stack.embedding_norm, x, x)
        return x

    def _add_rows(self, x: Tensor, table: Tensor, index: Tensor) -> None:
        """Add `table[index[row, time]]` to every row; index: [1 or rows, times]."""
        step = 0 if len(index) == 1 else index.shape[1]
        self._add(ADD_ROW, n=x.shape[1], src=table, index=index.contiguous(), step=step, dst=[x])

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
        self.logits = torch.zeros(self.rows, len(matrix))
        # Rows scaled to length 1, as `Head.matrix` does, without a second matrix.
        lengths = 1 / matrix.norm(dim=-1).clamp(min=1e-12) if head.say.normalised else None
        bias = None if head.bias is None else head.bias.detach()
        self._add(
            LINEAR, n=width, seg_rows=[len(matrix)], w=[matrix], bias=[bias], dst=[self.logits], src=out,
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
        to = self._place(into, x.shape[1]) if isinstance(into, str) else into
        norm, scale = getattr(block, slot, None), getattr(block, f"{slot}_scale", None)
        factor = 1.0 if scale is None else float(scale)
        if norm is None:
            self._add(SUM, n=x.shape[1], a=factor, src=x, dst=[to])
        else:
            self._norm(norm, x, to, scale=factor)
        return to

    def _norm(self, norm: Norm, x: Tensor, to: Tensor, *, heads: int = 1, scale: float = 1.0) -> None:
        if norm.kind is NormKind.none:
            self._add(SUM, n=x.shape[1], a=scale, src=x, dst=[to])
            return
        weight = None if norm.weight is None else norm.weight.detach()
        if weight is not None and norm.plus_one:
            weight = weight + 1.0
        self._add(
            NORM, mode=NORMS[norm.kind], n=norm.width, size=heads, flag=norm.counted, a=norm.eps, b=scale,
            c=norm.max_scale or 0.0, d=float(norm.alpha) if norm.kind is NormKind.dyt else 0.0, w=[weight],
            bias=[None if norm.bias is None else norm.bias.detach()], src=x, dst=[to],
        )  # fmt: skip

    def _linear(self, x: Tensor, parts: Sequence[tuple[nn.Linear, Tensor]], *, clip: float = 0.0, act: int = 0) -> None:
        self._add(
            LINEAR, mode=act, n=x.shape[1], src=x, a=clip, seg_rows=[m.out_features for m, _ in parts],
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
                GATED, mode=act, n=x.shape[1], src=x, seg_rows=[inner.shape[1]], dst=[inner],
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
                self._norm(norm, at, at, heads=heads if module.per_head else 1)
        if self._turn is not None and not cross:
            self._rotate(module, q, module.heads, *self._turn[:2])
            self._rotate(module, k, module.kv_heads, *self._turn[2:])
        mixed = self._place("mixed", q.shape[1])
        scale = module.scale if module.own_scale is None else float(module.own_scale)
        kept = self._cache.layers[layer][name]
        fields: dict[str, Any] = {"window": 0 if cross else self._net.spec.window(layer) or 0}
        if isinstance(kept, KeyValues):
            assert kept.k is not None and kept.v is not None
            fields |= {"src2": k, "w": [v], "k": kept.k, "v": kept.v, "capacity": kept.capacity}
            fields |= {"bias_table": self._bias.get(layer), "span": self._own_span}
        else:
            assert isinstance(kept, Memory) and kept.kept is not None
            keys, values = (part.contiguous() for part in kept.kept)
            length = keys.shape[2]
            fields |= {"k": keys, "v": values, "capacity": length, "size": length, "flag": 1, "span": self._memory_span}
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
        step = 0 if len(cos) == 1 else cos[0].numel()
        self._add(
            ROTATE, mode=mode, n=module.head_width, size=cos.shape[-1], heads=heads, cos=cos, sin=sin, step=step,
            dst=[x],
        )  # fmt: skip


def _bias(linear: nn.Linear) -> Tensor | None:
    bias = linear._parameters.get("bias")
    return None if bias is None else bias.detach()


__all__ = ["Writer"]
