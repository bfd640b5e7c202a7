"""Machines that cost estimates can be made for: data sheets' numbers, each with where it is from.

'seen' means read in the source or a quotation of it, 'recalled' from memory; every number can be overridden where it
is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from assay.errors import UserError, did_you_mean

__all__ = ["HARDWARE", "Figure", "Hardware", "hardware"]


@dataclass(frozen=True)
class Figure:
    """One number with its unit and source."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Hardware:
    """One accelerator (a chip, where boards hold several)."""

    name: str
    title: str
    peak: Figure
    """FLOP/s of dense 16-bit matrix products, without sparsity."""
    bandwidth: Figure
    """Bytes per second of its memory."""
    memory: Figure
    """Bytes."""
    power: Figure
    """Watts while it trains."""
    price: Figure
    """Dollars an hour."""
    utilisation: Figure
    """Share of the peak that training reaches, counting the model's own FLOPs (no recomputation)."""


_LLAMA = "Touvron et al. 2023 (LLaMA), table 15: board power of 400 W (recalled; gives their 449 MWh)"
_TRAINED = (
    "between GLM-130B's 0.325 (Zeng et al. 2022, section 2.3, recalled) and LLaMA-65B's 0.48 (380 tokens/s on a GPU: "
    "Touvron et al. 2023, section 2.4, seen)"
)
_H = "Dubey et al. 2024 (Llama 3), table 4: 38% to 43% (recalled)"
_LIST = "list price of a cloud, 2023 (recalled); prices move: give your own"


def _made(
    name: str,
    title: str,
    tera: float,
    gigabytes_per_second: float,
    gigabytes: float,
    sheet: str,
    power: tuple[float, str],
    price: tuple[float, str],
    utilisation: tuple[float, str],
) -> Hardware:
    return Hardware(
        name,
        title,
        Figure(tera * 1e12, "FLOP/s", sheet),
        Figure(gigabytes_per_second * 1e9, "bytes/s", sheet),
        Figure(gigabytes * 1e9, "bytes", sheet),
        Figure(power[0], "W", power[1]),
        Figure(price[0], "$/h", price[1]),
        Figure(utilisation[0], "of peak", utilisation[1]),
    )


_V = "NVIDIA V100 data sheet (recalled)"
_A = "NVIDIA A100 data sheet (recalled)"
_T = "Jouppi et al. 2023 (TPU v4), table 4 (recalled)"
_OWN = "data sheet: board power (recalled)"

HARDWARE: dict[str, Hardware] = {
    machine.name: machine
    for machine in (
        _made(
            "v100-32gb", "NVIDIA V100 SXM2 32 GB", 125, 900, 32, _V,
            (330, "Patterson et al. 2021, table 4: average system power per processor (recalled; gives the 1,287 MWh)"),
            (1.5, "Li 2020 (Lambda): the lowest reserved price then"),
            (0.197, "Patterson et al. 2021, table 4: 24.6 TFLOP/s measured training GPT-3 (recalled)"),
        ),
        _made("a100-40gb", "NVIDIA A100 SXM 40 GB", 312, 1555, 40, _A, (400, _LLAMA), (1.5, _LIST), (0.40, _TRAINED)),
        _made("a100-80gb", "NVIDIA A100 SXM 80 GB", 312, 2039, 80, _A, (400, _LLAMA), (1.8, _LIST), (0.40, _TRAINED)),
        _made(
            "h100-80gb", "NVIDIA H100 SXM 80 GB", 989.4, 3350, 80,
            "NVIDIA H100 data sheet, without sparsity (recalled)",
            (700, _OWN), (2.0, "DeepSeek-AI 2024 (V3), table 1: 2 dollars an H800 hour (recalled)"), (0.40, _H),
        ),
        _made(
            "h200", "NVIDIA H200 SXM 141 GB", 989.4, 4800, 141, "NVIDIA H200 data sheet, without sparsity (recalled)",
            (700, _OWN), (2.5, _LIST), (0.40, _H),
        ),
        _made(
            "rtx-3090", "NVIDIA RTX 3090 24 GB", 71, 936, 24,
            "NVIDIA GA102 paper: 16-bit products summed in float32 (recalled)",
            (350, _OWN), (0.3, _LIST), (0.40, "as A100; not measured"),
        ),
        _made(
            "rtx-4090", "NVIDIA RTX 4090 24 GB", 165.2, 1008, 24,
            "NVIDIA Ada paper: 16-bit products summed in float32 (recalled)", (450, _OWN), (0.5, _LIST),
            (0.40, "as A100; not measured"),
        ),
        _made(
            "tpu-v3", "Google TPU v3 chip", 123, 900, 32, "Jouppi et al. 2020 (recalled)",
            (283, "Patterson et al. 2021, table 4: average system power per chip (recalled)"),
            (2.0, "Google Cloud's list price of 8 dollars for a board of 4 (recalled)"),
            (0.37, "Patterson et al. 2021, table 4: T5-11B at 45.6 TFLOP/s (recalled)"),
        ),
        _made(
            "tpu-v4", "Google TPU v4 chip", 275, 1228, 32, _T,
            (378.5, "Chowdhery et al. 2022 (PaLM), appendix B; derived from 271.43 t: 8.405e6 chip-hours, PUE 1.08"),
            (3.22, "Google Cloud's list price on demand, 2022 (recalled)"),
            (0.462, "Chowdhery et al. 2022 (PaLM), section 4.1: 46.2% with attention (seen)"),
        ),
    )
}  # fmt: skip
"""Every machine by name."""

_ALIASES = {"v100": "v100-32gb", "a100": "a100-80gb", "h100": "h100-80gb", "3090": "rtx-3090", "4090": "rtx-4090"}


def hardware(name: str) -> Hardware:
    """The machine of that name; case, underscores and shorter names are understood.

    Raises:
        UserError: no such machine, with the nearest names.
    """
    key = "-".join(name.lower().replace("_", "-").split())
    key = _ALIASES.get(key, key)
    if key not in HARDWARE:
        hint = did_you_mean(key, [*HARDWARE, *_ALIASES])
        raise UserError(
            f"--hardware {name}: no data of that machine.",
            f"{hint} For another, give the nearest and override --peak, --bandwidth, --memory, --power and --price.",
        )
    return HARDWARE[key]


def positive(name: str, value: float, *, most: float = math.inf) -> float:
    """The value, if it is a positive number not above `most`.

    Raises:
        UserError: it is not.
    """
    if not 0 < value <= most or not math.isfinite(value):
        top = f" and at most {most:g}" if math.isfinite(most) else ""
        raise UserError(f"{name} = {value:g}: it is above 0{top}.", "Give a positive number.")
    return value
