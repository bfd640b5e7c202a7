"""`assay plan`: how many GPUs share a training run, how fast, and what limits it; every assumption shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.main import examples

EXAMPLES = examples(
    "assay plan llama-65b --gpus 64 --hardware h100",
    "assay plan llama-7b --gpus 8 --batch-tokens 1048576 --checkpointing off --tokens 1e12",
    "# the picture against the number of GPUs",
    "assay plan llama-65b --hardware h100 --sweep 8,64,512,4096 --out plan/",
    "# a layout of your own, a network of your own",
    "assay plan gpt3 --gpus 1024 --tensor 8 --pipeline 8 --outside 12.5e9",
    "# how far the plan lies from published runs",
    "assay plan --check",
)

LAYOUT, MACHINE = "A layout of your own", "Assumptions of your own"


def run(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SPEC", help="A preset (gpt3, llama-7b ...), a TOML or JSON spec, a run's folder."),
    ] = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", show_default=False, help="How many accelerators.")] = None,
    machine: Annotated[
        str, typer.Option("--hardware", metavar="NAME", help="v100-32gb, a100-80gb, h100-80gb, tpu-v4 ...")
    ] = "a100-80gb",
    batch_tokens: Annotated[
        int | None, typer.Option(metavar="N", show_default=False, help="Tokens of a step. Default: about 4 million.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(metavar="N", show_default=False, help="Tokens of a sequence. Default: context.")
    ] = None,
    decoder_length: Annotated[
        int | None, typer.Option(metavar="N", show_default=False, help="Of an encoder-decoder. Default: a quarter.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of products, activations and gathered weights.")] = "bfloat16",
    reduce_dtype: Annotated[str, typer.Option(help="Of gradients between ranks.")] = "float32",
    tokens: Annotated[
        float | None, typer.Option(metavar="N", show_default=False, help="Of the whole training, for its time.")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="N,N,...", show_default=False, help="Numbers of GPUs, in place of --gpus.")
    ] = None,
    checkpointing: Annotated[
        str, typer.Option(metavar="auto|on|off", rich_help_panel=LAYOUT, help="Compute activations again.")
    ] = "auto",
    micro: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=LAYOUT, show_default=False, help="Sequences at once on a rank."),
    ] = None,
    replicate: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=LAYOUT, show_default=False, help="Copies of the weights."),
    ] = None,
    shard: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=LAYOUT, show_default=False, help="Ranks that a copy is cut over."),
    ] = None,
    tensor: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=LAYOUT, show_default=False, help="Tensor parallelism; modelled."),
    ] = None,
    pipeline: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=LAYOUT, show_default=False, help="Pipeline stages; modelled."),
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(metavar="FLOP/S", rich_help_panel=MACHINE, show_default=False, help="Of 16-bit products."),
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(metavar="BYTES/S", rich_help_panel=MACHINE, show_default=False, help="Of a GPU's memory."),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="BYTES", rich_help_panel=MACHINE, show_default=False, help="Of a GPU.")
    ] = None,
    node: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=MACHINE, show_default=False, help="GPUs behind fast links."),
    ] = None,
    inside: Annotated[
        float | None,
        typer.Option(metavar="BYTES/S", rich_help_panel=MACHINE, show_default=False, help="Of fast links, one GPU's."),
    ] = None,
    outside: Annotated[
        float | None,
        typer.Option(metavar="BYTES/S", rich_help_panel=MACHINE, show_default=False, help="Of the network, one GPU's."),
    ] = None,
    inside_latency: Annotated[
        float | None,
        typer.Option(metavar="S", rich_help_panel=MACHINE, show_default=False, help="A ring's step on fast links."),
    ] = None,
    outside_latency: Annotated[
        float | None,
        typer.Option(metavar="S", rich_help_panel=MACHINE, show_default=False, help="A ring's step on the network."),
    ] = None,
    matmul_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", rich_help_panel=MACHINE, show_default=False, help="Of peak: weights' products."),
    ] = None,
    attention_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", rich_help_panel=MACHINE, show_default=False, help="Of peak: attention."),
    ] = None,
    element_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", rich_help_panel=MACHINE, show_default=False, help="Of the memory's bandwidth."),
    ] = None,
    element_passes: Annotated[
        float | None,
        typer.Option(metavar="N", rich_help_panel=MACHINE, show_default=False, help="Moves of a saved tensor."),
    ] = None,
    network_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", rich_help_panel=MACHINE, show_default=False, help="Of links' wire speed."),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(metavar="SHARE", rich_help_panel=MACHINE, show_default=False, help="Of traffic beside compute."),
    ] = None,
    memory_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", rich_help_panel=MACHINE, show_default=False, help="That may be filled."),
    ] = None,
    failure_hours: Annotated[
        float | None,
        typer.Option(metavar="HOURS", rich_help_panel=MACHINE, show_default=False, help="Of a GPU between failures."),
    ] = None,
    restart_seconds: Annotated[
        float | None,
        typer.Option(metavar="S", rich_help_panel=MACHINE, show_default=False, help="From a failure to a new step."),
    ] = None,
    write_bandwidth: Annotated[
        float | None,
        typer.Option(metavar="BYTES/S", rich_help_panel=MACHINE, show_default=False, help="Of checkpoints."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with published runs instead.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of --sweep or --check alone.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default=False, help="Also write plan.json and report.html there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan training on many GPUs: who holds what, memory, messages, time of a step, utilisation.

    The fastest layout that assay trains (copies, shards, shards of copies) is chosen, with the reasons; tensor and
    pipeline parallelism are modelled beside it. Every assumption is printed with its source, and has an option that
    overrides it.
    """
    from assay.errors import UserError

    if out is not None and out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    if as_markdown and not (check or sweep):
        raise UserError("--markdown: is for the tables of --sweep and --check.", "Give one of them too.")
    if check:
        _check(as_json, as_markdown)
        return
    if source is None:
        raise UserError("SPEC is missing.", "Give a preset such as llama-7b, a spec file, or --check.")
    if (gpus is None) == (sweep is None):
        raise UserError(
            "--gpus: say how many." if gpus is None else "--gpus and --sweep: say the same thing.",
            "Give --gpus 64, or --sweep 1,8,64.",
        )
    from assay.published.source import resolve
    from assay.spec.plan import Fixed, plan
    from assay.spec.plan import sweep as many

    settings: dict[str, Any] = {
        "machine": machine, "batch_tokens": batch_tokens, "length": length, "decoder_length": decoder_length,
        "dtype": dtype, "reduce_dtype": reduce_dtype, "tokens": tokens, "peak": peak, "bandwidth": bandwidth,
        "memory": memory, "node": node, "inside": inside, "outside": outside, "inside_latency": inside_latency,
        "outside_latency": outside_latency, "matmul_share": matmul_share, "attention_share": attention_share,
        "element_share": element_share, "element_passes": element_passes, "network_share": network_share,
        "overlap": overlap, "memory_share": memory_share, "failure_hours": failure_hours,
        "restart_seconds": restart_seconds, "write_bandwidth": write_bandwidth,
        "fixed": Fixed(replicate, shard, tensor, pipeline, micro, _switch(checkpointing)),
    }  # fmt: skip
    spec = resolve(source)
    counts = [gpus] if gpus is not None else _counts(str(sweep))
    found = [plan(spec, counts[0], **settings)] if sweep is None else many(spec, counts, **settings)
    points = [
        {"gpus": n, "refused": str(one)} if isinstance(one, UserError) else one.to_dict()
        for n, one in zip(counts, found, strict=True)
    ]
    _show(points, sweep is not None, out, as_json, as_markdown)


