"""Several processes on one command line: what is to be said is said once, and every process ends with its status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from assay.cli.main import INTERRUPTED, WRONG, say
from assay.errors import UserError

if TYPE_CHECKING:
    from assay.training.parallel.world import World

__all__ = ["one_voice"]

LOST = 3
"""Exit status where another rank was lost."""


@contextmanager
def one_voice(world: World) -> Iterator[None]:
    """Around a command's work on several ranks; with one process it does nothing.

    Raises:
        typer.Exit: with the status that a single process would have.
    """
    if world.size == 1:
        yield
        return
    from assay.training.parallel.world import RankLost

    try:
        yield
    except UserError as error:
        told = str(error)
        world.once(lambda: say(told, "Error: "))
        raise typer.Exit(WRONG) from None
    except KeyboardInterrupt as interrupt:
        told = str(interrupt)
        world.once(lambda: say(f"Interrupted: {told}" if told else "Interrupted."))
        raise typer.Exit(getattr(interrupt, "status", INTERRUPTED)) from None
    except RankLost as error:
        say(str(error), "Error: ")
        _end(LOST)
    except typer.Exit:
        raise
    except BaseException:
        traceback.print_exc()
        _end(1)
    finally:
        world.close()


def _end(status: int) -> None:
    """End without waiting for threads that talk to ranks which no longer answer."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
