"""What is decided and checked before the first step. Without torch, so that a study can check all runs first."""

from __future__ import annotations

import math

from assay.data.batch import Batch
from assay.data.loader import Loader
from assay.data.shards import tokenize
from assay.data.windows import Window, window_lengths
from assay.errors import UserError
from assay.objectives.base import Lengths
from assay.objectives.registry import make
from assay.spec.axes import Family, PositionKind
from assay.spec.study import RunSpec
from assay.training.accounting import BatchCount, FlopMeter
from assay.training.text import Text

__all__ = [
    "CURVE_WINDOWS",
    "check",
    "curve_windows",
    "default_dtype",
    "first_count",
    "make_loader",
    "masked_rows",
    "pick_device",
    "refuse_uncontinued",
    "wants_compiling",
]

CURVE_WINDOWS = 32
"""Held-out windows that an evaluation takes at most: about 16 kB of continuations, the same in every run.

So the default study spends about 6% of its time on six evaluations. Between two models the loss on one window
differs with a standard deviation of 0.05 bits per byte: 32 of them tell differences to 0.01.
"""

COMPILE_FROM = 2e13
"""Training FLOPs from which compiling earns back on a CPU what it costs: half a minute on one thread."""

COMPILE_TO = 256
"""Width up to which it does: wider blocks are as quick as they stand, or quicker, through C kernels (`docs/log.md`)."""


def make_loader(run: RunSpec, text: Text, *, rank: int = 0, ranks: int = 1) -> Loader:
    """The batches of a run, or one rank's rows of each.

    Raises:
        UserError: the objective is not for this family, or nothing fits the lengths.
    """
    objective = make(
        run.objective, run.model.family.value, text.tokenizer.vocabulary, axes=run.model.positions.axes
    )  # fmt: skip
    return Loader(
        text.train,
        objective,
        batch_size=run.train.batch_size,
        length=run.train.length,
        decoder_length=run.train.decoder_length,
        seed=run.seed,
        rank=rank,
        ranks=ranks,
    )


def curve_windows(text: Text) -> list[Window]:
    """The held-out windows of every evaluation. Raises UserError where the text has none."""
    return text.windows(CURVE_WINDOWS)


def masked_rows(run: RunSpec, text: Text, loader: Loader) -> list[Batch]:
    """The held-out rows of an encoder's every evaluation. Raises UserError where the text has none."""
    from assay.evaluation.masked import masked_batches

    heldout = tokenize(text.heldout, text.tokenizer)
    return masked_batches(heldout, loader.objective, run.train.length)


def refuse_uncontinued(run: RunSpec) -> None:
    """Refuse, where models are compared by continuation bits per byte, one that has none.

    Raises:
        UserError: the family is encoder.
    """
    if run.model.family is Family.encoder:
        raise UserError(
            "family = encoder: it does not continue text, so it has no continuation bits per byte, and its own measure "
            "(nats a masked token) cannot be compared with them.",
            "Take causal, prefix or encoder_decoder; `assay train` trains an encoder by itself.",
        )


def first_count(loader: Loader, meter: FlopMeter) -> BatchCount:
    """What the run's first batch costs."""
    return meter.count(loader.batch(0, 0))


def check(run: RunSpec, text: Text, windows: list[Window], first: BatchCount) -> float:
    """Refuse what cannot work.

    Returns:
        Training FLOPs of the whole run, nearly.

    Raises:
        UserError: the budget does not reach for one step, or rows are longer than the model's positions.
    """
    train, model = run.train, run.model
    if train.budget is not None and train.budget < first.flops:
        least = math.ceil(first.flops / 10 ** (digits := math.floor(math.log10(first.flops)) - 1)) * 10**digits
        raise UserError(
            f"budget = {train.budget:g} FLOPs: one step of {train.batch_size} rows of {train.length} tokens "
            f"takes {first.flops:.3g}.",
            f"Give budget = {least:g} or more, or a smaller batch_size or length.",
        )
    if model.positions.kind is PositionKind.learned:
        lengths = window_lengths(windows, model.family.value, text.tokenizer.vocabulary) if windows else Lengths(0)
        needed = max(lengths.inputs, lengths.decoder or 0)
        for what, length in (("training rows", max(train.length, train.decoder_length or 0)), ("windows", needed)):
            if length > model.context:
                raise UserError(
                    f"context = {model.context}: {what} have {length} tokens, and learned positions end there.",
                    f"Give context = {length} or more, or other positions.",
                )
    return train.budget if train.budget is not None else first.flops * (train.steps or 1)


def pick_device() -> str:
    """An accelerator where there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> str:
    """bfloat16 on an accelerator, float32 on a CPU."""
    return "bfloat16" if device.startswith("cuda") else "float32"


def wants_compiling(run: RunSpec, flops: float, device: str) -> bool | str:
    """True, or why a run of so many training FLOPs stays eager. By the description alone: equal runs decide alike."""
    if run.train.compile is not None:
        return run.train.compile or "compile = false"
    if device.startswith("cuda"):
        return True
    if run.model.width > COMPILE_TO:
        return f"width = {run.model.width}: on a CPU, blocks wider than {COMPILE_TO} gain nothing by compiling"
    if flops >= COMPILE_FROM:
        return True
    return f"{flops:.2g} FLOPs are too few to earn back compiling (from {COMPILE_FROM:.0g})"
