"""`assay train`: one model, one folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.device import device_option
from assay.cli.main import examples
from assay.errors import UserError

if TYPE_CHECKING:
    from assay.spec.study import RunSpec
    from assay.training.parallel.layout import Launch
    from assay.training.parallel.world import World

EXAMPLES = examples(
    "assay train tiny --out runs/first",
    "assay train tiny-t5 --data my_texts/ --budget 1e12",
    "assay train model.toml --data book.txt --steps 2000 --lr 1e-3",
    "# other choices on the model's axes",
    "assay train tiny --set norm=layer --set placement=post",
    "# U-PaLM: a trained causal decoder goes on with UL2's mixture",
    "assay train --init runs/first --objective ul2 --set objective.mixture=upalm --steps 100 --lr 3e-4",
    "# leave out batches whose loss is not finite, or 8 robust deviations above the steps before",
    "assay train tiny --on-bad-loss skip --spike 8",
    "# after Ctrl-C, a crash or a full disk",
    "assay train tiny --out runs/first --resume",
    "# on an accelerator, activations computed again to save its memory",
    "assay train gpt2 --data my_texts/ --device cuda --dtype bfloat16 --compile --checkpointing",
    "# one run on four processes, weights and moments cut over them",
    "torchrun --nproc-per-node 4 -m assay train tiny --parallel fsdp",
)
MODEL, TRAINING, DATA, PROCESSES = "Model", "Training", "Data", "Processes"


def run(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="A preset (tiny, gpt2 ...), a TOML or JSON spec, a run's folder. With --init: that model's own.",
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            rich_help_panel=DATA,
            help="Text, JSON Lines, Parquet, or a folder of them. stdlib: the running Python's own prose.",
        ),
    ] = "stdlib",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default=False, help="The run's folder. Default: runs/HASH.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that --out holds.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's events too, to OUT/tensorboard.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="AXIS=VALUE", rich_help_panel=MODEL, help="Change a field, as compare --vary."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            rich_help_panel=MODEL,
            show_default=False,
            help="Begin from these weights, with their tokenizer: a finished run, a saved or published model.",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(rich_help_panel=TRAINING, show_default=False, help="causal_lm, prefix_lm, span_corruption ..."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="FLOPS", rich_help_panel=TRAINING, show_default=False, help="Training FLOPs. Default: 3e12."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(rich_help_panel=TRAINING, show_default=False, help="Steps, in place of a budget.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(rich_help_panel=TRAINING, show_default=False, help="Rows a step. Default: 16.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(rich_help_panel=TRAINING, show_default=False, help="Tokens a row. Default: 128.")
    ] = None,
    accumulation: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=TRAINING, show_default=False, help="Parts that a batch is computed in. Default: 1."
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(rich_help_panel=TRAINING, show_default=False, help="Peak learning rate. Default: 3e-3."),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=TRAINING,
            show_default=False,
            help="cosine, linear, constant, inverse_sqrt, wsd, plateau. Default: cosine.",
        ),
    ] = None,
    warmup: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=TRAINING,
            show_default=False,
            help="Share of the steps, or their number from 1 on. Default: 0.05.",
        ),
    ] = None,
    on_bad_loss: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=TRAINING,
            show_default=False,
            help="stop, or skip the batch, where loss or gradient is not finite or spikes. Default: stop.",
        ),
    ] = None,
    spike: Annotated[
        float | None,
        typer.Option(
            metavar="K",
            rich_help_panel=TRAINING,
            show_default=False,
            help="A loss is bad from K robust deviations above the median of the last 64 steps on. Default: none is.",
        ),
    ] = None,
    parallel: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            rich_help_panel=PROCESSES,
            show_default=False,
            help="Under torchrun: ddp, fsdp or hsdp. Default: fsdp.",
        ),
    ] = None,
    shard: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=PROCESSES,
            show_default=False,
            help="hsdp: processes that hold one copy of the weights. Default: those of a machine.",
        ),
    ] = None,
    device: Annotated[str | None, device_option(PROCESSES, default="an accelerator where there is one")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=PROCESSES,
            show_default=False,
            help="Of products: float32, or bfloat16 with weights in float32. Default: bfloat16 on an accelerator.",
        ),
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--eager",
            rich_help_panel=PROCESSES,
            show_default=False,
            help="Compile blocks. Default: where the run is long enough to earn it back.",
        ),
    ] = None,
    checkpointing: Annotated[
        bool,
        typer.Option("--checkpointing", rich_help_panel=PROCESSES, help="Compute activations again: less memory."),
    ] = False,
    seed: Annotated[
        int, typer.Option(rich_help_panel=TRAINING, min=0, metavar="N", help="Of weights, order and dropout.")
    ] = 0,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=DATA, show_default=False, help="bpe, trained on the text, or bytes. Default: bpe."
        ),
    ] = None,
    vocab_size: Annotated[
        int | None,
        typer.Option(rich_help_panel=DATA, show_default=False, help="Size of the BPE vocabulary. Default: 2048."),
    ] = None,
    heldout: Annotated[
        float | None,
        typer.Option(rich_help_panel=DATA, show_default=False, help="Share kept out of training. Default: 0.1."),
    ] = None,
    text_field: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=DATA, show_default=False, help="Field of JSON Lines, column of Parquet. Default: text."
        ),
    ] = None,
) -> None:
    """Train one model on your text.

    The model's vocabulary follows from the tokenizer. Metrics, checkpoints and all that the numbers depend on go
    to the run's folder, which is a SOURCE like any other.
    """
    train = {
        "batch_size": batch_size,
        "length": length,
        "accumulation": accumulation,
        "optimizer.learning_rate": lr,
        "schedule.kind": schedule,
        "schedule.warmup": warmup,
        "on_bad_loss.action": on_bad_loss,
        "on_bad_loss.spike": spike,
        "parallel.kind": parallel,
        "parallel.shard": shard,
        "dtype": dtype,
        "compile": compiled,
        "checkpointing": checkpointing or None,
    }
    tokens = given(kind=tokenizer, vocab_size=vocab_size)
    from assay.cli.one_voice import one_voice
    from assay.training.parallel.world import World

    world = World.join(device=device)
    with one_voice(world):
        wanted = describe(
            source,
            changes or [],
            given(**train),
            given(source=data, text_field=text_field, heldout=heldout, tokenizer=tokens or None),
            objective=objective,
            seed=seed,
            budget=budget,
            steps=steps,
            init=init,
        )
        folder = out if out is not None else Path("runs") / wanted.hash
        world.lead(lambda: refuse_another(folder, wanted, resume or world.launch.attempt > 0))
        check_memory(wanted, world.launch)
        train_in(folder, wanted, world, tensorboard=tensorboard)


def train_in(folder: Path, wanted: RunSpec, world: World, *, tensorboard: bool) -> None:
    """Train, and show it: on rank 0, where there are several.

    Raises:
        typer.Exit: the run diverged.
    """
    from contextlib import ExitStack

    from assay.cli.train_view import TrainingLine, summary
    from assay.runs import RunFolder
    from assay.training.loop import train_run

    with ExitStack() as stack:
        watching = []
        if world.leads:
            watching.append(stack.enter_context(TrainingLine(str(folder))).update)
        if world.leads and tensorboard:
            from assay.report.tensorboard import EventsWriter

            watching.append(stack.enter_context(EventsWriter(folder)).update)

        def watch(row: dict[str, Any]) -> None:
            for update in watching:
                update(row)

        outcome = train_run(wanted, RunFolder(folder), progress=watch, command=command(world), world=world)
    if world.leads:
        summary(folder, outcome)
    if outcome["status"] == "diverged":
        raise typer.Exit(1)


def command(world: World) -> str | None:
    """What does the run again, where a launcher started it; None: this process's own command."""
    from assay.runs import command_line

    if world.size == 1:
        return None
    machines, here = world.size // world.local_size, world.local_size
    several = f"--nnodes {machines} " if machines > 1 else ""
    return f"torchrun {several}--nproc-per-node {here} {command_line().removeprefix('python ')}"


