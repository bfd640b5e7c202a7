"""A task is a list of items in text: a prompt, the right answer, and the answers to choose from where there are any.

Whatever its origin (made here, or a user's labelled file), the same measures are taken of it, in every family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from assay.data.items import part_of
from assay.errors import UserError

__all__ = ["Item", "Task", "Three", "part_of", "three_parts"]


@dataclass(frozen=True)
class Item:
    """One question."""

    prompt: str
    """What the model is given."""
    answer: str
    """What is right, as it would stand behind the prompt: with the space that separates the two."""
    choices: tuple[str, ...] = ()
    """Answers to choose from, the right one among them; empty: the answer has to be written."""
    group: str = ""
    """What results are told apart by, such as "3 digits"."""
    where: str = ""
    """Its place in a file, for messages."""

    @property
    def gold(self) -> int:
        """The place of the right answer among the choices."""
        return self.choices.index(self.answer)


@dataclass(frozen=True)
class Task:
    """Items with a name."""

    name: str
    items: tuple[Item, ...]
    description: str = ""
    labels: tuple[str, ...] = ()
    """Classes, where all items choose among the same."""
    stop: tuple[str, ...] = ("\n",)
    """Texts that end a written answer."""
    written: bool = False
    """Whether answers are written and compared besides being chosen."""
    facts: dict[str, object] = field(default_factory=dict, compare=False)
    """Where it comes from, for the report."""

    def __len__(self) -> int:
        return len(self.items)

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing among the choices; None where answers are written."""
        if not self.items or not self.items[0].choices:
            return None
        return sum(1 / len(item.choices) for item in self.items) / len(self.items)


@dataclass(frozen=True)
class Three:
    """A labelled set in parts that share no prompt."""

    train: Task
    valid: Task
    """For early stopping and choices."""
    test: Task
    """For the numbers that are told."""


def three_parts(task: Task, *, valid: float = 0.1, test: float = 0.2) -> Three:
    """A task cut in three by the content of its prompts.

    Raises:
        UserError: too few items for three parts.
    """
    parts: dict[str, list[Item]] = {"train": [], "valid": [], "test": []}
    for item in task.items:
        parts[part_of(item.prompt, valid, test)].append(item)
    empty = [name for name, items in parts.items() if not items]
    if empty:
        raise UserError(
            f"{task.name}: {len(task)} examples are too few: none falls into the {empty[0]} part.",
            "Give more examples, or files of their own for testing.",
        )
    return Three(*(_with(task, parts[name]) for name in ("train", "valid", "test")))


def _with(task: Task, items: Sequence[Item]) -> Task:
    return Task(task.name, tuple(items), task.description, task.labels, task.stop, task.written, task.facts)
