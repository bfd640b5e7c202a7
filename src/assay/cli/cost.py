"""`assay cost`: FLOPs, memory, time, energy, CO2 and money of a model, each assumption shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.main import examples

if TYPE_CHECKING:
    from assay.spec.model import ModelSpec

EXAMPLES = examples(
    "assay cost gpt3 --tokens 300e9 --hardware v100-32gb",
    "assay cost llama-7b --tokens 1e12 --devices 256 --utilisation 0.5 --price 1.2 --carbon 0.06",
    "assay cost t5-11b --tokens 1e12 --length 512 --decoder-length 114",
    "# time of answering: 8 prompts of 1,000 tokens, 200 new ones each",
    "assay cost llama3-8b --hardware h100 --prompt 1000 --new 200 --batch 8",
    "# the encoder-decoder with as many parameters, or with answers of as many FLOPs",
    "assay cost llama-7b --partner encoder_decoder --equal parameters",
    "assay cost llama-7b --partner encoder_decoder --equal flops --prompt 1000 --new 200",
    "# how far the estimates lie from published runs",
    "assay cost --check",
)


def run(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SPEC", help="A preset (gpt3, llama-7b ...), a TOML or JSON spec, a run's folder."),
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(metavar="N", show_default=False, help="Training tokens, such as 300e9.")
    ] = None,
    machine: Annotated[
        str, typer.Option("--hardware", metavar="NAME", help="v100-32gb, a100-80gb, h100-80gb, tpu-v4 ...")
    ] = "a100-80gb",
    devices: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default=False, help="Default: as few as hold the training.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default=False, help="Tokens a sequence. Default: context.")
    ] = None,
    decoder_length: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False, help="Of an encoder-decoder. Default: a quarter."),
    ] = None,
    targets: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False, help="Positions with a loss in a sequence. Default: all."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of weights, gradients and activations.")] = "bfloat16",
    sequences: Annotated[int, typer.Option(min=1, metavar="N", help="At once on a device, for activations.")] = 1,
    prompt: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of a request.")] = 512,
    new: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of its answer.")] = 128,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Requests at once.")] = 1,
    utilisation: Annotated[
        float | None, typer.Option(metavar="SHARE", show_default=False, help="Of the peak, by the model's own FLOPs.")
    ] = None,
    peak: Annotated[
        float | None, typer.Option(metavar="FLOP/S", show_default=False, help="Of 16-bit products.")
    ] = None,
    bandwidth: Annotated[float | None, typer.Option(metavar="BYTES/S", show_default=False, help="Of memory.")] = None,
    memory: Annotated[float | None, typer.Option(metavar="BYTES", show_default=False, help="Of a device.")] = None,
    power: Annotated[float | None, typer.Option(metavar="WATTS", show_default=False, help="Of a device.")] = None,
    pue: Annotated[
        float | None, typer.Option(show_default=False, help="Power of the whole centre over that of its computers.")
    ] = None,
    carbon: Annotated[
        float | None, typer.Option(metavar="KG/KWH", show_default=False, help="CO2e of the grid.")
    ] = None,
    price: Annotated[
        float | None, typer.Option(metavar="DOLLARS", show_default=False, help="Of a device for an hour.")
    ] = None,
    decode_share: Annotated[
        float | None, typer.Option(metavar="SHARE", show_default=False, help="Of the bandwidth, while decoding.")
    ] = None,
    partner: Annotated[
        str | None,
        typer.Option(metavar="FAMILY", show_default=False, help="Find the model of that family that costs the same."),
    ] = None,
    equal: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT", show_default=False, help="With --partner: parameters (default), or flops of an answer."
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with published runs instead.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default=False, help="Also write cost.json and report.html there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate FLOPs, memory, time, energy, CO2 and money of a model.

    For training and for use, counted from the description alone, memory by part. Every assumption is
    printed with its source, and has an option that overrides it.
    """
    from dataclasses import asdict

    from assay.cli.cost_view import show, show_check
    from assay.errors import UserError
    from assay.spec.cost import cost
    from assay.spec.cost_check import compare_published

    if out is not None and out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    if check:
        rows = compare_published()
        if as_json:
            _print([{**asdict(r), "deviation": r.deviation, "blind_deviation": r.blind_deviation} for r in rows])
        else:
            show_check(rows)
        return
    if source is None:
        raise UserError("SPEC is missing.", "Give a preset such as gpt3, a spec file, or --check.")
    from assay.published.source import resolve

    if partner is not None:
        if out is not None:
            raise UserError(
                "--out: holds estimates, and a partner is printed.", "Leave it out, or redirect the output."
            )
        _partner(resolve(source), partner, equal or "parameters", prompt, new, as_json)
        return
    if equal is not None:
        raise UserError(
            f"--equal {equal}: says in what a partner is equal.", "Give --partner FAMILY too, such as encoder_decoder."
        )
    found = cost(
        resolve(source), machine=machine, tokens=tokens, length=length, decoder_length=decoder_length, targets=targets,
        devices=devices, dtype=dtype, sequences=sequences, prompt=prompt, new=new, batch=batch,
        utilisation=utilisation, peak=peak, bandwidth=bandwidth, memory=memory, power=power, pue=pue, carbon=carbon,
        price=price, decode_share=decode_share,
    )  # fmt: skip
    page = None
    if out is not None:
        from assay.report.cost import DATA, write_cost
        from assay.runs import provenance, write_json

        held = {"schema_version": 1, "kind": "cost", "cost": found.to_dict(), "provenance": provenance()}
        write_json(out / DATA, held)
        page = write_cost(out)
    if as_json:
        _print(found.to_dict())
    else:
        show(found, page)


def _partner(spec: ModelSpec, family: str, equal: str, prompt: int, new: int, as_json: bool) -> None:
    """Print the model of another family that costs the same, as a sentence and as a spec file."""
    from assay.errors import UserError, did_you_mean
    from assay.spec.partner import partner

    kinds = {"parameters": "parameters", "flops": "inference"}
    if equal not in kinds:
        raise UserError(f"--equal {equal}: cannot be equal.", did_you_mean(equal, kinds) or "Give parameters or flops.")
    found = partner(spec, family, match=kinds[equal], prompt=prompt, new=new)
    if as_json:
        _print(
            {
                "model": spec.name, "family": str(found.spec.family), "equal": equal, "wanted": found.wanted,
                "reached": found.reached, "mismatch": found.mismatch, "prompt": prompt, "new": new,
                "parameters": int(found.spec.parameters()), "spec": found.spec.to_dict(),
            }
        )  # fmt: skip
        return
    typer.echo(f"# {found}")
    typer.echo(found.spec.to_toml().rstrip())


def _print(data: object) -> None:
    import json

    print(json.dumps(data, indent=2))
