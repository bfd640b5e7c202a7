"""The plan's step time held against published runs: with their layout where they gave it, the machine's defaults else.

Compared is tokens a second on a GPU, which needs no convention for FLOPs. Nothing is fitted to these runs: what is
fitted (`fabric.py`) comes from llm-foundry's rows of one node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from assay.spec.model import ModelSpec
from assay.spec.plan.estimate import Estimate, estimate
from assay.spec.plan.fabric import Assumed
from assay.spec.plan.layout import Layout
from assay.spec.plan.work import workload
from assay.spec.published import preset

__all__ = ["Compared", "Run", "compare", "runs"]

GPT: dict[str, Any] = {
    "norm": {"kind": "layernorm"}, "placement": "pre", "positions": "learned",
    "attention": {"qkv_bias": True, "out_bias": True},
    "feedforward": {"activation": "gelu_tanh", "gated": False, "bias": True}, "head": {"tied": True},
}  # fmt: skip
"""GPT-3's architecture, which Megatron's own models share."""
MPT: dict[str, Any] = {
    **GPT, "norm": {"kind": "layernorm", "bias": False}, "positions": "alibi", "vocab_size": 50368, "context": 65536,
    "attention": {}, "feedforward": {"activation": "gelu", "gated": False},
}  # fmt: skip
"""MosaicML's MPT."""


