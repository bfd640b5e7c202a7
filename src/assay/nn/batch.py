"""A batch as tensors on a device, and what the model makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.data.batch import Batch
from assay.nn.hooks import Tap
from assay.nn.masks import to_device
from assay.nn.transformer import Transformer
from assay.spec.masks import Mask


@dataclass(frozen=True, eq=False)
class TensorBatch:
    """`Batch` on a device. Only `targets` positions cost logits; they are listed once, in row-major order."""

    input_ids: Int[Tensor, "b s"]
    mask: Mask
    position_ids: Int[Tensor, "b s"] | Int[Tensor, "b axes s"] | None
    decoder_input_ids: Int[Tensor, "b t"] | None
    decoder_mask: Mask | None
    cross_mask: Mask | None
    decoder_position_ids: Int[Tensor, "b t"] | None
    where: Int[Tensor, " n"]
    """Flat indices, into the output stack's rows, of positions with a target."""
    targets: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> TensorBatch:
    """The batch on a device.

    With one document a row, position ids that only count are left to the model.
    """
    single = batch.single_document
    counted = single and batch.counted
    weights = torch.from_numpy(batch.weights).flatten()
    where = weights.nonzero().squeeze(-1)
    targets = torch.from_numpy(batch.targets).flatten().long()

    def mask(value: Mask | None) -> Mask | None:
        return None if value is None else to_device(value, device)

    def ids(value: object) -> Tensor | None:
        return None if value is None else torch.as_tensor(value, device=device).long()

    own = mask(batch.mask)
    assert own is not None
    return TensorBatch(
        input_ids=torch.as_tensor(batch.input_ids, device=device).long(),
        mask=own,
        position_ids=None if counted else ids(batch.position_ids),
        decoder_input_ids=ids(batch.decoder_input_ids),
        decoder_mask=mask(batch.decoder_mask),
        cross_mask=mask(batch.cross_mask),
        decoder_position_ids=None if single else ids(batch.decoder_position_ids),
        where=where.to(device),
        targets=targets[where].to(device),
        weights=weights[where].to(device),
    )


def hidden_at_targets(model: Transformer, batch: TensorBatch, tap: Tap | None = None) -> Float[Tensor, "n width"]:
    """The output stack's hidden states at the positions that have a target."""
    positions = _for_model(batch.position_ids, model)
    if model.encoder is None:
        out = model.decode(batch.input_ids, batch.mask, position_ids=positions, tap=tap).hidden
    else:
        out = model.encode(batch.input_ids, batch.mask, position_ids=positions, tap=tap).hidden
        if model.decoder is not None:
            assert batch.decoder_input_ids is not None and batch.decoder_mask is not None
            out = model.decode(
                batch.decoder_input_ids, batch.decoder_mask,
                position_ids=_for_model(batch.decoder_position_ids, model),
                memory=out, memory_mask=batch.cross_mask, tap=tap,
            ).hidden  # fmt: skip
    return out.flatten(0, 1).index_select(0, batch.where)


def _for_model(ids: Tensor | None, model: Transformer) -> Tensor | None:
    """Positions in as many rows as the model has: one that counts stands for both, as in the model's own counting."""
    if ids is None or model.spec.positions.axes == 1:
        assert ids is None or ids.dim() == 2, "two rows of positions for a model with one: set objective.axes = 1"
        return ids
    return ids if ids.dim() == 3 else ids[:, None].expand(-1, 2, -1)
