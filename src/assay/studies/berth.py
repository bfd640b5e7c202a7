"""A worker's place on a machine of a cluster: it starts one worker at a time, and sends back what that writes.

Nothing is shared between machines: a worker writes below a temporary folder, and the machine that holds the study alone
writes into the study. So a worker that was given up for lost, and was not, cannot write into the run of its successor.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from assay.data import delivered
from assay.runs import versions
from assay.studies.parcels import Parcel, Watch, clear, under, unpack
from assay.studies.processes import Nursery
from assay.studies.protocol import REQUEST

__all__ = ["Berth"]

TREE, TEXTS, LOCK = "tree", "texts", "lock"


def _own_folder() -> tuple[Path, IO[bytes]]:
    """A temporary folder, and the open file that keeps others from removing it for as long as this process lives."""
    import fcntl

    everyone = Path(tempfile.gettempdir()).resolve()
    for folder in everyone.glob("assay-berth-*"):
        with suppress(OSError), (folder / LOCK).open("ab") as other:  # of other users, or still in use
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    hidden = Path(tempfile.mkdtemp(prefix=".assay-berth-", dir=everyone))
    lock = (hidden / LOCK).open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return hidden.rename(everyone / hidden.name[1:]), lock


class Berth:
    """One worker at a time; every method returns at once.

    Args:
        modules: what workers need in memory; see `Nursery`.
        environment: variables that its workers see.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        """Make a folder of its own, and remove those of berths that died."""
        self._folder, self._lock = _own_folder()
        self._root = self._folder / TREE
        self._root.mkdir()
        # A berth has reserved a core, and no accelerator.
        os.environ.update({**environment, delivered.VARIABLE: str(self._folder / TEXTS), "CUDA_VISIBLE_DEVICES": ""})
        self._nursery = Nursery(modules)
        self._process: Any = None
        self._watch: Watch | None = None
        self._texts: set[tuple[str, str]] = set()

    def facts(self) -> dict[str, str]:
        """What this machine is, and the versions that numbers depend on."""
        return {"machine": platform.node(), "folder": str(self._folder), **versions()}

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        log: str,
        writes: Sequence[str],
        reads: Sequence[str],
        parcel: Parcel,
        texts: Mapping[tuple[str, str], Callable[[], bytes]],
    ) -> int:
        """Start a worker; its process.

        Args:
            module: whose `main(arguments)` it is.
            arguments: a path among them is one of the study's machine.
            log: the file of its output.
            writes: paths that it writes.
            reads: paths that it reads besides.
            parcel: all files that it needs.
            texts: (source, text_field) to what fetches the wrapped text (`delivered.wrap`).
        """
        for key, fetch in texts.items():
            if key not in self._texts:
                delivered.deliver(fetch(), *key, self._folder / TEXTS)
                self._texts.add(key)
        clear(self._root)
        for name in parcel.whole:
            if Path(name).name == REQUEST:
                parcel.whole[name] = self._here(parcel.whole[name], (*writes, *reads))
        unpack(parcel, self._root)
        watched = [Path(path) for path in (*writes, log)]
        under(self._root, log).parent.mkdir(parents=True, exist_ok=True)
        self._watch = Watch(watched, self._root)
        here = [str(under(self._root, text)) if text.startswith("/") else text for text in arguments]
        self._process = self._nursery.start(module, here, under(self._root, log))
        return int(self._process.pid)

    def look(self) -> tuple[int | None, Parcel]:
        """How the worker ended, None while it runs; and what it wrote since the last look."""
        assert self._watch is not None
        status = self._process.poll()  # before the files: what an ended worker wrote is all there
        return status, self._watch.changes(last=status is not None)

    def terminate(self) -> None:
        """Ask the worker to stop."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End the worker."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """Leave nothing behind, no worker either."""
        if self._process is not None:
            self.kill()
            self._process.wait()
        self._nursery.__exit__()
        self._lock.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _here(self, request: bytes, paths: Sequence[str]) -> bytes:
        """A worker's request, its files where they are on this machine."""
        for path in paths:
            request = re.sub(
                b'"' + re.escape(path.encode()) + b'(?=["/])', b'"' + str(under(self._root, path)).encode(), request
            )  # fmt: skip
        return request
