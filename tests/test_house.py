"""The house: which room may import which, what stays light, how long a file may be."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "assay"

#: docs/design.md: each room imports only rooms above it.
ROOMS = (
    "spec",
    "stats",
    "runs",
    "objectives",
    "data",
    "nn",
    "generation",
    "published",
    "probes",
    "evaluation",
    "training",
    "report",
    "studies",
    "claims",
    "cli",
)
TORCH_FREE = ROOMS[: ROOMS.index("data") + 1]
REPORT_IMPORTS = {"spec", "stats", "runs"}  # reports are made from run folders alone
FREE = {"errors"}  # for every room
FRONT = {"__init__", "__main__"}  # the front of the package: may reach every room; only the command line uses it
LIMIT = 400


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a module imports, at any depth, relative imports resolved."""
    parts = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - (1 if is_package else 0)
                base = ".".join(filter(None, [*parts[: len(parts) - up], base]))
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def faults(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What a module imports against the rules, one sentence each."""
    parts = module.split(".")
    room = parts[1] if len(parts) > 1 else "__init__"
    found = []
    if room not in (*ROOMS, *FREE, *FRONT):
        found.append(f"{module}: {room} is no room of the house")
    for line, name in imports(source, module, is_package=is_package):
        place = f"{module}:{line}"
        top, *rest = name.split(".")
        if top == "transformers":
            found.append(f"{place} imports {name}: transformers is a test dependency")
        if top == "torch" and room in (*TORCH_FREE, *FREE, *FRONT, "report"):
            found.append(f"{place} imports {name}: {room} does without torch")
        if top != "assay" or room in FRONT:
            continue
        target = rest[0] if rest else "__init__"
        if target in FREE or (room == "cli" and target not in ROOMS):
            continue
        if room in FREE or target not in ROOMS:
            found.append(f"{place} imports {name}: not a room that {room} may import")
        elif target != room and ROOMS.index(target) > ROOMS.index(room):
            found.append(f"{place} imports {name}: {target} lies below {room}")
        elif room == "report" and target not in {*REPORT_IMPORTS, "report"}:
            found.append(f"{place} imports {name}: report imports spec, stats and runs only")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def run(code: str) -> None:
    """Run code in an interpreter of its own and show what it says when it fails."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_imports_only_what_its_room_may() -> None:
    found = [
        fault
        for name, path in modules()
        for fault in faults(path.read_text(encoding="utf-8"), name, is_package=path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("assay.spec.model", "from assay.nn import block"),
        ("assay.spec.model", "def f():\n    import assay.nn.block"),
        ("assay.spec.model", "from assay import training"),
        ("assay.spec.model", "from ..nn.block import Block"),
        ("assay.spec.model", "from .. import nn"),
        ("assay.spec.model", "import importlib\nimportlib.import_module('assay.nn')"),
        ("assay.spec.model", "import torch.nn as nn"),
        ("assay.data.source", "from torch import Tensor"),
        ("assay.nn.block", "import assay"),
        ("assay.nn.block", "from assay import load"),
        ("assay.published.llama", "from transformers import AutoModel"),
        ("assay.report.table", "from assay.nn import block"),
        ("assay.report.table", "from assay.data import source"),
        ("assay.errors", "from assay.spec import model"),
        ("assay.kitchen.sink", "x = 1"),
    ],
)
def test_checker_sees_a_wrong_import(module: str, source: str) -> None:
    assert len(faults(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "assay.nn.block",
            "import torch\nfrom assay.spec.masks import Mask\nfrom assay.errors import UserError",
        ),
        ("assay.nn.block", "from .norms import LayerNorm\nfrom . import masks"),
        ("assay.report.table", "from assay.runs import RunFolder\nimport polars"),
        ("assay.cli.main", "from assay.claims import book\nfrom assay import load\nimport assay"),
        ("assay", "from assay.cli import main"),
    ],
)
def test_checker_lets_a_right_import_pass(module: str, source: str) -> None:
    assert faults(source, module) == []


def test_relative_imports_of_a_package_resolve_from_itself() -> None:
    assert dict(imports("from .a import b", "assay.nn", is_package=True)) == {1: "assay.nn.a.b"}
    assert dict(imports("from .a import b", "assay.nn.block")) == {1: "assay.nn.a.b"}


def test_files_are_short() -> None:
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for _, path in modules()}
    assert lengths, "no file found: the test looks in the wrong place"
    long = {path: count for path, count in lengths.items() if count > LIMIT}
    assert not long, f"over {LIMIT} lines: {long}"


def test_import_assay_is_light() -> None:
    run(
        "import sys, assay\n"
        "heavy = {'torch', 'polars', 'altair', 'transformers', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, f'import assay loads {heavy}'"
    )


def test_torch_free_rooms_load_no_torch_even_indirectly() -> None:
    names = [name for name, _ in modules() if name.split(".")[1:2] and name.split(".")[1] in TORCH_FREE]
    assert names
    run(
        f"import sys, importlib\n"
        f"for name in {names!r}:\n"
        f"    importlib.import_module(name)\n"
        f"    heavy = {{'torch', 'transformers'}} & set(sys.modules)\n"
        f"    assert not heavy, f'{{name}} loads {{heavy}}'"
    )


@pytest.mark.skipif(
    not (PACKAGE / "cli" / "main.py").is_file() or find_spec("assay.cli") is None,
    reason="the command line is not built yet",
)
def test_help_loads_no_torch() -> None:
    run(
        "import sys\n"
        "from assay.cli.main import main\n"
        "sys.argv = ['assay', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'polars', 'altair', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, f'assay --help loads {heavy}'"
    )


def test_lock_file_pins_every_dependency_and_no_machine() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {}
    for line in lock.splitlines():
        if line and not line.startswith("#"):
            requirement = line.split(";")[0].strip()
            name, version = requirement.split("==")
            assert "+" not in version and "://" not in line and "@" not in line, line
            assert not name.startswith(("nvidia-", "cuda-")), line
            pinned[name] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for wanted in (*project["project"]["dependencies"], *project["dependency-groups"]["test"]):
        name = wanted.split(";")[0].split(">")[0].split("=")[0].strip().lower().replace("_", "-")
        assert name in pinned, f"{wanted} has no pin: make lock"
