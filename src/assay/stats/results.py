"""Anyone's evaluation results, from a CSV file: read, checked, put together by model. See `docs/emergence.md`.

A row is an item (or, with a column `items`, the mean over so many). Columns: `model`, `scale`, and any of

    token_logprob     mean log-probability of the target's tokens, nats
    token_logprobs    each of them, separated by spaces (the length is their number)
    logprob           of the whole target, nats
    token_accuracy    share of the target's tokens that are right
    length            tokens of the target
    accuracy          exact match: 0 or 1, or a share
    edit_distance     tokens that are wrong
    margin            log-probability of the right choice minus that of the best other one
    subtask, score    one of the parts of a task, or `whole`, and its accuracy
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay.errors import UserError, did_you_mean
from assay.stats.composition import WHOLE

__all__ = ["ModelResults", "Results", "read_results"]

Array = NDArray[np.float64]

SMOOTH = ("token_logprob", "token_logprobs", "logprob", "token_accuracy")
"""Any one of these tells how likely a token is right."""
NUMBERS = {
    "scale": (0.0, math.inf), "token_logprob": (-math.inf, 0.0), "logprob": (-math.inf, 0.0),
    "token_accuracy": (0.0, 1.0), "length": (1.0, math.inf), "accuracy": (0.0, 1.0), "edit_distance": (0.0, math.inf),
    "margin": (-1e100, 1e100), "score": (0.0, 1.0), "items": (1.0, 1e12),
}  # fmt: skip
"""Columns that hold numbers, and the least and greatest that make sense."""
COLUMNS = ("model", "subtask", "token_logprobs", *NUMBERS)


@dataclass(frozen=True)
class ModelResults:
    """One model's rows; an array is None where its column is absent."""

    model: str
    scale: float
    items: Array
    """[rows] how many items a row stands for."""
    nats: Array | None
    """[rows] -log of a token's probability, mean over the target's tokens."""
    rates: Array | None
    """[rows] share of a target's tokens that are right, where that is what the file holds instead."""
    length: Array | None
    accuracy: Array | None
    edit_distance: Array | None
    margin: Array | None

    @property
    def number(self) -> int:
        """Items in all."""
        return int(self.items.sum())


@dataclass(frozen=True)
class Results:
    """A whole file."""

    path: str
    models: tuple[ModelResults, ...]
    """By scale, small to large."""
    subtasks: dict[str, dict[str, Array]]
    """Model to sub-task to scores [rows]; empty where there are none."""
    smooth: str | None
    """The column that the smooth quantity is from."""
    aggregated: bool
    """Whether rows are means, so that their spread over items is not known."""


def read_results(path: str | Path) -> Results:
    """Read a results file.

    Raises:
        UserError: the file is no table, a column is missing, a cell is no number or cannot be, or all scales are equal;
            naming the line.
    """
    table = _table(Path(path))
    filled = {name for name in table[0] if any(row[name].strip() for row in table)}
    columns = ({"model", "scale"} & set(table[0])) | filled - {"line"}  # one that is blank in every row says nothing
    smooth = next((name for name in SMOOTH if name in columns), None)
    measured = columns & {"accuracy", "edit_distance", "margin", "score", *SMOOTH}
    _check_columns(path, columns, smooth, measured)
    by_model: dict[str, list[dict[str, str]]] = {}
    for row in table:
        by_model.setdefault(row["model"], []).append(row)
    scales = {model: _scale(path, model, rows) for model, rows in by_model.items()}
    if len(set(scales.values())) < 2:
        raise UserError(
            f"{path}: column scale holds {next(iter(scales.values())):g} for every model, so nothing grows.",
            "Give models of two scales or more: parameters, FLOPs, or another measure of size.",
        )
    order = sorted(by_model, key=lambda model: scales[model])
    subtasks: dict[str, dict[str, Array]] = {}
    if "score" in columns:
        for model in order:
            parts: dict[str, list[float]] = {}
            for row in by_model[model]:
                if row["score"].strip():
                    parts.setdefault(row["subtask"].strip(), []).append(_number(path, row, "score"))
            subtasks[model] = {name: np.array(values) for name, values in parts.items()}
    models = tuple(_model(path, model, scales[model], by_model[model], columns, smooth) for model in order)
    return Results(str(path), models, subtasks, smooth, "items" in columns or all(len(m.items) == 1 for m in models))


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            heads = [(head or "").strip().lower() for head in reader.fieldnames or []]
            reader.fieldnames = heads
            rows = []
            for row in reader:
                if row.get(None) or any(value is None for value in row.values()):  # type: ignore[call-overload]
                    raise UserError(
                        f"{path}, line {reader.line_num}: the row has not the {len(heads)} cells of the heading.",
                        "Mend the row; texts with commas stand in quotes.",
                    )
                rows.append({**row, "line": str(reader.line_num)})
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", "Check the path.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).", "Give a CSV file.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no CSV in UTF-8: {error}.", "Export it as CSV.") from None
    if not rows:
        raise UserError(f"{path}: holds no rows.", f"Give a heading and a row for each item: {', '.join(COLUMNS)}.")
    return rows


