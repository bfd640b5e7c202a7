"""`assay export`: any model that loads, written in a published format or assay's own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.main import examples
from assay.errors import UserError

if TYPE_CHECKING:
    from assay.published.base import Family
    from assay.published.summary import Summary
    from assay.spec.model import ModelSpec

EXAMPLES = examples(
    "assay export OUT/runs/1a2b3c4d5e6f7788 my_model/",
    "assay export model.gguf my_model/ --dtype bfloat16",
    "assay export chatglm-6b-folder/ plain/ --format assay",
)

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json")
DESCRIPTIONS = ("config.json", "spec.json")

DTYPES = ("float32", "bfloat16", "float16")


class Format(StrEnum):
    """Whose format."""

    hf = "hf"
    assay = "assay"


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="What holds the weights: a run's folder, a saved model's, a published checkpoint's, a .gguf file, "
            "a hub id.",
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    form: Annotated[
        Format,
        typer.Option("--format", help="hf: config.json and safetensors that transformers loads, or the family's own."),
    ] = Format.hf,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", show_default=False, help="float32, bfloat16 or float16. Default: as stored, else float32."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write into a folder that holds something; weights and tokenizer are replaced."),
    ] = False,
    hint: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", show_default=False, help="What a published configuration cannot tell."),
    ] = None,
) -> None:
    """Write a model with its tokenizer into a folder, in a published format or assay's own.

    What stands in the way of a published format is named before any weights are read.
    """
    from rich.console import Console

    from assay.cli.source import hints
    from assay.published.summary import look

    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: is not supported.", f"Use one of {', '.join(DTYPES)}.")
    given = hints(hint)
    spec, files = look(source, given)
    if files is None:
        raise UserError(
            f"{source}: is a description without weights, and there is nothing to export.",
            "Train it (assay train), or give the folder, .gguf file or hub id that holds weights.",
        )
    refuse(source, folder, force)
    family = target(spec, files) if form is Format.hf else None
    kind = dtype or (files.dtype if files.dtype in DTYPES else "float32")
    console = Console(stderr=True, highlight=False)
    console.print(f"Reading {source} ({files})", markup=False, soft_wrap=True)

    import assay

    model = assay.load(source, dtype=kind, hint=given or None)
    if force and folder.is_dir():
        clear(folder)
    size = int(spec.parameters()) * (4 if kind == "float32" else 2)
    with Writing(console, folder, size):
        model.save(folder, format=str(form))
        if family is not None and model.tokenizer is None:
            keep_tokenizer(Path(files.place), folder)
    _tell(folder, spec, family, kind, model.tokenizer is not None)


def refuse(source: str, folder: Path, force: bool) -> None:
    """Keep an export from spoiling what is there.

    Raises:
        UserError: DIR is a file, holds something and --force is not given, or holds the source.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, and DIR is a folder.", "Give another DIR.")
    path = Path(source).expanduser()
    inside = folder.resolve()
    if path.exists() and (path.resolve() == inside or inside in path.resolve().parents):
        raise UserError(f"{folder}: holds the SOURCE.", "Give another DIR.")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise UserError(f"{folder}: is not empty.", "Give a new DIR, or --force to replace the weights in it.")


def target(spec: ModelSpec, files: Summary) -> Family:
    """The family that the export will be of.

    Raises:
        UserError: none can express the model; the fields in the way are named.
    """
    from assay.published.registry import families
    from assay.published.save import choose

    origin = next((f for f in families() if f.name == files.family and f.from_spec is not None), None)
    return choose(spec, origin)[0]


def clear(folder: Path) -> None:
    """Remove weights, descriptions and tokenizers that would be read in place of the new; nothing else is touched."""
    from assay.data.tokenizer import FILE
    from assay.published.token_files import KEPT

    for pattern in (*WEIGHTS, *DESCRIPTIONS, *KEPT, FILE):
        for path in folder.glob(pattern):
            path.unlink()


def keep_tokenizer(source: Path, folder: Path) -> None:
    """Copy the files of a tokenizer that assay cannot read (a WordPiece vocabulary), where the source is a folder."""
    from assay.published.token_files import keep
    from assay.runs.files import disk_guard

    if source.is_dir():
        with disk_guard(folder, 0):
            keep(source, folder)


class Writing:
    """A bar of the bytes in the folder, in a terminal; elsewhere a line."""

    def __init__(self, console: object, folder: Path, size: int) -> None:
        """Args: console: of stderr; folder: what grows; size: bytes it will hold, nearly."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        assert isinstance(console, Console)
        self.folder, self.size = folder, size
        self.live = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), DownloadColumn(), console=console,
            disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.live.add_task(f"Writing {folder}", total=size)
        if not console.is_terminal:
            console.print(f"Writing {folder} ({size:,} bytes)", markup=False, soft_wrap=True)

    def __enter__(self) -> Writing:
        from threading import Event, Thread

        self.live.start()
        self.over = Event()
        self.watch = Thread(target=self._watch, daemon=True)
        self.watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.watch.join()
        if error[0] is None:
            self.live.update(self.task, completed=self.size)
        self.live.stop()

    def _watch(self) -> None:
        while not self.over.wait(0.2):
            self.live.update(self.task, completed=min(written(self.folder), self.size))


def written(folder: Path) -> int:
    """Bytes of weights in a folder so far, unfinished files included."""
    total = 0
    for path in (*folder.glob("*.safetensors"), *folder.glob(".*.part")):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed in between
            continue
    return total


def _tell(folder: Path, spec: ModelSpec, family: Family | None, kind: str, tokenizer: bool) -> None:
    count = f"{int(spec.parameters()):,} parameters in {kind}{', with the tokenizer' if tokenizer else ''}"
    if family is None:
        print(f"{folder}: {count}, in assay's own format. Load it with assay.load({str(folder)!r}).")
    elif family.transformers:
        print(f"{folder}: {count}, as {family.name}. assay.load and transformers' from_pretrained load it.")
    else:
        print(f"{folder}: {count}, in {family.name}'s own format, which transformers has no class for.")
