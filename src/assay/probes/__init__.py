"""Instruments that look at any model through its hook points and leave it as it was.

    observe(model, batch)            activations, attention, signal by layer             activations.py
    gradient_norms(model, batch)     of the batch's mean gradient, and of its examples   gradients.py
    function_update(model, batch, step)     how far the function moves in a step         updates.py
    sharpness(model, batch)          the largest eigenvalue of the loss's Hessian        curvature.py
    spikes(losses)                   excursions of a loss, by a stated rule              spiking.py
    stability(model, batch, step)    the first three in one table, a row a layer         layers.py
    quadratic.py                     where gradient descent's thresholds are exact

What needs a training step is handed one as a function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.probes.activations import Observation as Observation
    from assay.probes.activations import observe as observe
    from assay.probes.curvature import Spectrum as Spectrum
    from assay.probes.curvature import sharpness as sharpness
    from assay.probes.gradients import GradientNorms as GradientNorms
    from assay.probes.gradients import gradient_norms as gradient_norms
    from assay.probes.layers import LayerRow as LayerRow
    from assay.probes.layers import Stability as Stability
    from assay.probes.layers import stability as stability
    from assay.probes.spiking import Spike as Spike
    from assay.probes.spiking import SpikeRule as SpikeRule
    from assay.probes.spiking import spikes as spikes
    from assay.probes.updates import FunctionUpdate as FunctionUpdate
    from assay.probes.updates import function_update as function_update

_WHERE = {
    "FunctionUpdate": "updates",
    "GradientNorms": "gradients",
    "LayerRow": "layers",
    "Observation": "activations",
    "Spectrum": "curvature",
    "Spike": "spiking",
    "SpikeRule": "spiking",
    "Stability": "layers",
    "function_update": "updates",
    "gradient_norms": "gradients",
    "observe": "activations",
    "sharpness": "curvature",
    "spikes": "spiking",
    "stability": "layers",
}
"""Public name to its module: torch loads when an instrument is asked for."""

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