def _show(points: list[dict[str, Any]], swept: bool, out: Path | None, as_json: bool, as_markdown: bool) -> None:
    page = None
    if out is not None:
        from assay.report.plan import DATA, write_plan
        from assay.runs import provenance, write_json

        held = {"schema_version": 1, "kind": "plan", "points": points, "provenance": provenance()}
        write_json(out / DATA, held)
        page = write_plan(out)
    if as_json:
        _print(points if swept else points[0])
        return
    if as_markdown:
        from assay.report.plan import SWEPT, markdown, sweep_rows

        typer.echo(markdown(SWEPT, sweep_rows(points)), nl=False)
        return
    from assay.cli.plan_view import show, show_sweep

    if swept:
        show_sweep(points, page)
    else:
        show(points[0], page)


def _check(as_json: bool, as_markdown: bool) -> None:
    """Published runs beside their estimates."""
    from dataclasses import asdict

    from assay.spec.plan.published import compare

    rows = [
        {
            "model": one.run.model, "parameters": one.parameters, "machine": one.run.machine,
            "gpus": one.run.layout.gpus, "layout": asdict(one.run.layout), "published": one.run.published,
            "estimate": one.estimate, "deviation": one.deviation, "mfu": one.found.mfu,
            "published_mfu": one.published_mfu, "memory": one.found.memory.total, "fits": one.found.fits,
            "said": one.run.said, "source": one.run.source, "laid_out": one.run.laid_out,
        }
        for one in compare()
    ]  # fmt: skip
    if as_json:
        _print(rows)
    elif as_markdown:
        from assay.report.plan import CHECKED, check_rows, markdown

        typer.echo(markdown(CHECKED, check_rows(rows)), nl=False)
    else:
        from assay.cli.plan_view import show_check

        show_check(rows)


def _switch(said: str) -> bool | None:
    from assay.errors import UserError, did_you_mean

    known = {"auto": None, "on": True, "off": False}
    if said not in known:
        raise UserError(f"--checkpointing {said}: is none of the three.", did_you_mean(said, known))
    return known[said]


def _counts(said: str) -> list[int]:
    from assay.errors import UserError

    try:
        counts = [int(part) for part in said.split(",")]
    except ValueError:
        raise UserError(f"--sweep {said}: is no list of whole numbers.", "Give such as 1,8,64,512.") from None
    wrong = [n for n in counts if n < 1]
    if wrong:
        raise UserError(f"--sweep {said}: {wrong[0]} is below 1.", "Give numbers from 1 on.")
    return sorted(dict.fromkeys(counts))


def _print(data: object) -> None:
    import json

    print(json.dumps(data, indent=2))
