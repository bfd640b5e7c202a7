"""What a plan refuses, with what would work."""

from __future__ import annotations

import math

from assay.errors import UserError
from assay.spec.axes import Family
from assay.spec.cost import Assumption
from assay.spec.model import ModelSpec
from assay.spec.plan.estimate import Estimate
from assay.spec.plan.layout import Fixed, divisors
from assay.spec.plan.work import Workload

__all__ = ["batch", "check", "does_not_fit"]

USUAL = 2**22
"""Tokens of a step where none are said: Touvron et al. 2023 (LLaMA), table 2 (seen)."""


def check(spec: ModelSpec, gpus: int, fixed: Fixed, node: int) -> None:
    """Refuse what no layout can be.

    Raises:
        UserError: with the option, its value and what would work.
    """
    if gpus < 1:
        raise UserError(f"--gpus {gpus}: at least one is needed.", "Give 1 or more.")
    for name in ("replicate", "shard", "tensor", "pipeline", "micro"):
        value = getattr(fixed, name)
        if value is None:
            continue
        if value < 1:
            raise UserError(f"--{name} {value}: is below 1.", "Give 1 or more.")
        if name != "micro" and gpus % value:
            fit = ", ".join(map(str, divisors(gpus)))
            raise UserError(f"--{name} {value}: does not divide {gpus} GPUs.", f"Give one of {fit}.")
    tensor, pipeline = fixed.tensor or 1, fixed.pipeline or 1
    said = {name: value for name in ("replicate", "shard", "tensor", "pipeline") if (value := getattr(fixed, name))}
    product = math.prod(said.values())
    if gpus % product or (len(said) == 4 and product != gpus):
        parts = " x ".join(f"--{name} {value}" for name, value in said.items())
        raise UserError(f"{parts} = {product}: does not divide {gpus} GPUs.", "Leave one of them out.")
    if tensor > node:
        raise UserError(
            f"--tensor {tensor}: tensor parallelism needs the fast links of one node, which join {node}.",
            f"Give at most {node}, or --node for larger nodes.",
        )
    for stack in spec.stacks:
        for what, size in (("heads", spec.heads(stack)), ("feed-forward width", spec.feedforward_width(stack))):
            if size % tensor:
                fit = ", ".join(str(d) for d in divisors(size) if d <= node)
                raise UserError(f"--tensor {tensor}: does not divide the {what} of {size}.", f"Give one of {fit}.")
    if pipeline > 1 and spec.family is Family.encoder_decoder:
        raise UserError(
            f"--pipeline {pipeline}: is not modelled for an encoder-decoder, whose decoder waits for all of the "
            "encoder.", "Leave it out.",
        )  # fmt: skip
    depth = spec.depth(spec.output_stack)
    if pipeline > depth:
        raise UserError(f"--pipeline {pipeline}: the model has {depth} layers.", f"Give at most {depth}.")


def batch(work: Workload, gpus: int, tokens: int | None, fixed: Fixed) -> tuple[int, Assumption]:
    """Sequences of a step, and where that is from.

    Raises:
        UserError: a batch that sequences or data-parallel ranks do not divide.
    """
    # What is fixed multiplies to the fewest data-parallel ranks that a layout can have.
    least = gpus // math.gcd(gpus, (fixed.tensor or gpus) * (fixed.pipeline or gpus))
    if fixed.tensor and fixed.pipeline:
        least = gpus // fixed.tensor // fixed.pipeline
    least = max(least, (fixed.replicate or 1) * (fixed.shard or 1))
    step = least * (fixed.micro or 1)
    if tokens is None:
        usual = max(round(USUAL / work.tokens), 1)
        ideal = gpus * (fixed.micro or 1)
        if fixed.tensor or fixed.pipeline:
            ideal = step
        sequences = max(round(usual / ideal), 1) * ideal if ideal <= 2 * usual else -(-usual // step) * step
        source = "about LLaMA's 4 million (Touvron et al. 2023, table 2, seen), so that ranks divide it"
        return sequences, Assumption("batch_tokens", sequences * work.tokens, "tokens", source)
    if tokens < 1 or tokens % work.tokens:
        near = sorted({max(tokens // work.tokens, 1) * work.tokens, (max(tokens, 0) // work.tokens + 1) * work.tokens})
        raise UserError(
            f"--batch-tokens {tokens}: is no whole number of sequences of {work.tokens} tokens.",
            f"Give {' or '.join(map(str, near))}, or another --length.",
        )
    sequences = tokens // work.tokens
    if gpus <= sequences and not (fixed.tensor or fixed.pipeline):
        least, step = gpus, gpus * (fixed.micro or 1)  # else cutting the model instead would be needed, unasked
    if sequences % step:
        near = sorted({max(sequences // step, 1) * step * work.tokens, (sequences // step + 1) * step * work.tokens})
        raise UserError(
            f"--batch-tokens {tokens}: {sequences} sequences of {work.tokens} tokens cannot be shared out evenly "
            f"among {least} data-parallel ranks" + (f" in micro-batches of {fixed.micro}." if fixed.micro else "."),
            f"Give {' or '.join(map(str, near))}, or another --gpus.",
        )
    return sequences, Assumption("batch_tokens", tokens, "tokens", "your own", True)


def does_not_fit(work: Workload, least: Estimate, room: float, enough: int | None, machine: str) -> UserError:
    """The error that says how far the best layout is from fitting, and what would fit."""
    memory, layout = least.memory, least.layout
    parts = ", ".join(
        f"{name} {value / 1e9:.3g}" for name, value in vars(memory).items() if value >= memory.total / 100
    )
    message = (
        f"{work.spec.name or 'The model'} does not fit on {layout.gpus} x {machine}: the smallest layout ({layout}) "
        f"needs {memory.total / 1e9:.4g} GB a GPU ({parts}), and {room / 1e9:.3g} GB may be filled."
    )
    if enough is not None:
        return UserError(message, f"Give --gpus {enough}, or --hardware with more memory.")
    return UserError(
        message, "No number of GPUs up to 131,072 helps: give a shorter --length, or --hardware with more memory."
    )
