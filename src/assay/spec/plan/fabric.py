"""What joins accelerators, and what share of the data sheet a step reaches: one row a machine, each with its source.

'seen' means read in the source or a quotation of it, 'recalled' from memory, 'assumed' that nobody said so. Every
number can be overridden where it is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from assay.errors import UserError
from assay.spec.cost import Assumption
from assay.spec.hardware import Figure, Hardware, hardware, positive

__all__ = ["DEFAULTS", "FABRICS", "Assumed", "Fabric"]


@dataclass(frozen=True)
class Fabric:
    """How accelerators of one kind are joined, and what their products reach."""

    node: Figure
    """Accelerators behind the fast links of one node (a TPU's pod)."""
    inside: Figure
    """Bytes/s of one accelerator's fast links, one direction."""
    outside: Figure
    """Bytes/s of one accelerator's share of its node's network, one direction."""
    inside_latency: Figure
    """Seconds of one step of a ring over the fast links."""
    outside_latency: Figure
    """Seconds of one step of a ring over the network."""
    matmul_share: Figure
    """Share of the peak that products with weights reach inside a training step."""
    attention_share: Figure
    """Share of the peak that fused attention reaches, by the FLOPs of the pairs that the mask leaves open."""


_NCCL = "NVIDIA nccl, src/graph/tuning.cc at 01afd20: ring, simple protocol (seen)"
_IN, _OUT = Figure(3.4e-6, "s", f"{_NCCL}, over NVLink"), Figure(9.6e-6, "s", f"{_NCCL}, over the network")
_EIGHT = Figure(8, "GPUs", "DGX and HGX boards hold 8 (recalled)")
_FIT = "fitted once to MosaicML llm-foundry's benchmark rows of one node without checkpointing"


def _gpu(inside: tuple[float, str], outside: tuple[float, str], share: tuple[float, float, str]) -> Fabric:
    return Fabric(
        _EIGHT, Figure(inside[0] * 1e9, "bytes/s", inside[1]), Figure(outside[0] * 1e9, "bytes/s", outside[1]),
        _IN, _OUT, Figure(share[0], "of peak", share[2]), Figure(share[1], "of peak", share[2]),
    )  # fmt: skip


def _tpu(node: int, inside: float, source: str, outside: Figure, share: float) -> Fabric:
    hop = Figure(1e-6, "s", "a hop of the torus (assumed)")
    far = Figure(2e-5, "s", "a data centre's network (assumed)")
    return Fabric(
        Figure(node, "chips", source), Figure(inside * 1e9, "bytes/s", source), outside, hop, far,
        Figure(share, "of peak", "as A100 (assumed)"), Figure(0.28, "of peak", "as A100 (assumed)"),
    )  # fmt: skip


_A100 = _gpu(
    (300, "NVIDIA A100 data sheet: NVLink, 600 GB/s both directions (recalled)"),
    (25, "MosaicML llm-foundry, scripts/train/benchmarking/README.md: 1,600 Gb/s between nodes of 8 (seen)"),
    (0.72, 0.28, f"{_FIT}, A100 80 GB (seen)"),
)
_H100 = _gpu(
    (450, "NVIDIA H100 data sheet: NVLink, 900 GB/s both directions (recalled)"),
    (50, "Dubey et al. 2024 (Llama 3), section 3.3.1: 400 Gb/s between GPUs (seen)"),
    (0.56, 0.16, f"{_FIT}, H100 80 GB (seen)"),
)
_CARD = _gpu(
    (16, "PCIe 4.0 x16, half of its 32 GB/s, since cards share a root (assumed)"),
    (1.56, "one 100 Gb/s adapter in a machine of 8 (assumed)"),
    (0.72, 0.28, "as A100 (assumed)"),
)

FABRICS: dict[str, Fabric] = {
    "v100-32gb": _gpu(
        (150, "NVIDIA V100 data sheet: NVLink, 300 GB/s both directions (recalled)"),
        (12.5, "DGX-2: 8 adapters of 100 Gb/s to 16 GPUs, rounded up to one each (assumed)"),
        (0.6, 0.24, "first tensor cores, between A100's and none (assumed)"),
    ),
    "a100-40gb": _A100,
    "a100-80gb": _A100,
    "h100-80gb": _H100,
    "h200": _H100,
    "rtx-3090": _CARD,
    "rtx-4090": _CARD,
    "tpu-v3": _tpu(
        1024, 70, "Jouppi et al. 2020: a pod of 1,024 chips, links of 70 GB/s (recalled)",
        Figure(1.6e9, "bytes/s", "as TPU v4 (assumed)"), 0.72,
    ),
    "tpu-v4": _tpu(
        3072, 100,
        "Chowdhery et al. 2022 (PaLM), section 4: pods of 3,072 chips (seen); two links of 50 GB/s along one axis "
        "(Jouppi et al. 2023, recalled)",
        Figure(81e12 / 8 / 6144, "bytes/s", "Chowdhery et al. 2022 (PaLM), section 4: 81 Tb/s over 6,144 chips (seen)"),
        0.72,
    ),
}  # fmt: skip
"""By `hardware.HARDWARE`'s names."""

DEFAULTS = {
    "element_share": Figure(0.8, "of bandwidth", "what norms, activations and optimizer steps reach (assumed)"),
    "element_passes": Figure(
        8, "passes", "moves of each saved tensor, forward and backward together; fitted with the matmul share"
    ),
    "network_share": Figure(0.78, "of wire speed", f"{_NCCL}: 235 of the A100's 300 GB/s"),
    "overlap": Figure(0.9, "of the shorter", "of the time when both run, compute hides this much traffic (assumed)"),
    "memory_share": Figure(0.92, "of memory", "the rest goes to context, NCCL's buffers and fragments (assumed)"),
    "failure_hours": Figure(
        16384 * 54 * 24 / 419, "GPU-hours",
        "Dubey et al. 2024 (Llama 3), section 3.3.4: 419 unexpected interruptions of 16,384 GPUs in 54 days (seen)",
    ),
    "restart_seconds": Figure(600, "s", "from a failure to the first new step (assumed)"),
    "write_bandwidth": Figure(
        2e12 / 16384, "bytes/s",
        "a GPU's share of storage: Dubey et al. 2024 (Llama 3), section 3.3.1: 2 TB/s sustained, for 16,384 (seen)",
    ),
}  # fmt: skip
"""What is the same for every machine."""

SHARES = {"matmul_share", "attention_share", "element_share", "network_share", "overlap", "memory_share"}
OF_MACHINE = ("peak", "bandwidth", "memory")
OF_FABRIC = ("node", "inside", "outside", "inside_latency", "outside_latency", "matmul_share", "attention_share")


class Assumed:
    """Numbers by name, the user's own before the machine's; what was asked for is written down."""

    def __init__(self, machine: str, given: dict[str, float | None] | None = None) -> None:
        """Args: machine: a name of `hardware.HARDWARE`; given: overrides by name.

        Raises:
            UserError: an unknown machine, or a number that cannot be.
        """
        self.machine: Hardware = hardware(machine)
        self.given = {name: value for name, value in (given or {}).items() if value is not None}
        fabric = FABRICS[self.machine.name]
        figures = {name: getattr(self.machine, name) for name in OF_MACHINE}
        figures |= {name: getattr(fabric, name) for name in OF_FABRIC} | DEFAULTS
        unknown = self.given.keys() - figures.keys()
        assert not unknown, f"no assumptions: {unknown}"
        self.values: dict[str, float] = {}
        self.list: list[Assumption] = []
        for name, figure in figures.items():
            option, own = f"--{name.replace('_', '-')}", name in self.given
            value = positive(option, self.given.get(name, figure.value), most=1.0 if name in SHARES else math.inf)
            if name == "node" and value != int(value):
                raise UserError(f"{option} = {value:g}: accelerators are whole.", "Give a whole number.")
            self.values[name] = value
            self.list.append(Assumption(name, value, figure.unit, "your own" if own else figure.source, own))

    def __call__(self, name: str) -> float:
        """The value of that name."""
        return self.values[name]