def _check_columns(path: str | Path, columns: set[str], smooth: str | None, measured: set[str]) -> None:
    for name in ("model", "scale"):
        if name not in columns:
            hint = did_you_mean(name, columns)
            raise UserError(
                f"{path}: column {name} is missing; there are {', '.join(sorted(columns))}.",
                f"{hint + ' Rename it.' if hint.startswith('Did') else 'Add it.'}",
            )
    if not measured:
        raise UserError(
            f"{path}: no column holds a result; there are {', '.join(sorted(columns))}.",
            "Give accuracy, edit_distance, margin, score, or one of " + ", ".join(SMOOTH) + ".",
        )
    if ("score" in columns) != ("subtask" in columns):
        missing = "subtask" if "score" in columns else "score"
        raise UserError(f"{path}: column {missing} is missing.", "subtask and score go together.")
    needy = sorted({"accuracy", "edit_distance", "logprob"} & columns)
    if needy and not {"length", "token_logprobs"} & columns:
        raise UserError(
            f"{path}: column length is missing: {', '.join(needy)} depends on how many tokens a target has.",
            "Add length, the tokens of each target.",
        )
    if "edit_distance" in columns and smooth is None and "accuracy" not in columns:
        raise UserError(
            f"{path}: edit_distance alone has nothing to be predicted from.", f"Add one of {', '.join(SMOOTH)}."
        )


def _scale(path: str | Path, model: str, rows: list[dict[str, str]]) -> float:
    values = {_number(path, row, "scale") for row in rows}
    if len(values) > 1:
        raise UserError(
            f"{path}: model {model!r} has scales {', '.join(f'{v:g}' for v in sorted(values))}.",
            "Give each model one scale.",
        )
    (value,) = values
    if value == 0:
        raise UserError(f"{path}, line {rows[0]['line']}: scale = 0; its logarithm is taken.", "Give a scale above 0.")
    return value


def _number(path: str | Path, row: dict[str, str], name: str) -> float:
    text = row[name].strip()
    place = f"{path}, line {row['line']}: {name} = {text}"
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{place}: is no number.", "Give a number, or leave the row out.") from None
    low, high = NUMBERS[name]
    if math.isnan(value) or (math.isinf(value) and name != "token_logprob" and name != "logprob"):
        raise UserError(f"{place}: is not finite.", "Leave the row out, and say how many were.")
    if value > high and high == 1:
        raise UserError(f"{place}: a share lies between 0 and 1.", "Divide percentages by 100.")
    if value > high and high:
        raise UserError(f"{place}: it is at most {high:g}.", "Check the column.")
    if value > high:
        raise UserError(
            f"{place}: a log-probability above 0 is a probability above 1.", "Give natural logarithms, not losses."
        )
    if value < low:
        raise UserError(f"{place}: it is {low:g} or more.", "Check the column.")
    return value


def _model(
    path: str | Path, model: str, scale: float, rows: list[dict[str, str]], columns: set[str], smooth: str | None
) -> ModelResults:
    rows = [row for row in rows if "subtask" not in columns or row["subtask"].strip() in ("", WHOLE)]
    filled = {c for c in columns if rows and c in NUMBERS and all(row[c].strip() for row in rows)}
    held = {name: np.array([_number(path, row, name) for row in rows]) for name in filled}
    for name in columns & NUMBERS.keys():  # cells that stand beside empty ones are checked all the same
        for row in rows:
            if name not in filled and row[name].strip():
                raise UserError(
                    f"{path}: model {model!r} has {name} in some rows and not in others.",
                    "Fill the column, or leave it out.",
                )
    length, nats, rates = held.get("length"), None, None
    if smooth == "token_logprobs":
        lists = [_list(path, row) for row in rows]
        nats, length = np.array([-x.mean() for x in lists]), np.array([float(len(x)) for x in lists])
    elif smooth == "token_logprob":
        nats = -held["token_logprob"] if smooth in held else None
    elif smooth == "logprob":
        nats = -held["logprob"] / held["length"] if smooth in held and length is not None else None
    elif smooth == "token_accuracy":
        rates = held.get("token_accuracy")
    return ModelResults(
        model, scale, held.get("items", np.ones(len(rows))), nats, rates, length, held.get("accuracy"),
        held.get("edit_distance"), held.get("margin"),
    )  # fmt: skip


def _list(path: str | Path, row: dict[str, str]) -> Array:
    place = f"{path}, line {row['line']}: token_logprobs"
    try:
        values = np.array([float(word) for word in row["token_logprobs"].replace(";", " ").split()])
    except ValueError:
        raise UserError(f"{place}: holds what is no number.", "Give numbers separated by spaces.") from None
    if not len(values):
        raise UserError(f"{place}: is empty.", "Leave the row out.")
    if np.isnan(values).any():
        raise UserError(f"{place}: holds NaN.", "Leave the row out, and say how many were.")
    if (values > 0).any():
        raise UserError(
            f"{place}: {values.max():g} is above 0, a probability above 1.", "Give natural logarithms of probabilities."
        )
    return values
