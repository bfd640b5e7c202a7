"""Batches whose step was not applied, kept in the run's folder to be looked at: arrays without pickle, and facts.

OUT/bad_batches/step-N.npz     tokens, targets, weights, positions, documents, prefix, of both sides
OUT/bad_batches/step-N.json    step, seed, epoch, place, reason, loss, gradient norm, loss of each row, pieces
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.batch import Batch
from assay.errors import UserError
from assay.runs import RunFolder, write_bytes

__all__ = ["bad_batch_file", "bad_batch_steps", "read_bad_batch", "save_bad_batch"]

FOLDER = "bad_batches"
ARRAYS = (
    "input_ids", "targets", "weights", "position_ids", "document_ids",
    "decoder_input_ids", "decoder_position_ids", "decoder_document_ids",
)  # fmt: skip


def bad_batch_file(step: int) -> str:
    """The file of a step's batch, inside the run's folder."""
    return f"{FOLDER}/step-{step}.npz"


def save_bad_batch(folder: RunFolder, batch: Batch, facts: dict[str, Any]) -> None:
    """Write a batch and what is known of its step.

    Args:
        folder: of the run.
        batch: its arrays are written as they are.
        facts: plain data, with "step".

    Raises:
        UserError: the disk is full.
    """
    arrays = {name: value for name in ARRAYS if (value := getattr(batch, name)) is not None}
    if batch.mask.facts.prefix is not None:
        arrays["prefix"] = np.asarray(batch.mask.facts.prefix)
    content = io.BytesIO()
    np.savez(content, **arrays)
    file = folder.path / bad_batch_file(facts["step"])
    write_bytes(file, content.getvalue())
    folder.write_json(f"{FOLDER}/{file.stem}.json", {**facts, "epoch": batch.epoch, "place": batch.step})


def bad_batch_steps(folder: RunFolder) -> list[int]:
    """Steps whose batch was kept, ascending."""
    names = (file.stem.removeprefix("step-") for file in (folder.path / FOLDER).glob("step-*.json"))
    return sorted(int(name) for name in names if name.isdecimal())


def read_bad_batch(folder: RunFolder, step: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and facts that `save_bad_batch` wrote.

    Raises:
        UserError: no batch of that step was kept, with those that were; or its file is damaged.
    """
    steps = bad_batch_steps(folder)
    if step not in steps:
        there = f"Kept are those of steps {', '.join(map(str, steps))}." if steps else "None was kept: no step was bad."
        raise UserError(f"{folder.path}: holds no batch of step {step}.", there)
    file = folder.path / bad_batch_file(step)
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except Exception as error:  # zipfile, zlib and NumPy each have errors of their own
        raise UserError(
            f"{file}: cannot be read as a batch ({error}).", "Delete it; the same run done again writes it anew."
        ) from None
    return arrays, folder.read_json(f"{FOLDER}/{file.stem}.json")
