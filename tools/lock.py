"""Print a lock file: exact versions of what pyproject.toml asks for and of all that those packages need.

It follows the installed packages' own metadata from pyproject.toml's dependencies, the `test` and `lint`
groups and the build backend, so that other things in the environment (the benchmarks' peers) stay out.
With `extras` it prints what the `extras` group needs beyond that.

Usage: .venv/bin/python tools/lock.py > requirements.lock
       .venv/bin/python tools/lock.py extras > requirements-extras.lock
"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: Packages without a build for every platform carry a marker.
MARKERS = {"triton": 'sys_platform == "linux" and platform_machine == "x86_64"'}
GROUPS = ("test", "lint")


def roots(project: dict) -> list[str]:
    """The requirements that pyproject.toml itself names."""
    named = list(project["build-system"]["requires"]) + list(project["project"]["dependencies"])
    for group in GROUPS:
        named += project["dependency-groups"][group]
    return named


def closure(requirements: list[str]) -> dict[str, str]:
    """{name: version} of the requirements and of everything that they need on this machine.

    Accelerator libraries are left out: which ones torch needs is the platform's business.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if re.match(r"(nvidia|cuda)-", name):
            continue
        distribution = metadata.distribution(name)
        found[name] = distribution.version.split("+")[0]  # "+cpu" names one build of a version
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                queue += [(Requirement(text), wanted) for text in distribution.requires or []]
    return found


def main() -> None:
    """Write the lock file to standard output."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    locked, said = closure(roots(project)), "Runtime, tests, lint and the build backend"
    if sys.argv[1:] == ["extras"]:
        more = closure(project["dependency-groups"]["extras"])
        locked = {name: version for name, version in more.items() if name not in locked}
        said = "What the tests of optional adapters need beside requirements.lock"
    sys.stdout.write(f"# Written by tools/lock.py (make lock). {said}.\n")
    for name, version in sorted(locked.items()):
        marker = f" ; {MARKERS[name]}" if name in MARKERS else ""
        sys.stdout.write(f"{name}=={version}{marker}\n")


if __name__ == "__main__":
    main()
