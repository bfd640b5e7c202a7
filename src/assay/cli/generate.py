"""`assay generate`: a model continues a prompt, its text printed as it grows."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from assay.cli.device import device_option
from assay.cli.main import examples

EXAMPLES = examples(
    'assay generate path/to/model "The capital of France is"',
    'assay generate OUT/runs/1a2b3c4d5e6f7788 "Once upon a time" --sample --temperature 0.8 --top-p 0.95 --seed 1',
    'assay generate path/to/model "Name three rivers." --chat --max-new-tokens 200',
    "# the prompt from a file",
    "assay generate path/to/model - < prompt.txt",
)


def run(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder with weights: published, saved by assay, or a run's.")
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to continue; - reads it from stdin.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Stop after so many tokens.")] = 128,
    sample: Annotated[bool, typer.Option("--sample", help="Draw each token; else the likeliest is taken.")] = False,
    temperature: Annotated[float, typer.Option(metavar="T", help="With --sample: flatter above 1.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(metavar="K", help="With --sample: of the K likeliest.")] = None,
    top_p: Annotated[float | None, typer.Option(metavar="P", help="With --sample: of this share.")] = None,
    min_p: Annotated[
        float | None, typer.Option(metavar="P", help="With --sample: at least P times as likely as the likeliest.")
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option("--repeat-penalty", metavar="R", help="Above 1: say things less often.")
    ] = 1.0,
    beams: Annotated[int, typer.Option(min=1, metavar="N", help="Beam search with so many hypotheses.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Stop before this text; may repeat.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="With --sample: of the draws.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on past an end token.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a user's message to the chat template.")] = False,
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="Of the weights: float32, bfloat16, float16.")] = "float32",
    device: Annotated[str, device_option()] = "cpu",
) -> None:
    """Let a model continue a prompt.

    The answer is printed as it grows, and nothing else: it can be piped.
    """
    import assay

    text = sys.stdin.read() if prompt == "-" else prompt
    model = assay.load(source, dtype=dtype, device=device)
    how: dict[str, Any] = {
        "max_new_tokens": max_new_tokens, "do_sample": sample, "temperature": temperature, "top_k": top_k,
        "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty, "num_beams": beams,
        "stop": stop or None, "seed": seed, "ignore_eos": ignore_eos, "stream": None if beams > 1 else tell,
    }  # fmt: skip
    if chat:
        answer: str | list[str] = model.chat([{"role": "user", "content": text}], **how)
    else:
        answer = model.generate_text(text, **how)
    print(answer if beams > 1 else "")


def tell(piece: str) -> None:
    """Print a piece at once."""
    print(piece, end="", flush=True)
