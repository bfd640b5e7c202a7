"""The `assay` command: its commands by name, loaded when called, and what a user sees when something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from assay.errors import UserError

COMMANDS = {
    "compare": "Train models that differ along chosen axes, at equal compute, and compare them.",
    "train": "Train one model on your text.",
    "tune": "Tune a model on labelled data or on prompts and answers, with loss on the answer alone.",
    "eval": "Measure a model on tasks: accuracy, F1, calibration, exact match, with standard errors.",
    "six-pairs": "Pretrain six pairs of family and objective, measure them zero-shot and after multitask tuning.",
    "generate": "Let a model continue a prompt.",
    "inspect": "Show a model's parts, parameters, FLOPs, memory, masks and blocks.",
    "diff": "Show in what two models differ.",
    "table": "Print tables of the known models: norms, or sizes.",
    "export": "Write a model with its tokenizer into a folder, in a published format or assay's own.",
    "probe": "Look into models: gradients, activations, attention, updates, layer by layer.",
    "lr-find": "Find a learning rate by a range test.",
    "cost": "Estimate FLOPs, memory, time, energy, CO2 and money of a model.",
    "plan": "Plan training on many GPUs: who holds what, memory, messages, time of a step, utilisation.",
    "claims": "The book of claims: list what is said of architectures, run the experiments, read the verdicts.",
    "tensorboard": "Write runs as events that TensorBoard shows.",
    "emergence": "Say how much of a jump in results the metric makes.",
    "doctor": "Say what this machine can do.",
}
"""Command to its one line of help; `assay.cli.<command>` holds `run` and `EXAMPLES`, or `app`, a group of commands."""

SETTINGS = {"help_option_names": ["-h", "--help"]}
PIPE_CLOSED = 141  # 128 + SIGPIPE, what a shell expects
INTERRUPTED = 130  # 128 + SIGINT
WRONG = 2


class Group(TyperGroup):
    """The commands by name. A command's module is imported when it is called; listing needs none of them."""

    def __init__(self, **settings: Any) -> None:
        """See the class."""
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=summary) for name, summary in COMMANDS.items()}
        self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; while the group's own help is printed, its name and summary only."""
        if cmd_name not in COMMANDS or self._listing:
            return self.commands.get(cmd_name)
        return load(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Help of the group, from the summaries."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a user's mistake becomes one message and an exit status, never a traceback."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            fail(str(error))
        except KeyboardInterrupt as interrupt:
            kept = "Finished work is kept; the same command with --resume goes on from there."
            say(f"Interrupted: {interrupt}" if str(interrupt) else f"Interrupted. {kept}")
            raise typer.Exit(getattr(interrupt, "status", INTERRUPTED)) from None
        except BrokenPipeError:
            quiet()
            raise typer.Exit(PIPE_CLOSED) from None
        except OSError as error:
            if not error.filename:
                raise
            fail(
                f"{error.filename}: {(error.strerror or str(error)).lower()}. Check the path, its rights and the disk."
            )
        except ValueError as error:
            if type(error).__name__ != "ValidationError":
                raise
            from pydantic import ValidationError

            from assay.errors import from_validation

            assert isinstance(error, ValidationError)
            fail(str(from_validation(error, error.title)))


def load(name: str) -> Any:
    """The command of that name, from its module."""
    module = import_module(f"assay.cli.{name.replace('-', '_')}")
    if hasattr(module, "app"):  # a group of commands of its own
        return typer.main.get_command(module.app)
    one = typer.Typer(add_completion=False, rich_markup_mode="rich")
    paragraphs = cleandoc(module.run.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    one.command(name, help=text, epilog=module.EXAMPLES, context_settings=SETTINGS)(module.run)
    return typer.main.get_command(one)


def examples(*lines: str) -> str:
    """An epilog of examples: each a command line, or a remark where it begins with `#`."""
    shown = [f"  [dim]{line}[/dim]" if line.startswith("#") else f"  {line}" for line in lines]
    return "\n".join(["[bold]Examples[/bold]", *shown])


def fail(message: str) -> None:
    """Say what is wrong on stderr and end with status 2.

    Raises:
        typer.Exit: always.
    """
    say(message, "Error: ")
    raise typer.Exit(WRONG)


def say(message: str, head: str = "") -> None:
    """A message on stderr, wrapped at words in a terminal and whole in a file."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble((head, "bold red"), message), soft_wrap=not console.is_terminal)


def quiet() -> None:
    """Keep the interpreter from complaining about a closed pipe as it ends."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from importlib.metadata import version

        print(f"assay {version('assay')}")
        raise typer.Exit


app = typer.Typer(
    name="assay",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
    epilog=examples(
        "# three families, three seeds, equal compute, one report",
        "assay compare",
        "assay compare --vary norm=layer,rms --data my_texts/",
        "assay inspect gpt3",
        "assay COMMAND --help",
    ),
)


@app.callback()
def front(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """A workbench for transformer language-model architecture: describe, build, train, measure."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with its exit status."""
    typer.main.get_command(app).main(args=arguments, prog_name="assay")
