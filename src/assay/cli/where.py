"""The options of every command that runs many runs: where they run, with whom, and how often one is tried again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["On", "Retries", "Together", "retried"]

On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="WHERE",
        show_default=False,
        help="ray: Ray on this machine, or where RAY_ADDRESS says; ray://HOST:10001: a cluster. Default: processes of "
        "this machine.",
    ),
]
Retries = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Times that a run whose worker died is tried again, from its checkpoint."),
]
Together = Annotated[
    str,
    typer.Option(
        "--together",
        metavar="auto|never|always",
        help="Train runs of one model that differ in seed or rates as one batched model: where it was measured to be "
        "faster, never, or wherever it can be done. Losses are the same up to rounding.",
    ),
]


def retried(event: dict[str, Any]) -> str:
    """What a "retried" event says, in words."""
    return f"{event['reason']}; again from step {event['step']} ({event['attempt']} of {event['of']})"
