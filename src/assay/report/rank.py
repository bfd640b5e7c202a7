"""The page of `assay probe rank`: attention matrices and representations by layer, models laid over each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report.format import scientific
from assay.report.instrument import Section, Table, write_page
from assay.report.lines import Line, lines
from assay.runs import read_json

__all__ = ["DATA", "FILE", "HEADS", "LAYERS", "head_means", "layer_means", "write_rank"]

DATA, FILE = "rank.json", "report.html"
HEADS = (
    ("exact", "Exact rank", "Exact rank of attention matrices over their size", False),
    ("effective", "Effective rank", "Effective rank of attention matrices over their size", False),
    ("stable", "Stable rank", "Stable rank of attention matrices", False),
    ("condition", "Condition number", "Condition number of attention matrices, where rounding lets it be seen", True),
)
"""Of attention: field, words for a table, words for a picture, logarithmic."""
LAYERS = (
    ("effective", "Effective rank", "Effective rank of the representations", False),
    ("residual", "Residual to equal tokens", "Distance of the representations from all tokens being equal", True),
    ("rank_one", "Residual to rank 1", "Distance of the representations from the nearest rank-1 matrix", True),
    ("cosine", "Pairwise cosine", "Mean cosine between different tokens", False),
)
"""Of representations, in the same way."""
OF_SIZE = {"exact", "effective"}
"""Given as a share of the matrix's size in pictures."""


def head_means(seed: dict[str, Any], field: str, *, share: bool = False) -> dict[tuple[str, str], dict[int, float]]:
    """(stack, sublayer) to layer to the mean over heads (of the condition number, the median)."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for head in seed["heads"]:
        value = math.inf if head[field] is None else float(head[field])
        value = value / head["size"] if share else value
        found.setdefault((head["stack"], head["sublayer"]), {}).setdefault(head["layer"], []).append(value)
    middle = statistics.median_low if field == "condition" else statistics.fmean
    return {place: {layer: float(middle(v)) for layer, v in by.items()} for place, by in found.items()}


def layer_means(seed: dict[str, Any], field: str) -> dict[str, dict[int, float]]:
    """Stack to layer to value."""
    found: dict[str, dict[int, float]] = {}
    for layer in seed["layers"]:
        found.setdefault(layer["stack"], {})[layer["layer"]] = float(layer[field])
    return found


def write_rank(folder: str | Path) -> Path:
    """Write `report.html` beside `rank.json`, from it alone; its path.

    Raises:
        UserError: there is no such file, or the disk is full.
    """
    folder = Path(folder)
    data = read_json(folder / DATA)
    if not isinstance(data, dict) or data.get("kind") != "rank":
        raise UserError(f"{folder / DATA}: holds no measurements of assay probe rank.")
    models = data["models"]
    streams, attention = Section("Representations by layer"), Section("Attention matrices by layer")
    for field, head, what, log in LAYERS:
        given = _lines(models, lambda seed, field=field: layer_means(seed, field))
        streams.draw(lines(given, ("Layer", head), what, log_y=log), f"{what}. Layer 0 is the embedding.")
    for field, head, what, log in HEADS:
        share = field in OF_SIZE
        given = _lines(models, lambda seed, field=field, share=share: head_means(seed, field, share=share))
        axis = f"{head} / size" if share else head
        attention.draw(lines(given, ("Layer", axis), what, log_y=log), f"{what}, mean over heads.")
    attention.said.append(
        "Full exact rank is usual under any mask and says nothing of conditioning; the measures may order models "
        "differently. A condition number that is not drawn lies beyond what rounding lets be seen."
    )
    for model in models:
        rows = [
            [f"{h['stack']} {h['layer']}, {h['sublayer'].replace('_', '-')} head {h['head']}", str(h["size"])]
            + ["beyond" if h[f] is None or not math.isfinite(h[f]) else scientific(h[f]) for f, *_ in HEADS]
            + [{None: "–", True: "yes", False: "no"}[h["diagonal"]]]
            for h in model["seeds"][0]["heads"]
        ]
        heads = ["Head", "Size", *(words for _, words, *_ in HEADS), "Triangular, positive diagonal"]
        if rows and len(rows) <= 2000:
            attention.folded.append(
                (f"{model['name']}: every head, seed {model['seeds'][0]['seed']}", Table(heads, rows))
            )
    write_page(
        folder / FILE,
        title="Rank of attention and representations" + (f" of {models[0]['name']}" if len(models) == 1 else ""),
        kicker=f"assay probe rank · {data['provenance']['time'][:10]}",
        finding=[_finding(model) for model in models],
        sections=[streams, attention],
        warnings=[] if data["complete"] else ["It was interrupted: what is shown is what had been measured by then."],
        provenance=data["provenance"],
        settings=data["settings"],
        source=DATA,
    )
    return folder / FILE


def _lines(models: Sequence[dict[str, Any]], read: Any) -> list[Line]:
    given = []
    for model in models:
        seeds = [read(seed) for seed in model["seeds"]]
        for place, first in seeds[0].items():
            label = [w.replace("_", "-") for w in ((place,) if isinstance(place, str) else place)]
            name = model["name"] + (f", {' '.join(label)}" if len(seeds[0]) > 1 else "")
            given.append(Line(name, list(first), [[seed[place][layer] for layer in first] for seed in seeds]))
    return given


def _finding(model: dict[str, Any]) -> str:
    stack = model["seeds"][0]["layers"][-1]["stack"]
    first, last = ({}, {})
    for field, *_ in LAYERS:
        by = [layer_means(seed, field)[stack] for seed in model["seeds"]]
        first[field] = statistics.fmean(b[min(b)] for b in by)
        last[field] = statistics.fmean(b[max(b)] for b in by)
    return (
        f"{model['name']}: from the embedding to the last layer the residual to equal tokens goes from "
        f"{scientific(first['residual'])} to {scientific(last['residual'])}, the mean cosine from "
        f"{scientific(first['cosine'])} to {scientific(last['cosine'])}."
    )
