"""Before the first step: compile where it is wanted and works, and measure the memory of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from assay.data.batch import Batch
from assay.nn.compiling import compile_blocks
from assay.nn.transformer import Transformer
from assay.spec.study import RunSpec
from assay.training.memory import optimizer_bytes, peak_bytes, tensor_bytes
from assay.training.record import Counters
from assay.training.setup import wants_compiling
from assay.training.step import gradients, micro_batches

if TYPE_CHECKING:
    from assay.training.parallel.team import Team

__all__ = ["make_ready"]


def make_ready(
    at: Counters,
    run: RunSpec,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    total: float,
    dtype: str,
    device: str,
    team: Team | None = None,
) -> bool:
    """Compile, and measure a step's memory by a pass whose gradients are thrown away; `at` keeps both.

    Args:
        at: what was decided and measured before is not decided and measured again.
        run: what is done.
        model, optimizer: of the run, on `device`.
        batch: one to try, of which the first part is taken.
        total: training FLOPs of the whole run, nearly.
        dtype: of the arithmetic.
        device: where it happens.
        team: the ranks that share the run.

    Returns:
        Whether compiling failed, so that blocks run as they are; `at.compiled` says why.
    """

    train = run.train

    def compiling() -> str | None:
        return compile_blocks(model) if team is None else team.compile()

    def trial() -> None:
        part = next(micro_batches(batch, train.accumulation))
        gradients(model, part, weight=1.0, parts=1, z_loss=train.z_loss, dtype=dtype, team=team)
        optimizer.zero_grad(set_to_none=True)

    failed = False
    if not at.compiled:
        wanted = wants_compiling(run, total, device)
        at.compiled = str(wanted) if wanted is not True else (compiling() or "yes")
    elif at.compiled == "yes":
        compiling()
    if at.compiled == "yes":
        try:
            trial()
        except Exception as error:  # whatever the compiler stumbles over, eager does the same work
            failed, at.compiled = True, f"compiling failed: {_first_line(error)}"
            for module in model.modules():
                module._compiled_call_impl = None  # what Module.compile sets
            if team is not None:
                team.eager()
    if not at.peak_bytes:
        parameters = list((model if team is None else team.shards).parameters())
        moments = optimizer_bytes(parameters)
        held = moments if device.startswith("cuda") else moments + tensor_bytes(parameters)
        at.peak_bytes = peak_bytes(trial, held=held, device=device) or 0
    return failed


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
