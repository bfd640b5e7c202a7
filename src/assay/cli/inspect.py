"""`assay inspect`: what a description says, counted and drawn without building anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.main import examples

if TYPE_CHECKING:
    from assay.spec.model import ModelSpec

EXAMPLES = examples(
    "assay inspect gpt3",
    "assay inspect llama3.1-8b --length 131072",
    "assay inspect my_model.toml --full",
    "assay inspect OUT/runs/1a2b3c4d5e6f7788",
    "# a published checkpoint, or its configuration alone",
    "assay inspect path/to/Llama-2-7b-hf",
    "assay inspect path/to/config.json",
    "assay inspect baichuan/ --hint position=alibi",
    "# a batch that training stopped at or left out",
    "assay inspect OUT --batch 120",
    "# for other programs",
    "assay inspect t5-xxl --json",
)


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A preset (gpt2, llama-7b ...), a TOML or JSON spec, a run's folder, a published checkpoint's folder "
            "or configuration, a .gguf file, a hub id.",
        ),
    ],
    length: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="TOKENS", show_default=False, help="Length to count FLOPs and cache at. Default: context."
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Print every layer, and every field of the spec.")] = False,
    hint: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", show_default=False, help="What a published configuration cannot tell."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="STEP",
            show_default=False,
            help="Of a run: show the batch that it stopped at or left out at this step.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's parts, parameters, FLOPs, memory, masks and blocks.

    Everything is counted from the description alone: no weights are made or read, so any size takes a moment. Of a
    checkpoint's files it reads the configuration and headers.
    """
    if batch is not None:
        from assay.cli.bad_batch import show_batch

        show_batch(source, batch, full=full, as_json=as_json)
        return
    from assay.cli.source import hints
    from assay.published.summary import look

    spec, files = look(source, hints(hint))
    if files is not None and not spec.name:
        spec = spec.model_copy(update={"name": files.name})
    facts = gather(spec, length or spec.context, full=full)
    if files is not None:
        facts["files"] = files.to_dict() | {"said": str(files)}
    if as_json:
        import json

        print(json.dumps(facts, indent=2))
        return
    from assay.cli.inspect_view import show

    show(spec, facts, full=full)


def gather(spec: ModelSpec, length: int, *, full: bool = False) -> dict[str, Any]:
    """All that `inspect` says in numbers, as plain data."""
    from assay.cli.parts import tree
    from assay.spec.axes import Family
    from assay.spec.memory import cache_bytes, state_bytes

    parameters = spec.parameters()
    forward, training = spec.flops(length), spec.flops(length, training=True)
    memory: dict[str, Any] = {}
    for dtype in ("float32", "bfloat16"):
        state = state_bytes(spec, dtype)
        memory[dtype] = {
            "weights": state.weights,
            "gradients": state.gradients,
            "optimizer": state.optimizer,
            "training": state.total,
        }
        if spec.family is not Family.encoder:
            encoder = length if len(spec.stacks) == 2 else 0
            memory[dtype] |= {
                "cache_per_token": cache_bytes(spec, 1, dtype),
                "cache": cache_bytes(spec, length, dtype, encoder_length=encoder),
            }
    return {
        "name": spec.name,
        "hash": spec.hash,
        "family": str(spec.family),
        "spec": spec.to_dict(full=full),
        "parameters": {"total": int(parameters), **parameters.parts},
        "active_parameters": active(spec),
        "length": length,
        "flops_per_token": {
            "forward": forward.per_token,
            "training": training.per_token,
            "by_part": {part: value / forward.tokens for part, value in forward.parts.items()},
        },
        "memory_bytes": memory,
        "tree": tree(spec, full=full).to_dict(),
    }


def active(spec: ModelSpec) -> int:
    """Parameters that one token goes through: of a mixture, the active experts' only."""
    from assay.spec.parameters import layout

    experts = spec.feedforward.experts
    if experts is None:
        return int(spec.parameters())
    mixed = sum(parameter.size for parameter in layout(spec) if ".experts." in parameter.name)
    return int(spec.parameters()) - mixed + mixed * experts.active // experts.count
