"""A forked process that runs assay's command line, as a shell would, with a fault in its way where one is asked for.

Patches: "keep" deletes no checkpoint; "nan:PLACE,PLACE" makes the loss and gradients of these batches NaN; "dropout"
draws other dropout than the run without a patch.
"""

from __future__ import annotations

import math
import signal
import sys
from typing import Any

from assay.training import step


def main(arguments: list[str]) -> int:
    """Run `assay ARGUMENTS`; the exit status."""
    import torch

    from assay.cli.main import main as command

    patch, *rest = arguments
    _patch(*patch.partition(":")[::2])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the process that it was forked from ignores it
    torch.set_num_threads(1)
    try:
        command(rest)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _patch(name: str, value: str) -> None:
    if name == "keep":
        from assay.runs import RunFolder

        RunFolder.keep_checkpoints = lambda self, last: None  # type: ignore[method-assign]
    elif name == "dropout":
        from assay.training import loop

        loop.seed_dropout = lambda seed, number, *rank: step.seed_dropout(seed + 1, number, *rank)
    elif name == "nan":
        places, real = {int(place) for place in value.split(",")}, step.gradients

        def gradients(model: Any, batch: Any, **fields: Any) -> float:
            found = real(model, batch, **fields)
            if batch.step not in places:
                return found
            for parameter in model.parameters():
                parameter.grad *= math.nan
            return found * math.nan

        step.gradients = gradients
