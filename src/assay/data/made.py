"""Corpora that are made here: named in `DataSpec.source`, so that a run's hash says all of its text.

    made:addition
    made:addition+recall:items=40000:seed=1:sizes=5

`made:`, one name or several joined by `+`, then settings after colons. Every task of `data.items` has a corpus:
its items' prompts and answers, a line to an answer, as evaluation asks them, from the train part alone, so that no
test prompt is ever learned. The same name gives the same text everywhere; nothing is read or downloaded.

A document is one item, as it is asked: the model sees the prompt at a text's beginning and the end behind the answer.
Half of the items stand in sheets instead, many a document, since held-out loss is measured on windows of 1,024 bytes.

To add a corpus that is no task: a function from `Settings` to documents, and a line in `MADE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.data.corpus import Corpus
from assay.data.items import GENERATED, part_of
from assay.data.planted import planted
from assay.data.topics import topics
from assay.errors import UserError, did_you_mean

__all__ = ["MADE", "PREFIX", "Made", "Settings", "made"]

PREFIX = "made:"
SHEET = 1536
"""Bytes that a sheet has at the least."""


@dataclass(frozen=True)
class Settings:
    """What stands behind the colons; one that is not given has its default."""

    items: int = 20_000
    """Items in all, shared evenly among the names."""
    seed: int = 0
    """Of the draws."""
    sizes: tuple[int, ...] = ()
    """Of a task's items, such as digits, joined by commas; none: the task's own."""


@dataclass(frozen=True)
class Made:
    """One corpus."""

    say: str
    """What it is, in a sentence."""
    make: Callable[[Settings], list[str]]
    """Its documents."""


def _task(name: str, settings: Settings) -> list[str]:
    """Items of a task; the first half each a document, the rest in sheets."""
    maker = GENERATED[name]
    sizes = maker.check(settings.sizes)
    rng = np.random.default_rng([settings.seed, 1, *name.encode()])
    lines: list[str] = []
    while len(lines) < settings.items:
        prompt, answer, _ = maker.draw(rng, sizes[len(lines) % len(sizes)])
        if part_of(prompt) == "train":
            lines.append(f"{prompt} {answer}\n")
    single, rest = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    return single + _sheets(rest)


def _sheets(lines: list[str]) -> list[str]:
    """Lines joined into documents of SHEET bytes or more; what is left over joins the last."""
    sheets: list[str] = []
    held = ""
    for line in lines:
        held += line
        if len(held.encode()) >= SHEET:
            sheets.append(held)
            held = ""
    if held and sheets:
        sheets[-1] += held
    elif held:
        sheets.append(held)
    return sheets


def _sentences(draw: Callable[[int, int], list[str]], settings: Settings) -> list[str]:
    """A corpus whose items are sentences, which have no sizes."""
    if settings.sizes:
        raise UserError("sizes: belongs to made tasks, and this corpus is none.", "Leave sizes out.")
    return draw(settings.items, settings.seed)


MADE: dict[str, Made] = {name: Made(maker.say, partial(_task, name)) for name, maker in GENERATED.items()}
"""Name to corpus."""
MADE["planted"] = Made("Sentences with a planted skew and planted secrets.", partial(_sentences, planted))
MADE["topics"] = Made("Documents of invented words, each with a topic and a mood.", partial(_sentences, topics))


def made(source: str) -> Corpus:
    """The corpus that `made:...` names.

    Raises:
        UserError: an unknown name or setting, or a value that cannot be; naming it.
    """
    body = source.removeprefix(PREFIX)
    head, *given = body.split(":")
    names = head.split("+")
    for name in names:
        if name not in MADE:
            raise UserError(f"{source}: there is no made corpus {name!r}.", did_you_mean(name, MADE))
    settings = _settings(source, given)
    share, left = divmod(settings.items, len(names))
    documents: list[str] = []
    for number, name in enumerate(names):
        own = Settings(share + (number < left), settings.seed, settings.sizes)
        documents += MADE[name].make(own)
    return Corpus(documents, name=f"made: {body}", source=source)


def _settings(source: str, given: list[str]) -> Settings:
    found: dict[str, int | tuple[int, ...]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if name not in ("items", "seed", "sizes") or not equals:
            raise UserError(
                f"{source}: {text!r} is no setting.", "Give items=NUMBER, seed=NUMBER or sizes=NUMBER,NUMBER..."
            )
        try:
            numbers = tuple(int(part) for part in value.split(","))
        except ValueError:
            raise UserError(f"{source}: {name} = {value!r} is no whole number.", f"Give {name}=5.") from None
        if name != "sizes" and len(numbers) != 1:
            raise UserError(f"{source}: {name} = {value!r} is not one number.", f"Give {name}={numbers[0]}.")
        if min(numbers) < (0 if name == "seed" else 1):
            raise UserError(f"{source}: {name} = {value} is too small.", "Give a positive number.")
        found[name] = numbers if name == "sizes" else numbers[0]
    return Settings(**found)  # type: ignore[arg-type]
