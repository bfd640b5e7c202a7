"""Cross-entropy at targets alone, in chunks, without ever holding all logits.

The loss of a chunk of positions is computed with its gradient in the forward pass, so the logits of a chunk live
once and are never made again; backward only scales what is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.nn.batch import TensorBatch, hidden_at_targets
from assay.nn.hooks import Tap
from assay.nn.kernels import cross_entropy
from assay.nn.kernels.linear import fast_linear
from assay.nn.transformer import Transformer
from assay.spec.memory import LOSS_ELEMENTS, loss_rows

CHUNK_ELEMENTS = {"cpu": LOSS_ELEMENTS, "cuda": 16 * LOSS_ELEMENTS}
"""Logits held at once: 16 MB in float32, or more where that were fewer than `LEAST_ROWS`. On an accelerator 268 MB:
smaller products than that leave much of it idle, and each chunk's dozen launches cost the processor time."""
LEAST_ROWS = 256
"""Rows of a chunk: with fewer the products wait for the output matrix and its gradient, which pass whole each time."""


@dataclass(frozen=True)
class LossSum:
    """A sum, so that parts of a step add up whatever their sizes."""

    total: Tensor
    """Sum over targets of weight x nats (with the z-loss where asked for)."""
    weights: Float[Tensor, " n"]
    """Of the targets."""

    @property
    def weight(self) -> float:
        """Sum of the weights: divide by a step's whole weight, never by a part's. Asking waits for the device."""
        return float(self.weights.sum())

    @property
    def count(self) -> int:
        """Number of targets."""
        return len(self.weights)


ChunkLoss = Callable[[Tensor, Tensor, Tensor, float | None, float, bool], tuple[Tensor, Tensor | None]]


