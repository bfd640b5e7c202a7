"""Ending together: a signal at any rank ends all of them after the step under way, and a lost rank ends the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGTERM
from types import FrameType

from assay.runs import RunFolder
from assay.training.parallel.world import RankLost, World, lost
from assay.training.signals import Interrupt, Terminated

__all__ = ["StopSignals", "telling_of_lost_ranks"]


class StopSignals(Interrupt):
    """`Interrupt` that no second signal hurries.

    A terminal's Ctrl-C reaches every rank, and the launcher, which passes it on: a second signal is no second wish. A
    launcher that loses patience kills.
    """

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        if number == SIGTERM:
            self.error = Terminated


@contextmanager
def telling_of_lost_ranks(folder: RunFolder, world: World) -> Iterator[None]:
    """Turn the many errors of a connection that broke into one message.

    Raises:
        RankLost: another rank has ended, or does not answer; says what is whole and how to go on.
    """
    try:
        yield
    except (RuntimeError, RankLost) as error:
        if world.size == 1 or not lost(error):
            raise
        steps = folder.checkpoint_steps()
        kept = f"the checkpoint of step {steps[-1]} is whole" if steps else "there is no checkpoint yet"
        raise RankLost(
            f"rank {world.rank} of {world.size}: another rank has ended or does not answer "
            f"({str(error).splitlines()[0][:200]}). {folder.path}: {kept}; the same command with --resume goes on."
        ) from error
