"""`assay tensorboard`: runs that are there already, as TensorBoard's events."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.main import examples

EXAMPLES = examples(
    "assay tensorboard runs/first",
    "# every run of a study, named by its axes",
    "assay tensorboard OUT",
    "# while a run goes on",
    "assay train tiny --out runs/first --tensorboard",
    "tensorboard --logdir runs/first/tensorboard",
)


def run(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs or studies.")],
) -> None:
    """Write runs as events that TensorBoard shows.

    Loss, learning rate, gradient norm, tokens a second and held-out loss. Events go to RUN/tensorboard, of a study to
    STUDY/tensorboard; those that lie there are replaced.
    """
    from assay.report.tensorboard import convert

    written = [target for folder in folders for target in convert(folder)]
    print(f"{len(written)} run{'s' * (len(written) != 1)} written. Look at them with:")
    print(f"  tensorboard --logdir {os.path.commonpath(written)}")