def chunk_loss(
    logits: Tensor, targets: Tensor, weight: Tensor, cap: float | None, z_loss: float, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Loss of a chunk of logits [N, V], and, where `wanted`, its gradient, written over the logits.

    dL/dl = w ((1 + 2 z log Z) softmax(l) - onehot(target)), through the cap where there is one.
    """
    if cap is None and cross_entropy.why_not(logits, weight) is None:
        nats = cross_entropy.nats_at(logits, targets, weight if wanted else None, z_loss)
        return (weight * nats).sum(), logits if wanted else None
    inner = hit = None
    if cap is not None:
        squashed = torch.tanh(logits / cap)
        inner, logits = 1 - squashed.square(), squashed * cap
    log_z = torch.logsumexp(logits, -1)
    # Compiled, all read their own element alone: torch 2.11 writes the gradient over what a gather has yet to read.
    if torch.compiler.is_compiling():
        hit = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
        nats = log_z - torch.where(hit, logits, 0.0).sum(-1)
    else:
        nats = log_z - logits.gather(1, targets[:, None]).squeeze(1)
    if z_loss:
        nats = nats + z_loss * log_z.square()
    loss = (weight * nats).sum()
    if not wanted:
        return loss, None
    share = weight if not z_loss else weight * (1 + 2 * z_loss * log_z)
    if hit is not None:  # one fused pass, where a scatter would be a second
        slope = (logits - log_z[:, None]).exp() * share[:, None] - torch.where(hit, weight[:, None], 0.0)
        if cap is None and slope.dtype == logits.dtype:
            slope = logits.copy_(slope)  # in place too: no second chunk is held, or fetched to be written
    else:
        slope = logits.sub_(log_z[:, None]).exp_().mul_(share[:, None])
        slope.scatter_add_(1, targets[:, None], -weight[:, None])
    return loss, slope if inner is None else slope * inner


class _CrossEntropy(torch.autograd.Function):
    """Sum of w (logsumexp(l) - l[target] + z logsumexp(l)^2), l = capped logits of h W^T + b."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        cap: float | None,
        z_loss: float,
        chunk: ChunkLoss,
    ) -> Tensor:
        wanted, n = ctx.needs_input_grad, len(hidden)
        hidden, targets, weights = (_rounded(t) for t in (hidden, targets, weights))
        d_hidden = torch.empty_like(hidden) if wanted[0] else None
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        # Sums over chunks stay wide: in bfloat16 a hundred of them would lose 1% of the gradient.
        d_matrix = torch.zeros_like(matrix, dtype=wide) if wanted[1] else None
        d_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wanted[2] else None
        total = torch.zeros((), dtype=wide, device=hidden.device)
        for rows in _chunks(hidden.shape[0], matrix):
            h, weight = hidden[rows], weights[rows].to(wide)
            logits = _logits(h, matrix, bias)
            loss, slope = chunk(
                logits, targets[rows], weight, cap, z_loss, d_hidden is not None or d_matrix is not None
            )
            total += loss
            if slope is None:
                continue
            if d_bias is not None:
                d_bias += slope.sum(0).to(d_bias.dtype)
            slope = slope.to(matrix.dtype)
            if d_hidden is not None:
                d_hidden[rows] = fast_linear(slope, matrix.t(), None)
            if d_matrix is not None:
                if slope.dtype == d_matrix.dtype:
                    d_matrix.addmm_(slope.t(), h)
                else:
                    d_matrix += torch.mm(slope.t(), h)
            del slope, logits  # before the next chunk is made
        ctx.save_for_backward(None if d_hidden is None else d_hidden[:n], d_matrix, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():  # create_graph: what is kept is a gradient already, and constant to autograd
            raise RuntimeError(
                "The chunked loss has no second derivative; take it through Transformer.logits and cross_entropy."
            )
        scaled = (None if kept is None else kept * grad.to(kept.dtype) for kept in ctx.saved_tensors)
        return (*scaled, None, None, None, None, None)


def cross_entropy_sum(
    hidden: Float[Tensor, "n width"],
    matrix: Float[Tensor, "vocabulary width"],
    targets: Int[Tensor, " n"],
    weights: Float[Tensor, " n"],
    *,
    bias: Float[Tensor, " vocabulary"] | None = None,
    cap: float | None = None,
    z_loss: float = 0.0,
    chunk: ChunkLoss = chunk_loss,
) -> Float[Tensor, ""]:
    """Sum over positions of weight x (nats + z_loss log^2 Z), without the whole table of logits.

    Args:
        hidden: what the output matrix multiplies, at positions with a target.
        matrix: the output matrix.
        targets: token ids.
        weights: of each position.
        bias: on the logits.
        cap: soft-cap of the logits.
        z_loss: weight of the squared log-partition (PaLM, section 5: 1e-4).
        chunk: `chunk_loss`, or a compiled form of it.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        kind = torch.get_autocast_dtype(hidden.device.type)
        hidden, matrix, bias = hidden.to(kind), matrix.to(kind), None if bias is None else bias.to(kind)
    if not torch.is_grad_enabled():  # else the forward pass would make gradients that nobody asks for
        hidden, matrix, bias = hidden.detach(), matrix.detach(), None if bias is None else bias.detach()
    total: Tensor = _CrossEntropy.apply(hidden, matrix, bias, targets, weights, cap, z_loss, chunk)
    return total


def loss_sum(model: Transformer, batch: TensorBatch, *, z_loss: float = 0.0, tap: Tap | None = None) -> LossSum:
    """The batch's loss as a sum over its targets; logits are made at targets only."""
    total = head_loss(model, hidden_at_targets(model, batch, tap), batch.targets, batch.weights, z_loss)
    return LossSum(total, batch.weights)


def head_loss(
    model: Transformer, hidden: Float[Tensor, "n width"], targets: Int[Tensor, " n"], weights: Float[Tensor, " n"],
    z_loss: float,
) -> Float[Tensor, ""]:  # fmt: skip
    """`loss_sum`'s total, from what the stacks give at the targets."""
    return cross_entropy_sum(
        model.head.features(hidden), model.head.matrix(model.embedding.weight), targets, weights,
        bias=model.head.bias, cap=model.head.say.softcap, z_loss=z_loss, chunk=model.head.chunk or chunk_loss,
    )  # fmt: skip


@torch.no_grad()
def target_nats(model: Transformer, batch: TensorBatch) -> Float[Tensor, " n"]:
    """-log p of every target, in row-major order of the batch's positions; unweighted."""
    hidden = _rounded(model.head.features(hidden_at_targets(model, batch)))
    targets = _rounded(batch.targets)
    matrix, out = model.head.matrix(model.embedding.weight), []
    for rows in _chunks(hidden.shape[0], matrix):
        logits = model.head.cap(_logits(hidden[rows], matrix, model.head.bias))
        out.append(_nats(logits, targets[rows]))
    return torch.cat(out)[: len(batch.targets)] if out else hidden.new_zeros(0)


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    if cross_entropy.why_not(logits) is None:
        return cross_entropy.nats_at(logits, targets, None, 0.0)
    return torch.logsumexp(logits, -1) - logits.gather(1, targets[:, None]).squeeze(1)


def _logits(hidden: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    logits = fast_linear(hidden, matrix, bias)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _rounded(t: Tensor) -> Tensor:
    """With rows of zeros up to `loss_rows`.

    The number of targets differs from batch to batch, and oneDNN keeps 0.6 MB of code for every shape of a product that
    it has seen, a thousand of them.
    """
    more = loss_rows(len(t)) - len(t)
    return torch.cat((t, t.new_zeros(more, *t.shape[1:]))) if more else t


def _chunks(rows: int, matrix: Tensor) -> list[slice]:
    elements = CHUNK_ELEMENTS.get(matrix.device.type, CHUNK_ELEMENTS["cpu"])
    size = max(elements // matrix.shape[0], LEAST_ROWS)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
