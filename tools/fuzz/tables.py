"""Targets that are tables and texts: results, labelled examples, corpora."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
from functools import cache, partial
from pathlib import Path
from typing import Any

from tools.fuzz import seeds
from tools.fuzz.cases import Case
from tools.fuzz.mutate import TEXTS, blind, dumped, text_damage, tree
from tools.fuzz.targets import target


def _rows() -> dict[str, list[dict[str, Any]]]:
    rng = random.Random(0)
    models = [("small", 1e6), ("medium", 1e8), ("large", 1e10)]
    plain, parts = [], []
    for i, (model, scale) in enumerate(models):
        for _ in range(5):
            plain.append(
                {
                    "model": model,
                    "scale": scale,
                    "token_logprob": -2.0 / (i + 1) - rng.random() / 10,
                    "length": rng.randrange(2, 6),
                    "accuracy": int(rng.random() < i / 3),
                    "margin": rng.gauss(i, 1),
                }
            )
        for part in ("a", "b", "whole"):
            parts.append(
                {"model": model, "scale": scale, "subtask": part, "score": round(0.2 + 0.2 * i, 2), "items": 50}
            )
    lists = [
        {"model": r["model"], "scale": r["scale"], "token_logprobs": "-1.5 -0.2 -0.1", "edit_distance": 1}
        for r in plain
    ]
    share = [{"model": r["model"], "scale": r["scale"], "length": 3, "accuracy": 0.5, "items": 100} for r in plain]
    return {"plain": plain, "parts": parts, "lists": lists, "share": share}


CELLS = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1e400",
    "1e308",
    "-1e308",
    "1e-320",
    "0",
    "-0",
    "-1",
    "2",
    "1_000",
    "١٢",
    "0x1",
    "1,5",
    '"',
    "'",
    "NaN NaN",
    "-1 nan",
    "-1 -inf",
    "1e309 -1",
    "1" * 400,
    "2.5",
    "9e15",
    "1e300",
    *TEXTS[:34],
)


def _table(rng: random.Random, rows: list[dict[str, Any]], cells: tuple[str, ...], delimiter: str = ",") -> bytes:
    rows = [dict(row) for row in rows]
    heads = list(rows[0])
    for _ in range(rng.choice((1, 1, 2, 5))):
        how = rng.randrange(9)
        row, head = rng.choice(rows), rng.choice(heads)
        if how < 4:
            row[head] = rng.choice(cells)
        elif how == 4:
            value = rng.choice(cells)
            for other in rows:
                other[head] = value
        elif how == 5:
            heads[heads.index(head)] = rng.choice(
                (*TEXTS[:25], "line", "model", "scale", "items", head.upper(), head[:-1])
            )
        elif how == 6:
            heads.remove(head) if len(heads) > 1 else None
        elif how == 7:
            rows.remove(row) if len(rows) > 1 else None
        else:
            rows.insert(rng.randrange(len(rows)), {n: rng.choice(cells) for n in row})
    out = io.StringIO()
    writer = csv.writer(
        out, delimiter=delimiter, escapechar="\\", quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    )
    writer.writerow(heads)
    for row in rows:
        writer.writerow([row.get(head, next(iter(row.values()))) for head in heads])
    content = out.getvalue().encode("utf-8", "surrogatepass")
    content = content.replace(b"@@deep@@", b'"' * 2001).replace(b"@@digits@@", b"9" * 140_000)
    return text_damage(rng, content)


def _results(rng: random.Random) -> Case:
    return {"results.csv": _table(rng, rng.choice(list(_rows().values())), CELLS)}


def _good_results() -> list[Case]:
    found = []
    for rows in _rows().values():
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        found.append({"results.csv": "\n".join(lines).encode()})
    return found


@target("results", "tables of results for `assay emergence`", _results, _good_results)
def read_results(folder: Path) -> None:
    """Read, analysed, and kept as the command keeps it."""
    from assay.runs import write_json
    from assay.stats.emergence import analyse
    from assay.stats.results import read_results as read

    write_json(folder / "emergence.json", analyse(read(folder / "results.csv"), resamples=100).to_dict())


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": partial(lzma.compress, preset=0)}
EXAMPLES = [{"text": f"words {i}, and more", "label": "good" if i % 2 else "bad"} for i in range(8)]


@cache
def bomb(packed: str) -> bytes:
    """A small file that unpacks to twenty megabytes."""
    return PACKED[packed](b"text,label\n" + b"a,b\n" * (5 << 20))


def _labels(rng: random.Random) -> Case:
    how = rng.randrange(10)
    if how < 4:
        suffix = rng.choice((".csv", ".tsv"))
        content = _table(rng, EXAMPLES, CELLS, "\t" if suffix == ".tsv" else ",")
    elif how < 8:
        suffix, content = ".jsonl", lines_of(rng, EXAMPLES)
    else:
        suffix, content = ".parquet", blind(rng, seeds.parquet())
    if rng.random() < 0.2:
        packed = rng.choice(tuple(PACKED))
        if rng.random() < 0.3:
            content = bomb(packed)
        else:
            content = PACKED[packed](content)
        content = blind(rng, content) if rng.random() < 0.5 else content
        return {f"labels{suffix}{rng.choice((packed, packed, ''))}": content}
    return {f"labels{suffix}": content}


def lines_of(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON Lines, one of them changed, and now and then a line that is none."""
    lines = [json.dumps(row).encode() for row in rows]
    at = rng.randrange(len(lines))
    lines[at] = dumped(rng, tree(rng, rows[at]))
    if rng.random() < 0.2:
        lines.insert(
            at, rng.choice((b"[]", b"3", b"null", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"text": "\\ud800"}'))
        )
    return text_damage(rng, b"\n".join(lines))


def _good_labels() -> list[Case]:
    lines = "\n".join(json.dumps(row) for row in EXAMPLES)
    table = "text,label\n" + "\n".join(f'"{row["text"]}",{row["label"]}' for row in EXAMPLES)
    list(map(bomb, PACKED))  # made once, before children are born
    return [{"labels.jsonl": lines.encode()}, {"labels.csv": table.encode()}, {"labels.parquet": seeds.parquet()}]


@target("labels", "labelled examples: CSV, TSV, JSON Lines, Parquet, packed", _labels, _good_labels)
def read_labels(folder: Path) -> None:
    """Read and made a task."""
    from assay.evaluation.labelled import labelled_task, read_table

    assert labelled_task(read_table(next(folder.glob("labels*")))).items


def _corpus(rng: random.Random) -> Case:
    case = _labels(rng)
    case = {name.replace("labels", "text"): content for name, content in case.items()}
    if rng.random() < 0.3:
        case[rng.choice(("a.txt", "b.md", "noise", "c.py"))] = blind(rng, b"some text\n" * 5)
    return case


def _good_corpus() -> list[Case]:
    list(map(bomb, PACKED))
    return [{"a.txt": b"text", "b.jsonl": b'{"text": "x"}\n'}, {"text.parquet": seeds.parquet()}]


@target("corpus", "texts to train on: plain, JSON Lines, Parquet", _corpus, _good_corpus)
def read_corpus(folder: Path) -> None:
    """Read as training data."""
    from assay.data.sources import read

    found = read(folder)
    assert len(found.hash) and found.bytes > 0
