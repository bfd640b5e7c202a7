"""How `assay inspect` looks in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from assay.cli.numbers import count, flops
from assay.cli.parts import lines, tree
from assay.report.format import memory
from assay.spec.axes import Family, PositionKind
from assay.spec.model import ModelSpec

__all__ = ["sentence", "show"]

PART_NAMES = {"pairs": "attention scores", "cross_attention": "cross-attention", "feedforward": "feed-forward"}


def show(spec: ModelSpec, facts: dict[str, Any], *, full: bool) -> None:
    """Print everything."""
    console = Console(highlight=False)
    console.print(f"[bold]{spec.name or spec.family}[/bold]  [dim]spec {facts['hash']}[/dim]")
    console.print(sentence(spec))
    if "files" in facts:
        console.print(facts["files"]["said"], style="dim", markup=False)
    for title, table in (
        ("Parts", _parts(spec, full)),
        ("Parameters", _parameters(facts)),
        (f"FLOPs per token at {' + '.join([format(facts['length'], ',')] * len(spec.stacks))} tokens", _flops(facts)),
        ("Memory", _memory(facts)),
    ):
        console.print()
        console.print(Rule(title, align="left", style="dim"))
        console.print(table)
    _pictures(console, spec)
    if full:
        console.print()
        console.print(Rule("Spec", align="left", style="dim"))
        console.print(spec.to_toml(full=True), markup=False)


def sentence(spec: ModelSpec) -> str:
    """The model in a sentence or two."""
    kinds = {
        Family.causal: "Causal decoder",
        Family.prefix: "Prefix decoder",
        Family.encoder: "Encoder",
        Family.encoder_decoder: "Encoder-decoder",
    }
    stack = spec.output_stack
    depth = " + ".join(str(spec.depth(name)) for name in spec.stacks)
    heads, kv = spec.heads(stack), spec.kv_heads(stack)
    shared = "" if kv == heads else f" over {kv} key-value head{'s' * (kv > 1)}"
    network = f"{'gated ' if spec.feedforward.gated else ''}{spec.feedforward.activation}"
    if spec.feedforward.experts:
        network = f"{spec.feedforward.experts.active} of {spec.feedforward.experts.count} experts, {network}"
    positions = {PositionKind.none: "no positions", PositionKind.relative: "relative bias"}.get(
        spec.positions.kind, f"{spec.positions.kind} positions"
    )
    together = "" if spec.parallel == "none" else ", attention and feed-forward in parallel"
    return (
        f"{kinds[spec.family]}: {depth} layers of width {spec.width:,}, "
        f"{heads} heads of {spec.head_width(stack)}{shared}, feed-forward {spec.feedforward_width(stack):,} "
        f"({network}), vocabulary {spec.vocab_size:,}, "
        f"context {spec.context:,}. {str(spec.placement.kind).capitalize()} {spec.norm.kind}{together}, {positions}, "
        f"output matrix {'tied' if spec.head.tied else 'untied'}."
    )


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(columns), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=number == 0)
    return table


def _parts(spec: ModelSpec, full: bool) -> Table:
    table = _grid("part", "shape", "parameters")
    for name, shape, size in lines(tree(spec, full=full)):
        table.add_row(name, shape, count(size))
    return table


def _parameters(facts: dict[str, Any]) -> Table:
    table = _grid("part", "parameters", "share")
    total = facts["parameters"]["total"]
    for part, size in facts["parameters"].items():
        if part != "total":
            table.add_row(PART_NAMES.get(part, part), f"{size:,}", f"{size / total:.1%}")
    table.add_row("[bold]total[/bold]", f"[bold]{total:,}[/bold]", "")
    if facts["active_parameters"] != total:
        table.add_row("active per token", f"{facts['active_parameters']:,}", "")
    return table


def _flops(facts: dict[str, Any]) -> Table:
    table = _grid("part", "forward", "training")
    per_token = facts["flops_per_token"]
    for part, value in per_token["by_part"].items():
        table.add_row(PART_NAMES.get(part, part), flops(value), flops(3 * value))
    table.add_row("[bold]total[/bold]", *(f"[bold]{flops(per_token[k])}[/bold]" for k in ("forward", "training")))
    return table


def _memory(facts: dict[str, Any]) -> Table:
    table = _grid("what", *facts["memory_bytes"])
    names = {
        "weights": "weights",
        "gradients": "gradients",
        "optimizer": "optimizer (AdamW)",
        "training": "[bold]training, without activations[/bold]",
        "cache_per_token": "key-value cache a token",
        "cache": f"key-value cache of {facts['length']:,}",
    }
    for key, name in names.items():
        found = [held[key] for held in facts["memory_bytes"].values() if key in held]
        if found:
            table.add_row(name, *map(memory, found))
    return table


def _pictures(console: Console, spec: ModelSpec) -> None:
    from assay.report.blocks import blocks_of
    from assay.report.masks import masks_of, terminal

    for mask in masks_of(spec):
        console.print()
        console.print(Rule(f"Mask: {mask.title}", align="left", style="dim"))
        console.print(terminal(mask.mask, mask.queries, mask.keys, width=console.width))
    for block in blocks_of(spec):
        console.print()
        console.print(Rule(block.title, align="left", style="dim"))
        console.print(block.terminal(width=console.width))
