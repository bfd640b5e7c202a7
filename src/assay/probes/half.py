"""A model in true float16: weights, activations and products, as a forward pass in half precision has them."""

from __future__ import annotations

import copy
import math

from assay.data.batch import Batch
from assay.nn.transformer import Transformer
from assay.probes.activations import Observation, observe

__all__ = ["in_float16", "overflows"]


def in_float16(model: Transformer, batch: Batch) -> Observation:
    """What flows through a float16 copy of the model; the model itself stays as it is.

    Values that no float16 can hold, above 65504, are infinite there, and norms make NaN of them.
    """
    return observe(copy.deepcopy(model).half(), batch, attention=False)


def overflows(seen: Observation) -> list[str]:
    """Hook points with a value that is not finite, in the order of the forward pass."""
    return [name for name, point in seen.points.items() if not math.isfinite(point.maximum)]
