"""One model that computes what several of one description do, each with its own weights, on its own rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.batch import Batch
from assay.nn import assemble
from assay.nn.batch import hidden_at_targets, to_tensors
from assay.nn.loss import head_loss
from assay.nn.transformer import Transformer
from assay.spec.axes import PositionKind
from assay.training.checkpoint import named_weights
from assay.training.step import micro_batches
from assay.training.together.joined import joined
from assay.training.together.layers import layer_of

__all__ = ["Stacked"]

HEAD = "head"
"""What stays each member's own: its rows are as many as its batch has targets."""


class Stacked:
    """Several models as one. Their parameters move into the stacked ones and become slices of them, so that whatever
    changes a member's weights (its optimizer, a checkpoint that is loaded) changes the stack, and the other way round.

    Attributes:
        models: the members, of one description; each is still a model of its own.
    """

    def __init__(self, models: Sequence[Transformer]) -> None:
        """Args: models: two or more, on one device and in one type; `eligible.why_alone` says which cannot be."""
        self.models = list(models)
        named = [dict(model.named_parameters()) for model in models]
        self._all = [parameter for own in named for parameter in own.values()]
        self.model = assemble(models[0].spec, named_weights(models[0])).train(models[0].training)
        for stack, like in ((self.model.encoder, models[0].encoder), (self.model.decoder, models[0].decoder)):
            if stack is not None and like is not None:
                stack.checkpointing = like.checkpointing
        self._parts: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
        for name, module in list(self.model.named_modules()):
            if name.split(".")[0] == HEAD:
                continue
            stacked = {leaf: self._stack([own[f"{name}.{leaf}"] for own in named])
                       for leaf, _ in module.named_parameters(recurse=False)}  # fmt: skip
            made = layer_of(module, stacked)
            if made is not None:
                owner, _, leaf = name.rpartition(".")
                setattr(self.model.get_submodule(owner), leaf, made.train(module.training))
        self._counts = self.model.spec.positions.kind is PositionKind.learned

    def _stack(self, own: list[nn.Parameter]) -> nn.Parameter:
        stacked = nn.Parameter(torch.stack([p.detach() for p in own]))
        for parameter, part in zip(own, stacked.detach().unbind(), strict=True):
            parameter.data = part
        self._parts.append((stacked, own))
        return stacked

    def gradients(
        self, batches: Sequence[Batch], weights: Sequence[float], *, parts: int = 1, z_loss: float = 0.0
    ) -> list[float]:
        """Set every member's gradients to those of its batch's mean loss, as `step.gradients` does for one.

        Args:
            batches: a member's each; equal numbers of rows.
            weights: sum of the target weights of each.
            parts: how many passes.
            z_loss: weight of log^2 Z.

        Returns:
            The losses. What is not finite in one member is so in no other.
        """
        for parameter in self._all:
            parameter.grad = None
        totals: list[Tensor | float] = [0.0] * len(batches)
        for pieces in zip(*(micro_batches(batch, parts) for batch in batches), strict=True):
            losses = self._losses(pieces, weights, z_loss)
            torch.autograd.backward(losses)
            totals = [total + loss.detach() for total, loss in zip(totals, losses, strict=True)]
        self._hand_out()
        return [float(total) for total in totals]

    def _losses(self, pieces: Sequence[Batch], weights: Sequence[float], z_loss: float) -> list[Tensor]:
        whole = joined(pieces)
        if self._counts:  # a table of positions of each member's own: every row says where it looks
            whole = dataclasses.replace(whole, single_document=False)
        tensors = to_tensors(whole, self.models[0].embedding.weight.device)
        counts = [int(np.count_nonzero(piece.weights)) for piece in pieces]
        hidden, targets, shares = (
            x.split(counts) for x in (hidden_at_targets(self.model, tensors), tensors.targets, tensors.weights)
        )
        each = zip(self.models, hidden, targets, shares, weights, strict=True)
        return [head_loss(model, h, t, w, z_loss) / weight for model, h, t, w, weight in each]

    def _hand_out(self) -> None:
        for stacked, own in self._parts:
            if stacked.grad is None:
                continue
            for parameter, part in zip(own, stacked.grad.unbind(), strict=True):
                # What is there came by way of the head: a tied embedding's, as output matrix.
                parameter.grad = part if parameter.grad is None else part.add_(parameter.grad)
            stacked.grad = None
