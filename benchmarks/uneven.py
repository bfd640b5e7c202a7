"""Documents of real, uneven lengths, and batches of them as transformers' users make them: padded to the longest.

The built-in corpus (this Python's own prose) in three forms: `documents`, each cut off at what a row takes, as
`truncation=True` does; `pieces`, all of each document, in pieces of a row; `paragraphs`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.data.stdlib import stdlib
from assay.data.tokenizer import train_tokenizer
from assay.objectives import Examples, Objective, Texts, Vocabulary
from assay.spec.data import TokenizerSpec
from benchmarks import measure
from benchmarks.result import Result
from benchmarks.rows import limit_row, of_rate_summary, of_summary

FORMS = ("documents", "pieces", "paragraphs")
IGNORED = -100
"""The label that transformers' loss leaves out."""


def real_texts(vocab_size: int, most: int, form: str) -> tuple[list[np.ndarray], Vocabulary]:
    """Token ids of each document, at most `most` of them and at least 8, in an order that says nothing; the vocabulary.

    Args:
        vocab_size: the tokenizer's; what the corpus cannot fill is left empty.
        most: raw tokens that a row takes.
        form: one of `FORMS`.
    """
    corpus = stdlib()
    tokenizer = train_tokenizer(TokenizerSpec(vocab_size=vocab_size), corpus)
    texts = list(corpus.documents)
    if form == "paragraphs":
        texts = [part for text in texts for part in text.split("\n\n")]
    found = []
    for ids in tokenizer.encode_batch(texts):
        stop = most if form == "documents" else len(ids)
        found += [ids[i : min(i + most, stop)] for i in range(0, stop, most)]
    found = [ids for ids in found if len(ids) >= 8]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order], tokenizer.vocabulary


def examples_of(objective: Objective, texts: list[np.ndarray]) -> Examples:
    """One example of each text, by the number of its place."""
    lengths = np.array([len(ids) for ids in texts])
    return objective.examples(
        Texts(np.concatenate(texts), lengths, np.arange(len(texts)), np.ones(len(texts), dtype=bool), seed=0)
    )


def padded(rows: list[np.ndarray], fill: int, length: int | None = None) -> Tensor:
    """[rows, length] ids, `fill` behind them; to the longest row where no length is given."""
    table = np.full((len(rows), length or max(map(len, rows))), fill, dtype=np.int64)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(table)


@dataclass(frozen=True)
class Counted:
    """A step that works on several batches in turn."""

    steps: list[Callable[[], Any]]
    """One each batch."""
    useful: list[int]
    """Positions that are not padding, of each."""
    compiled: bool = False
    """Whether masks of another kind compile anew: then each batch has its turn before anything is timed."""


def rates(contenders: dict[str, Counted], seconds: float) -> dict[str, list[float]]:
    """Useful tokens a second, round robin: in each round every contender works on its next two batches."""
    for given in contenders.values():
        for step in given.steps if given.compiled else given.steps[:1]:
            step()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    end, rounds = measure.clock() + seconds, 0
    while rounds < 4 or measure.clock() < end:
        for name, given in contenders.items():
            numbers = [(2 * rounds + i) % len(given.steps) for i in range(2)]
            begin = measure.clock()
            for number in numbers:
                given.steps[number]()
            found[name].append(sum(given.useful[i] for i in numbers) / (measure.clock() - begin))
        rounds += 1
    return found


def rate_summary(found: dict[str, list[float]], reference: str) -> dict[str, Any]:
    """Per contender: useful tokens a second, and how many times the reference's rate over it."""
    return {
        name: {
            "useful_tokens_per_second": measure.quartiles(values),
            "times": measure.quartiles([r / v for r, v in zip(found[reference], values, strict=True)]),
            "rounds": len(values),
        }
        for name, values in found.items()
    }


def lines(summary: dict[str, Any], reference: str) -> list[str]:
    """For the screen."""
    out = [f"useful tokens a second, and how many times that {reference} makes"]
    for name, row in summary.items():
        rate, times = row["useful_tokens_per_second"], row["times"]
        out.append(
            f"{name:36s} {rate['median']:8.0f} [{rate['low']:.0f} {rate['high']:.0f}]  "
            f"x{times['median']:.2f} [{times['low']:.2f} {times['high']:.2f}]"
        )
    return out