def refuse_another(folder: Path, wanted: RunSpec, resume: bool) -> None:
    """Keep a run from being taken for another.

    Raises:
        UserError: the folder holds a run and is not to be resumed, or holds another than the one wanted, with every
            field that differs.
    """
    from assay.runs import RunFolder

    if not (folder / "run.json").is_file():
        return
    if not resume:
        raise UserError(f"{folder}: holds a run.", "Go on with it with --resume, or give another --out.")
    from assay.training.same import refuse_other
    from assay.training.text import resolve

    refuse_other(RunFolder(folder), wanted.hash, resolve(wanted))


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}


def describe(
    source: str | None,
    changes: list[str],
    train: dict[str, Any],
    data: dict[str, Any],
    *,
    objective: str | None,
    seed: int,
    budget: float | None,
    steps: int | None,
    init: str | None = None,
) -> RunSpec:
    """The run that the options ask for; an axis set by --set is set as `compare --vary` would."""
    from assay.published.source import resolve
    from assay.spec.study import StudySpec
    from assay.spec.training import TrainSpec
    from assay.studies.vary import parse_vary
    from assay.training.start import begin_from, find_start

    axes = parse_vary(changes)
    many = next((name for name, values in axes.items() if len(values) > 1), None)
    if many:
        raise UserError(
            f"--set {many}: {len(axes[many])} values, and a run has one.", "To compare values: assay compare --vary."
        )
    how_long = given(budget=budget, steps=steps) or {"budget": 3e12}
    start = find_start(init) if init is not None else None
    if source is None and start is None:
        raise UserError("SOURCE: none is given.", "Give a preset such as tiny, a spec file, or --init MODEL.")
    model = start.model if start is not None and source is None else resolve(str(source))
    study = StudySpec.from_dict(
        {
            "model": model.to_dict(),
            "train": TrainSpec.from_dict(how_long, source="assay train").with_(**train).to_dict(),
            "objective": objective,
            "data": data,
            "vary": axes,
            "seeds": 1,
        },
        source="assay train",
    )
    (run,) = study.runs()
    run = run.model_copy(update={"seed": seed, "name": model.name, "labels": {}})
    return run if start is None else begin_from(run, start, tokenizer_given="tokenizer" in data)


def check_memory(run: RunSpec, launch: Launch | None = None) -> None:
    """Refuse what this machine's memory cannot hold, before the system kills it midway.

    Args:
        run: what is trained.
        launch: its processes; None: one.

    Raises:
        UserError: weights, gradients and optimizer alone are larger than the machine's memory.
    """
    import os

    from assay.report.format import memory
    from assay.spec.memory import state_bytes
    from assay.training.parallel.layout import Launch, plan_layout

    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return  # unknown here
    launch = launch or Launch()
    needed = state_bytes(run.model).total * launch.local_size / plan_layout(run.train, launch).shard
    if needed > there:
        raise UserError(
            f"{run.model.name or 'the model'}: weights, gradients and optimizer need {memory(needed)}, and this "
            f"machine has {memory(there)}.",
            "Choose a smaller model: assay inspect SOURCE says what one needs.",
        )
