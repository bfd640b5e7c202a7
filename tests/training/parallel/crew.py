"""Processes that stand by: many checks on 1, 2 and 4 ranks share one launch, since a rank takes seconds to import."""

import multiprocessing
import os
import socket
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

PRELOAD = ["torch._dynamo", "assay.training.parallel.checkpoint", "tests.training.parallel.checks"]
PATIENCE = 120
"""Seconds that a check may take on the slowest rank."""


class Crew:
    """Ranks in waiting.

    Args:
        size: how many at most.
    """

    def __init__(self, size: int, environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self.pipes, self.processes = [], []
        for number in range(size):
            mine, theirs = context.Pipe()
            process = context.Process(target=stand_by, args=(theirs, number, environment), daemon=True)
            process.start()
            self.pipes.append(mine)
            self.processes.append(process)

    def run(self, ranks: int, check: str, **given: Any) -> list[Any]:
        """What `checks.<check>(world, **given)` gives on each of so many ranks; fails with the first rank's trace."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for pipe in self.pipes[:ranks]:
            pipe.send((ranks, port, check, given))
        answers = []
        for number, pipe in enumerate(self.pipes[:ranks]):
            assert pipe.poll(PATIENCE), f"rank {number} does not answer"
            answers.append(pipe.recv())
        wrong = [trace for fine, trace in answers if not fine]
        assert not wrong, "\n".join(wrong)
        return [result for _, result in answers]

    def close(self) -> None:
        """Send all home."""
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(20)


def stand_by(pipe: Connection, number: int, environment: dict[str, str]) -> None:
    """Do what is asked, until None is."""
    import torch
    from tests.training.parallel import checks

    from assay.training.parallel.world import World

    torch.set_num_threads(1)
    os.environ.update(environment)
    while (order := pipe.recv()) is not None:
        ranks, port, check, given = order
        names = {"RANK": number, "WORLD_SIZE": ranks, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": ranks}
        os.environ.update({name: str(value) for name, value in names.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        try:
            world = World.join(device="cpu", timeout=60)
            try:
                answer = True, getattr(checks, check)(world, **given)
            finally:
                world.close()
        except BaseException:
            answer = False, f"rank {number} of {ranks}: {traceback.format_exc()}"
        sys.stdout.flush()
        pipe.send(answer)