def timed_lines(summary: dict[str, Any], reference: str) -> list[str]:
    """The same of `measure.summary`."""
    out = [f"a step, and how many times as long as {reference}'s it takes"]
    for name, row in summary.items():
        ratio, share = row["speed_ratio"], row["fraction"]
        out.append(
            f"{name:36s} {1e3 * row['seconds']['median']:8.1f} ms  "
            f"x{1 / ratio['median']:.3f} [{1 / ratio['high']:.3f} {1 / ratio['low']:.3f}]  "
            + "  ".join(f"{limit} {value:.3f}" for limit, value in share.items())
        )
    return out


def show(result: dict[str, Any]) -> None:
    """Both comparisons of a benchmark, as far as they were made."""
    if result["equal shape"]:
        print("\n".join(timed_lines(result["equal shape"], f"assay/{result['own']}")))
    if result["uneven documents"]:
        print("padding: " + ", ".join(f"{name} {share:.3f}" for name, share in result["padding"].items()))
        print("\n".join(lines(result["uneven documents"], f"assay/{result['own']}, packed")))


def forms(own: str, alone: bool) -> tuple[str, ...]:
    """Forms of assay's model that are timed, its own, which it has by default at its width, first."""
    return (own,) if alone else (own, "eager" if own == "compiled" else "compiled")


def arguments(seconds: float, long: bool, **changes: Any) -> argparse.Namespace:
    """The suite's choice: `seconds` are shared by the two comparisons; long: more documents, both forms of assay."""
    given = {
        "threads": 2, "documents": "documents", "rows": 256 if long else 64, "busy": False, "part": "both",
        "own_form_alone": not long,
    }  # fmt: skip
    return argparse.Namespace(**(given | {"seconds": seconds / 2} | changes))


def results(found: dict[str, Any], name: str, title: str, shape: str) -> list[Result]:
    """The suite's form: at equal unpadded shape, and on uneven documents."""
    threads, own = f"float32, AdamW, {found['threads']} threads", f"assay/{found['own']}"
    equal = Result(
        f"{name}-equal", f"{title}, no padding", "training", f"{shape}; {threads}", "ms a step",
        limit="the step's FLOPs, attention over all pairs, at the rate of 2048 x 2048 products in the same round",
    )  # fmt: skip
    real = Result(
        f"{name}-uneven", f"{title}, documents of uneven lengths", "training",
        f"{shape}; {threads}; the built-in corpus's {found['documents']}", "useful tokens a second",
        more_is_better=True,
    )  # fmt: skip
    if timed := found["equal shape"]:
        equal.rows = [
            *of_summary(timed, own, "square_rate_full"),
            limit_row("square products", 1e3 * found["limit"]),
        ]
        equal.rounds = timed[own]["rounds"]
    if rated := found["uneven documents"]:
        real.rows = of_rate_summary(rated, f"{own}, packed")
        real.rounds = rated[f"{own}, packed"]["rounds"]
        shares = ", ".join(f"{who} {share:.1%}" for who, share in found["padding"].items())
        real.notes.append(
            f"Padding: {shares}. transformers compiled pads to the full row, since other shapes compile anew."
        )
    equal.checks = real.checks = found["checks"]
    return [equal, real]


def main(says: str, run: Callable[[argparse.Namespace], dict[str, Any]], *flags: str) -> None:
    """The command line of a benchmark that compares equal shapes and uneven documents.

    Args:
        says: the module's docstring.
        run: from arguments to what `show` takes.
        flags: names of its own switches.
    """
    parser = argparse.ArgumentParser(description=says, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the two comparisons")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--documents", choices=FORMS, default="documents")
    parser.add_argument("--rows", type=int, default=256, help="documents that are used")
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--busy", action="store_true", help="one thread and its own time, beside other work")
    parser.add_argument("--part", choices=("both", "equal", "uneven"), default="both")
    parser.add_argument("--own-form-alone", action="store_true", help="assay as it goes by default at this width")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = run(args)
    show(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1, default=vars))
