"""A few bare steps on fixed batches, with the gradient scaled: what of the gradient's size reaches the weights.

    gradient descent   theta <- theta - eta c g              the step is proportional to the gradient's scale c
    Adam               theta <- theta - eta m / (sqrt(v) + eps),  m and sqrt(v) both proportional to c:
                       c cancels as long as c sqrt(v) stays far above eps (Kingma & Ba 2015, section 2.1)

No clipping, decay, schedule or warmup stands between: an instrument, not a training loop. The model is left as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from assay.data.batch import Batch
from assay.errors import UserError
from assay.nn.transformer import Transformer
from assay.probes.curvature import mean_loss
from assay.probes.updates import restored

__all__ = ["RULES", "Descent", "descend"]

RULES = ("gd", "adam")


@dataclass(frozen=True)
class Descent:
    """What the steps did."""

    losses: tuple[float, ...]
    """Loss on the first batch, before each time that it is used and at the end; it ends where it is not finite."""
    first_step: float
    """Norm of the first step, over all weights."""
    gradient: float
    """Norm of the first gradient, scaled as it was used."""

    @property
    def fall(self) -> float:
        """Nats by which the loss fell; negative where it rose; -inf where it was lost."""
        last = self.losses[-1]
        return self.losses[0] - last if math.isfinite(last) else -math.inf


def descend(
    model: Transformer,
    batches: Sequence[Batch],
    *,
    rule: str,
    rate: float,
    steps: int,
    scale: float = 1.0,
    eps: float = 1e-8,
) -> Descent:
    """Take steps on the batches in turn; every gradient is multiplied by `scale` before the rule sees it.

    Args:
        model: stays as it is.
        batches: used one after the other, from the first again.
        rule: "gd", or "adam" (0.9, 0.95, without decay).
        rate: eta, constant.
        steps: how many; fewer where the loss is lost.
        scale: c.
        eps: Adam's.

    Raises:
        UserError: an unknown rule, no batches, or a rate or scale that is not positive.
    """
    if rule not in RULES:
        raise UserError(f"rule = {rule!r} is not known.", f"Give one of {', '.join(RULES)}.")
    if not batches or not rate > 0 or not scale > 0:
        raise UserError(f"{len(batches)} batches, rate = {rate:g}, scale = {scale:g}: all have to be above 0.")
    weights = list(model.parameters())
    with restored(model), torch.enable_grad():
        optimizer = (
            torch.optim.SGD(weights, lr=rate)
            if rule == "gd"
            else torch.optim.Adam(weights, lr=rate, betas=(0.9, 0.95), eps=eps)
        )
        losses: list[float] = []
        first = size = math.nan
        before: list[torch.Tensor] = []
        for step in range(steps):
            optimizer.zero_grad()
            loss = mean_loss(model, batches[step % len(batches)])
            loss.backward()  # type: ignore[no-untyped-call]
            if step % len(batches) == 0:
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    break
            for weight in weights:
                if weight.grad is not None:
                    weight.grad.mul_(scale)
            if step == 0:
                before = [weight.detach().clone() for weight in weights]
                size = _norm([w.grad for w in weights if w.grad is not None])
            optimizer.step()
            if step == 0:
                first = _norm([weight.detach() - old for weight, old in zip(weights, before, strict=True)])
        else:
            with torch.no_grad():
                losses.append(float(mean_loss(model, batches[0])))
    return Descent(tuple(losses), first, size)


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return math.sqrt(sum(float(t.double().pow(2).sum()) for t in tensors))
