"""Where a number comes from: versions, hardware, command, commit, time; torch is not imported for it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from assay.runs import processor
from assay.runs.folder import SCHEMA_VERSION

__all__ = ["command_line", "git_commit", "hardware", "provenance", "versions"]

_PACKAGES = ("assay", "torch", "numpy", "tokenizers", "safetensors", "pydantic", "triton")


def provenance(command: str | None = None) -> dict[str, Any]:
    """How a number was got, for run.json and the report.

    Args:
        command: the command that reproduces it; None takes this process's own.

    Returns:
        `schema_version`, `versions` (package: version), `hardware` (see `hardware`), `command`, `git` (commit
        of the working folder, or None), `time` (UTC, ISO 8601). Plain data.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "versions": versions(),
        "hardware": hardware(),
        "command": command_line() if command is None else command,
        "git": git_commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def hardware() -> dict[str, Any]:
    """This machine, without its name.

    Returns:
        `cpu` (model), `architecture`, `cores` (usable by this process), `memory_bytes` (of the machine,
        or the container's limit where lower; None where unknown), `os`, `accelerators` (models, maybe none),
        `torch_threads` (None while torch is not loaded).
    """
    torch = sys.modules.get("torch")
    threads = getattr(torch, "get_num_threads", None)
    return {
        "cpu": processor.name(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory(),
        "os": platform.platform(terse=True),
        "accelerators": _accelerators(),
        "torch_threads": threads() if threads else None,
    }


def command_line(arguments: list[str] | None = None) -> str:
    """A process's command as one would type it: the program by its name, without the folders of this machine.

    Args:
        arguments: as in `sys.argv`, the default.
    """
    program, *rest = (arguments if arguments is not None else sys.argv) or [""]
    path = Path(program)
    if path.name == "__main__.py":
        name = ["python", "-m", path.parent.name]
    elif path.suffix == ".py":
        name = ["python", path.name]
    else:
        name = [path.name or "python"]
    return shlex.join([*name, *rest])


def git_commit(folder: Path | None = None) -> str | None:
    """The commit checked out at a folder, read from git's own files (no process is started).

    Args:
        folder: where to look, upward; None is the working folder.

    Returns:
        The commit's 40 (or 64) hexadecimal digits, or None outside a repository or before its first commit.
    """
    with suppress(OSError, UnicodeDecodeError):
        here = (folder or Path.cwd()).resolve()
        for parent in (here, *here.parents):
            git = parent / ".git"
            if git.is_file():  # a worktree or submodule: a file that names the real folder
                git = (parent / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()).resolve()
            if (git / "HEAD").is_file():
                return _resolve(git)
    return None


def _resolve(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head
    reference = head.removeprefix("ref:").strip()
    common = git
    if (git / "commondir").is_file():  # a worktree keeps its branches in the main folder
        common = (git / (git / "commondir").read_text(encoding="utf-8").strip()).resolve()
    for place in (git, common):
        if (place / reference).is_file():
            return (place / reference).read_text(encoding="utf-8").strip()
    if (common / "packed-refs").is_file():
        for line in (common / "packed-refs").read_text(encoding="utf-8").splitlines():
            commit, _, name = line.partition(" ")
            if name == reference:
                return commit
    return None


def _memory() -> int | None:
    sizes = []
    with suppress(OSError, ValueError, AttributeError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # the file says "max" where there is no limit
            sizes.append(int(Path(limit).read_text(encoding="ascii")))
    return min(sizes, default=None)


def _accelerators() -> list[str]:
    """Models of the accelerators here, by what the system says; nothing is initialised for it."""
    found = []
    with suppress(OSError):
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                key, _, value = line.partition(":")
                if key.strip() == "Model":
                    found.append(value.strip())
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if not found and cuda is not None and cuda.is_initialized():
        found = [str(cuda.get_device_name(index)) for index in range(cuda.device_count())]
    if not found and sys.platform == "darwin" and platform.machine() == "arm64":
        found.append("Apple GPU (MPS)")
    return found