def _sized(base: dict[str, Any], width: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    attention = {**base["attention"], "heads": heads}
    return {**base, "width": width, "layers": layers, "attention": attention, **more}


OWN = {
    "mt-nlg-530b": _sized(GPT, 20480, 105, 128, vocab_size=50304, context=2048),
    "mpt-7b": _sized(MPT, 4096, 32, 32),
    "mpt-13b": _sized(MPT, 5120, 40, 40),
    "mpt-30b": _sized(MPT, 7168, 48, 56),
    "mpt-70b": _sized(MPT, 8192, 80, 64),
}
"""Models that are no presets."""


@dataclass(frozen=True)
class Run:
    """One published run: where, how laid out, how fast."""

    model: str
    machine: str
    layout: Layout
    sequences: int
    """Of a step."""
    length: int
    published: float
    """Tokens a second on one GPU."""
    said: str
    """How that was reported."""
    source: str
    laid_out: str = "published"
    """Whether the layout was published, or what of it is assumed."""
    given: dict[str, float] = field(default_factory=dict)
    """Numbers of its own machine, where they were published."""
    reduce_dtype: str = "float32"


def _per_gpu(step_seconds: float, tokens: int, gpus: int) -> float:
    return tokens / step_seconds / gpus


_FOUNDRY = "MosaicML llm-foundry, scripts/train/benchmarking/README.md (seen)"
_TITAN = "torchtitan, benchmarks/llama3_h100_202412_torchtitan.md, tables 1 and 3 (seen); 500 W H100s"
_LLAMA3 = "Dubey et al. 2024 (Llama 3), section 3.3.2, table 4 (seen)"
_MT = "Smith et al. 2022 (MT-NLG), sections 2.3 and 2.4, as quoted by llm-analysis's example (seen)"


def _mpt(
    size: str, machine: str, gpus: int, micro: int, turns: int, checkpointing: bool, tokens: float, pure: bool
) -> Run:
    layout = Layout(shard=gpus, micro=micro, checkpointing=checkpointing)
    return Run(
        f"mpt-{size}", machine, layout, gpus * micro * turns, 2048, tokens, f"{tokens:g} tokens/s on a GPU", _FOUNDRY,
        reduce_dtype="bfloat16" if pure else "float32",
    )  # fmt: skip


def _mt_nlg(copies: int, seconds: float) -> Run:
    gpus = 280 * copies
    return Run(
        "mt-nlg-530b", "a100-80gb",
        Layout(replicate=copies, tensor=8, pipeline=35, micro=1, full=False, checkpointing=True), 1920, 2048,
        _per_gpu(seconds, 1920 * 2048, gpus), f"{seconds:g} s a step", _MT,
        "published but for the micro-batch (1 assumed)",
    )  # fmt: skip


def _llama3(copies: int, tera: float) -> Run:
    spec = preset("llama3.1-405b")
    per_token = 6 * int(spec.parameters())
    layout = Layout(shard=copies, tensor=8, pipeline=16, interleave=8, micro=1, full=False)
    return Run(
        "llama3.1-405b", "h100-80gb", layout, 2048, 8192, tera * 1e12 / per_token, f"{tera:g} TFLOP/s on a GPU",
        _LLAMA3,
        "published but for micro-batch 1, interleaving by single layers and no recomputation (assumed); FLOPs as 6 N",
    )  # fmt: skip


def _titan(gpus: int, tokens: float) -> Run:
    return Run(
        "llama3.1-8b", "h100-80gb", Layout(shard=gpus, micro=2), 2 * gpus, 8192, tokens,
        f"{tokens:g} tokens/s on a GPU, compiled", _TITAN, "published; selective checkpointing is counted as none",
        {"bandwidth": 2.4e12, "memory": 96e9},
    )  # fmt: skip


def runs() -> tuple[Run, ...]:
    """Every run, large ones first."""
    glm = 0.325 * 312e12 / (workload(preset("glm-130b"), length=2048).training_flops / 2048)
    return (
        Run(
            "palm-540b", "tpu-v4", Layout(replicate=2, shard=256, tensor=12, micro=4, checkpointing=True), 2048, 2048,
            238.3e3 / 6144, "238.3 thousand tokens/s, 46.2% MFU",
            "Chowdhery et al. 2022 (PaLM), sections 4 and 4.1 (seen)",
        ),
        Run(
            "llama-65b",
            "a100-80gb",
            Layout(replicate=4, shard=256, tensor=2, micro=2),
            2048,
            2048,
            380,
            "380 tokens/s on a GPU",
            "Touvron et al. 2023 (LLaMA), section 2.4 and table 2 (seen)",
            "published as 'model and sequence parallelism' with few activations computed again; all numbers assumed",
        ),
        Run(
            "bloom-176b", "a100-80gb",
            Layout(shard=8, tensor=4, pipeline=12, micro=2, full=False, checkpointing=True), 2048, 2048,
            _per_gpu(105, 2048 * 2048, 384), "105 s a step, about 150 TFLOP/s with recomputation",
            "BigScience, train/tr11-176B-ml/README.md (seen)", given={"outside": 4 * 12.5e9 / 8},
        ),
        Run(
            "glm-130b", "a100-40gb",
            Layout(shard=24, tensor=4, pipeline=8, micro=1, full=False, checkpointing=True), 4224, 2048,
            glm, "32.5% MFU", "Zeng et al. 2022 (GLM-130B), section 2.3 (seen)",
            "published but for the micro-batch (1 assumed)",
        ),
        *(_mt_nlg(copies, seconds) for copies, seconds in ((8, 60.1), (10, 50.2), (12, 44.4))),
        *(_llama3(copies, tera) for copies, tera in ((64, 430), (128, 400))),
        *(_titan(gpus, tokens) for gpus, tokens in ((8, 6667), (128, 6514))),
        _mpt("70b", "a100-80gb", 64, 8, 4, True, 410, True),
        _mpt("70b", "a100-40gb", 128, 4, 1, True, 376, True),
        _mpt("70b", "a100-40gb", 64, 2, 1, True, 276, True),
        _mpt("30b", "a100-40gb", 128, 6, 1, True, 865, True),
        _mpt("13b", "a100-40gb", 128, 16, 1, True, 1972, True),
        _mpt("7b", "a100-40gb", 128, 18, 1, True, 3623, True),
        _mpt("70b", "h100-80gb", 64, 8, 4, True, 1039, False),
        _mpt("30b", "h100-80gb", 32, 14, 3, True, 2308, False),
        _mpt("13b", "h100-80gb", 64, 2, 1, False, 4800, False),
    )  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A run beside its estimate."""

    run: Run
    found: Estimate
    parameters: int

    @property
    def estimate(self) -> float:
        """Tokens a second on one GPU."""
        return self.found.tokens_per_second / self.run.layout.gpus

    @property
    def published_mfu(self) -> float:
        """The published speed as this package counts FLOPs (attention over visible pairs)."""
        return self.found.mfu * self.run.published / self.estimate

    @property
    def deviation(self) -> float:
        """Estimate over published, minus 1."""
        return self.estimate / self.run.published - 1


def compare() -> list[Compared]:
    """Every published run beside its estimate."""
    return [_compared(run) for run in runs()]


def _compared(run: Run) -> Compared:
    spec = ModelSpec.from_dict({"name": run.model, **OWN[run.model]}) if run.model in OWN else preset(run.model)
    work = workload(spec, length=run.length, reduce_dtype=run.reduce_dtype)
    found = estimate(work, run.layout, run.sequences, Assumed(run.machine, dict(run.given)))
    return Compared(run, found, int(spec.parameters()))
