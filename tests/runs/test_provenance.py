"""Where a number comes from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.runs import command_line, git_commit, hardware, provenance, versions


def test_provenance_is_plain_and_complete() -> None:
    found = provenance()
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"schema_version", "versions", "hardware", "command", "git", "time"}
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["time"].endswith("+00:00")
    assert provenance(command="assay compare")["command"] == "assay compare"


def test_versions_are_those_of_the_packages() -> None:
    import numpy

    assert versions()["numpy"] == numpy.__version__
    assert versions()["torch"].split("+")[0].count(".") == 2


def test_hardware_is_this_machine_without_its_name() -> None:
    found = hardware()
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert found["memory_bytes"] is None or found["memory_bytes"] > 1 << 27
    assert found["cpu"] and found["os"]
    name = os.uname().nodename
    assert len(name) < 4 or name not in json.dumps(found)


def test_torch_is_not_loaded_for_it() -> None:
    code = "import sys; from assay.runs import provenance; provenance(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/a/b/.venv/bin/assay", "compare", "--data", "my texts"], "assay compare --data 'my texts'"),
        (["/a/assay/__main__.py", "doctor"], "python -m assay doctor"),
        (["/a/study.py", "--x"], "python study.py --x"),
        ([""], "python"),
    ],
)
def test_command_is_what_one_would_type(arguments: list[str], expected: str) -> None:
    assert command_line(arguments) == expected


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_commit_is_what_git_says(tmp_path: Path) -> None:
    home = tmp_path / "repo"
    home.mkdir()
    git(home, "init", "-q", "-b", "main")
    assert git_commit(home) is None  # before the first commit
    git(home, "commit", "-q", "--allow-empty", "-m", "one")
    head = git(home, "rev-parse", "HEAD")
    (home / "deep" / "er").mkdir(parents=True)
    assert git_commit(home / "deep" / "er") == head
    git(home, "pack-refs", "--all")
    assert git_commit(home) == head
    git(home, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "two")
    assert git_commit(tmp_path / "tree") == git(tmp_path / "tree", "rev-parse", "HEAD") != head
    git(home, "checkout", "-q", "--detach", head)
    assert git_commit(home) == head


def test_no_commit_outside_a_repository(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
