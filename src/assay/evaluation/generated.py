"""Tasks that are made here, with exact answers: nothing is downloaded, and no model has seen them.

Items are drawn from (name, seed) alone. An item belongs to the train, valid or test part by its prompt's content, so
the parts never share one. Each item also has four answers to choose from: exact match says little of a small model,
the choice and the answer's nats say more. The four differ in one place alone, and which of them is right is a matter
of the prompt: whoever does not read it is right a quarter of the time. (Wrong answers that each change the right one
somewhere else would make it the hub that beats all others in an eighth of the cases only.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.data.items import GENERATED, Maker, part_of
from assay.errors import UserError, did_you_mean
from assay.evaluation.tasks import Item, Task

__all__ = ["GENERATED", "Maker", "continuation_task", "generated_task"]


def generated_task(
    name: str, count: int, *, seed: int = 0, part: str = "test", sizes: Sequence[int] | None = None
) -> Task:
    """`count` items of a made task, spread evenly over its sizes; fewer where there are not so many different ones.

    Args:
        name: one of `GENERATED`.
        count: items.
        seed: of the draws.
        part: train, valid or test: three sets of prompts that never meet.
        sizes: of the items; None: the task's own.

    Raises:
        UserError: no such task, or a size that it has not.
    """
    if name not in GENERATED:
        raise UserError(f"task {name!r} is not known.", did_you_mean(name, GENERATED))
    assert part in ("train", "valid", "test"), part
    maker = GENERATED[name]
    sizes = maker.check(sizes)
    rng = np.random.default_rng([seed, *name.encode()])
    items: list[Item] = []
    for index, size in enumerate(sizes):
        wanted = (count - len(items)) // (len(sizes) - index)
        seen: set[str] = set()
        for _ in range(60 * wanted + 200):  # small sizes run out of different prompts
            if len(seen) >= wanted:
                break
            prompt, answer, wrong = maker.draw(rng, size)
            if prompt in seen or part_of(prompt) != part:
                continue
            seen.add(prompt)
            group = f"{size} {maker.unit if size == 1 else _plural(maker.unit)}"
            items.append(Item(prompt, f" {answer}", _choices(rng, answer, wrong), group))
    return Task(name, tuple(items), maker.say, written=True, facts={"seed": seed, "part": part})


def _plural(unit: str) -> str:
    return f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"


def _choices(rng: np.random.Generator, answer: str, wrong: Sequence[str]) -> tuple[str, ...]:
    """The answer and up to three different wrong ones, in random order."""
    others = list(dict.fromkeys(w for w in wrong if w != answer))[:3]
    found = [answer, *others]
    return tuple(f" {found[i]}" for i in rng.permutation(len(found)))


def continuation_task(
    documents: Sequence[str], count: int, *, seed: int = 0, prompt_bytes: int = 256, answer_bytes: int = 64
) -> Task:
    """Which of four passages goes on the text: what language modelling alone should teach.

    A passage is cut at white space; the three wrong answers are passages of the same text set that follow other
    prompts. Chance is 25%.

    Raises:
        UserError: the texts are too short for any passage.
    """
    from assay.data.windows import cut_windows

    size = prompt_bytes + answer_bytes
    passages = []
    for document in documents:
        for first, second in cut_windows(document, 2 * prompt_bytes):
            answer = second.encode()[:answer_bytes].decode(errors="ignore").rpartition(" ")[0]
            if answer.strip() and first.strip():
                passages.append((first, answer))
    if len(passages) < 4:
        raise UserError(
            f"the texts hold {len(passages)} passages of {size} bytes, and a choice needs 4.", "Give more text."
        )
    rng = np.random.default_rng([seed, 7])
    chosen = rng.permutation(len(passages))[:count]
    items = []
    for number in chosen:
        prompt, answer = passages[number]
        others = [passages[i][1] for i in rng.permutation(len(passages)) if passages[i][1] != answer][:3]
        found = [answer, *others]
        items.append(Item(prompt, answer, tuple(found[i] for i in rng.permutation(len(found)))))
    return Task("continuation", tuple(items), "Which of four passages goes on the text.")
