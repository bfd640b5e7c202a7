"""The front of the command line: help, versions, mistakes, interrupts; and `import assay`."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

import assay
from assay.cli import main as front
from assay.cli.main import COMMANDS, app
from assay.errors import UserError

HEAVY = ("torch", "polars", "altair", "transformers", "tokenizers")


def run(*arguments: str, width: int = 80, **more: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "assay", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": str(width), **more},
        check=False,
    )


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_reads_well_at_every_width(command: str | None, width: int) -> None:
    done = run(*([command] if command else []), "--help", width=width)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "Examples" in done.stdout
    assert f"assay {command or 'compare'}" in done.stdout
    assert "…" not in done.stdout, "something was cut off"
    # No word stands alone where a paragraph broke: every option's help is there in full.
    flat = re.sub(r"[│\s]+", " ", done.stdout)
    if command:
        assert COMMANDS[command] in flat


def test_help_lists_every_command_and_loads_none() -> None:
    code = (
        "import sys\nfrom assay.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"heavy = {{*{HEAVY!r}, 'numpy', 'pydantic_core', 'assay.cli.compare'}} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def fastest(*command: str, times: int = 3) -> float:
    """Seconds of the fastest of a few runs: other work on the machine only adds."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.slow
def test_import_and_help_are_quick() -> None:
    start = fastest("-c", "pass")
    assert fastest("-c", "import assay") - start < 0.2
    assert fastest("-m", "assay", "--help") < 0.5 + start
    assert fastest("-m", "assay", "inspect", "gpt3") < 2.0 + start


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == f"assay {assay.__version__}"


def test_an_unknown_command_gets_the_nearest() -> None:
    done = run("inspct", "gpt2")
    assert done.returncode == 2
    assert "Did you mean 'inspect'" in done.stderr
    assert run("inspect").returncode == 2
    assert "--lenght" in run("inspect", "gpt2", "--lenght", "3").stderr


def test_a_mistake_is_one_message_on_stderr() -> None:
    done = run("inspect", "lama-7b")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Error: lama-7b: no preset" in done.stderr
    assert "Did you mean" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """A command `doctor` that raises what is put into the list."""
    raised: list[BaseException] = []

    def load(name: str) -> object:
        import typer

        one = typer.Typer()

        @one.command()
        def fail() -> None:
            raise raised[0]

        return typer.main.get_command(one)

    monkeypatch.setattr(front, "load", load)
    yield raised


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("width = 0: too small.", "Give more."), 2, "Error: width = 0: too small. Give more."),
        (UserError("[bold]x[/bold] = 1 is [wrong]"), 2, "[bold]x[/bold] = 1 is [wrong]"),
        (KeyboardInterrupt(), 130, "Interrupted. Finished work is kept"),
        (KeyboardInterrupt("stopped at step 3"), 130, "Interrupted: stopped at step 3"),
        (PermissionError(13, "Permission denied", "/etc/x"), 2, "/etc/x: permission denied. Check the path"),
    ],
)
def test_what_a_user_sees_when_something_is_wrong(
    broken: list[BaseException], error: BaseException, status: int, said: str
) -> None:
    broken.append(error)
    done = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert done.exit_code == status
    assert said in done.stderr
    assert done.stdout == ""


def test_a_bug_keeps_its_traceback(broken: list[BaseException]) -> None:
    broken.append(ZeroDivisionError("ours"))
    done = CliRunner().invoke(app, ["doctor"])
    assert isinstance(done.exception, ZeroDivisionError)


def test_a_refusal_of_a_constructor_is_told_too(broken: list[BaseException]) -> None:
    with pytest.raises(ValueError) as caught:
        assay.ModelSpec(width=130)
    broken.append(caught.value)
    done = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "4 heads do not divide width 130" in done.stderr
    assert "pydantic" not in done.stderr


def test_a_closed_pipe_is_no_news() -> None:
    done = subprocess.run(
        f"{sys.executable} -m assay inspect gpt3 --full | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "gpt3" in done.stdout
    assert done.stderr == ""


def test_every_public_name_is_there() -> None:
    for name in assay.__all__:
        assert getattr(assay, name) is not None
    assert set(assay.__all__) <= set(dir(assay))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = assay.nothing
