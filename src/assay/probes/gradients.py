"""Gradient norms by parameter and by layer: of the batch's mean gradient, and of its single examples.

With loss_e the mean loss of example e (a row of the batch), and w_e the share of the batch's targets that it holds,

    norm of the mean   | sum_e w_e grad loss_e |     what a step follows (Xiong et al. 2020, figure 3)
    mean of the norms   sum_e w_e | grad loss_e |    how strongly examples pull, whether or not they agree

The first is at most the second, and equal only where all examples pull the same way: where they disagree the two
tell different stories, so they are never mixed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from assay.data.batch import Batch
from assay.errors import UserError
from assay.nn.loss import loss_sum
from assay.nn.transformer import Transformer
from assay.probes.looking import held_still, row_of, tensors

__all__ = ["GradientNorms", "gradient_norms"]

Chosen = Callable[[str], bool] | Sequence[str] | None
"""Which parameters: a rule over names, names (one alone is a string), or None for all."""


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """Gradients of a batch's mean loss, as norms."""

    names: tuple[str, ...]
    """Parameters, as `spec.parameters.layout` names them."""
    mean: NDArray[np.float64]
    """[parameters] squared norm of the batch's mean gradient."""
    examples: NDArray[np.float64]
    """[examples, parameters] squared norm of each example's own gradient."""
    shares: NDArray[np.float64]
    """[examples] the share of the batch's targets that each example holds; they sum to 1."""
    loss: float
    """The batch's mean loss, nats per target."""

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def norm_of_mean(self, chosen: Chosen = None) -> float:
        """Norm of the batch's mean gradient over the chosen parameters together.

        Args:
            chosen: a name, several, a rule over names, or None for all parameters.
        """
        return math.sqrt(float(self.mean[self._columns(chosen)].sum()))

    def mean_of_norms(self, chosen: Chosen = None) -> float:
        """Mean over examples, weighted by their targets, of the norm of an example's gradient over the chosen ones."""
        return float(self.shares @ np.sqrt(self.examples[:, self._columns(chosen)].sum(axis=1)))

    def _columns(self, chosen: Chosen) -> list[int]:
        if chosen is None:
            return list(range(len(self.names)))
        if callable(chosen):
            chosen = [name for name in self.names if chosen(name)]
        found = [self._index[name] for name in ([chosen] if isinstance(chosen, str) else chosen)]
        assert found, "no parameter is chosen"
        return found


def gradient_norms(model: Transformer, batch: Batch) -> GradientNorms:
    """Norms of the batch's gradient, one backward pass an example: the work of one step, and two gradients of memory.

    The model's own `.grad`s, weights and modes stay as they are.

    Args:
        model: any family.
        batch: of at least one target; an example is a row.

    Raises:
        UserError: the batch has no target.
    """
    chosen = {name: p for name, p in model.named_parameters()}
    frozen = [(p, p.requires_grad) for p in chosen.values()]
    counts = np.asarray(batch.weights, dtype=np.float64).sum(axis=1)
    rows = np.flatnonzero(counts)
    if not len(rows):
        raise UserError("the batch has no target: there is no loss to differentiate.", "Give a batch with targets.")
    shares = counts[rows] / counts.sum()
    mean = [torch.zeros_like(p, dtype=_wide(p)) for p in chosen.values()]
    squares, loss = np.zeros((len(rows), len(chosen))), 0.0
    try:
        for p in chosen.values():
            p.requires_grad_(True)
        with held_still(model), torch.enable_grad():
            for number, (row, share) in enumerate(zip(rows, shares, strict=True)):
                found = loss_sum(model, tensors(model, row_of(batch, int(row))))
                total = found.total / found.weight
                loss += float(share) * float(total.detach())
                grads = torch.autograd.grad(total, list(chosen.values()), allow_unused=True)
                squares[number] = _squares(grads)
                for kept, grad in zip(mean, grads, strict=True):
                    if grad is not None:
                        kept.add_(grad.to(kept.dtype), alpha=float(share))
    finally:
        for p, wanted in frozen:
            p.requires_grad_(wanted)
    return GradientNorms(tuple(chosen), _squares(mean), squares, shares, loss)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _squares(tensors: Iterable[torch.Tensor | None]) -> NDArray[np.float64]:
    """Squared norms; float16's squares would overflow, and so would float32's of a diverging run."""
    zero = torch.zeros((), dtype=torch.float64)
    found = [zero if t is None else torch.linalg.vector_norm(t, dtype=torch.float64).square().cpu() for t in tensors]
    return torch.stack(found).numpy()
