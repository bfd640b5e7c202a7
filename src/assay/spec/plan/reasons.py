"""Why a layout was chosen, in sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from assay.spec.axes import Family
from assay.spec.plan.estimate import Estimate
from assay.spec.plan.work import Workload

__all__ = ["notes", "reasons"]

SAID = {
    "data_traffic": "gathering weights and adding up gradients",
    "tensor_traffic": "adding up activations over tensor-parallel ranks",
    "idle": "waiting in the pipeline",
    "recomputation": "computing activations again",
    "elements": "norms, activations and other work that waits for memory",
    "optimizer": "the optimizer's step",
}
MUCH = 0.05
"""Parts of a step worth a sentence."""


def _giga(size: float) -> str:
    return f"{size / 1e12:.3g} TB" if size >= 1e12 else f"{size / 1e9:.3g} GB"


def reasons(work: Workload, chosen: Estimate, bests: Sequence[Estimate], room: float, sequences: int) -> list[str]:
    """Sentences: why it is cut as it is, what takes the time, what else was near."""
    layout, said = chosen.layout, []
    whole = memory_of_one(work)
    if layout.gpus > 1:
        if whole > room:
            said.append(
                f"Weights, gradients and optimizer take {_giga(whole)}, and a GPU has room for {_giga(room)}: they "
                f"are cut into {layout.shard * layout.tensor * layout.pipeline}."
            )
        elif layout.shard == layout.tensor == layout.pipeline == 1:
            said.append(f"Weights, gradients and optimizer take {_giga(whole)} and fit on one GPU: each has a copy.")
        else:
            said.append(
                f"Weights, gradients and optimizer take {_giga(whole)}, which one GPU could hold; cut up they leave "
                "room for larger micro-batches."
            )
    if layout.replicate > 1 and layout.shard > 1:
        said.append(
            f"Weights are gathered over {layout.shard} ranks and not over all {layout.data}: rings are shorter, and "
            "what crosses between copies is gradients alone."
        )
    if layout.checkpointing:
        said.append("Without checkpointing activations do not fit, or leave too small a micro-batch.")
    if not layout.trainable:
        said.append(_why_not_data_alone(chosen, bests, sequences))
    total = chosen.seconds
    for name, words in SAID.items():
        share = getattr(chosen.time, name) / total
        if share >= MUCH:
            said.append(f"{100 * share:.0f}% of a step goes into {words}.")
    faster = [one for one in bests if one.fits and one.seconds < total * (1 - MUCH)]
    if faster:
        best = min(faster, key=lambda one: one.seconds)
        said.append(
            f"Faster by {100 * (total / best.seconds - 1):.0f}% would be {best.layout.kind} ({best.layout}), which is "
            "modelled here and not trained by assay."
        )
    return said


def memory_of_one(work: Workload) -> float:
    """Bytes of weights, gradients and Adam's moments of the whole model, in one place."""
    return 4.0 * work.rest * int(work.spec.parameters())


def _why_not_data_alone(chosen: Estimate, bests: Sequence[Estimate], sequences: int) -> str:
    alone = [one for one in bests if one.layout.trainable]
    if not alone:
        return (
            f"A step has {sequences} sequences, so at most {sequences} ranks can see different ones; tensor or "
            "pipeline parallelism occupies the rest. assay models these and does not train them."
        )
    least = min(alone, key=lambda one: one.memory.total)
    return (
        f"Data parallelism alone needs {_giga(least.memory.total)} a GPU at the least ({least.layout}). Tensor and "
        "pipeline parallelism are modelled here; assay does not train them."
    )


def notes(work: Workload, chosen: Estimate, batch_tokens: int, critical: float) -> list[str]:
    """What the numbers leave out, and what to beware of."""
    said = [
        "Not modelled: launching kernels (small models on many GPUs are slower), stragglers, loading data, "
        "evaluation; attention's own reading of a sequence cut over ranks (context parallelism)."
    ]
    if batch_tokens > critical:
        said.append(
            f"A batch of {batch_tokens / 1e6:.3g} M tokens is above the critical batch of about {critical / 1e6:.2g} M "
            "tokens (Kaplan et al. 2020, equation 1.4): more tokens will be needed for the same loss."
        )
    if chosen.layout.tensor > 1:
        said.append("Tensor parallelism is taken with sequence parallelism: activations are cut over its ranks too.")
    if work.spec.family is Family.encoder_decoder:
        said.append("Blocks of encoder and decoder are averaged.")
    if work.spec.feedforward.experts is not None:
        said.append("Experts are gathered like all weights; expert parallelism is not modelled.")
    return said
