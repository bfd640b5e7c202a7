"""The book of claims as one self-contained page, from the claims' pages as plain data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report import figure
from assay.report.charts import Chart
from assay.report.chinese import MISSING, how_words, rule_words, unit_words
from assay.report.figure import is_text, number, say
from assay.report.format import DASH, MINUS, count, duration, memory
from assay.report.formula import mathml
from assay.report.front import BEYOND, STATES, front_svg, state_of
from assay.report.html import TEMPLATES, environment, picture
from assay.report.strip import strip
from assay.runs import write_text
from assay.stats import MINIMUM_REPEATS

__all__ = ["BEYOND", "front_svg", "ordered", "write_book"]

SCHEMA = 1
TEXTS = ("title", "says", "literature", "experiment", "rule", "changes")
"""What a page says in two languages."""
TITLE = {"en": "The book of claims", "zh": "论断之书"}


def write_book(
    folder: Path,
    pages: Sequence[Mapping[str, Any]],
    *,
    title: Mapping[str, str] = TITLE,
    seconds: float | None = None,
    beyond: Sequence[Mapping[str, Any]] = BEYOND,
) -> Path:
    """Write `claims.html`: all verdicts at a glance, then a page for each claim. It loads nothing.

    Args:
        folder: where it is written.
        pages: one a claim, as `claims.page` writes them, in any order:
            {"schema_version": 1, "kind": "claim", "key": "C9", "status": "done" | "failed" | "not run", "reason",
            "title", "says", "literature", "experiment", "rule", "changes": each {"en", "zh"}, "sources": [text],
            "formulas": [{"latex", "means", "source"}], "questions": [{"name", "asks", "rule": `Rule.to_dict`,
            "rule_text", "unit", "decides", "answer": {"estimate", "low", "high", "confidence", "n", "method"},
            "verdict"}], "verdict", "pictures": see `figure.draw`, "tables": [{"title", "heads", "rows"}],
            "remarks": [{"en", "zh"}], "command", "tier", "seconds", "runs": [{"hash", "name", "seed",
            "bits_per_byte", "done"}], "provenance": `runs.provenance`}. All but key, title and status may lack.
            Numbers that are not finite are floats or the strings "inf", "-inf", "nan".
        title: the book's.
        seconds: that the whole run took; None: it is not said.
        beyond: what cannot be decided: {"what", "why"}.

    Returns:
        The file.

    Raises:
        UserError: a page of another kind or schema, or the disk forbids writing.
    """
    views = [_page(page) for page in ordered(pages)]
    for before, after in pairwise(views):
        before["next"], after["previous"] = after["key"], before["key"]
    style, script = ("".join((TEMPLATES / f"{name}.{end}").read_text(encoding="utf-8") for name in ("report", "book"))
                     for end in ("css", "js"))  # fmt: skip
    html = (
        environment()
        .get_template("book.html.j2")
        .render(
            style=picture(style),
            script=picture(script),
            title=title["en"],
            heading=dict(title),
            pages=views,
            states={name: {**state._asdict(), "symbol": picture(state.symbol)} for name, state in STATES.items()},
            counts={name: sum(view["state"] == name for view in views) for name in STATES},
            facts=_about(pages, seconds),
            beyond=[{"what": _words(item["what"]), "why": _words(item["why"])} for item in beyond],
        )
    )
    path = Path(folder) / "claims.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html)
    return path


def ordered(pages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pages by the number in their key.

    Raises:
        UserError: a page is of another kind or schema, or lacks key or title.
    """
    for page in pages:
        if page.get("schema_version") != SCHEMA or page.get("kind") != "claim" or not {"key", "title"} <= set(page):
            raise UserError(
                f"page {page.get('key', '?')}: is no claim's page of schema {SCHEMA}.",
                "Run the claim again: assay claims run " + str(page.get("key", "KEY")),
            )

    def place(page: Mapping[str, Any]) -> tuple[int, str]:
        digits = re.search(r"\d+", str(page["key"]))
        return (int(digits[0]) if digits else 0, str(page["key"]))

    return sorted(pages, key=place)


def _words(value: Any) -> dict[str, str]:
    """Both languages; the one that there is where the other lacks, and it is then shown once."""
    if not isinstance(value, Mapping):
        return {"en": str(value or ""), "zh": ""}
    return {"en": str(value.get("en") or value.get("zh") or ""), "zh": str(value.get("zh") or "")}


def _page(page: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a page."""
    key = str(page["key"])
    questions = [_question(question) for question in page.get("questions", ())]
    charts = []
    for index, given in enumerate(page.get("pictures", ())):
        drawn = figure.draw(given, f"{key}-{index}-")
        safe = Chart(picture(drawn.wide), picture(drawn.narrow), drawn.title) if drawn else None
        charts.append({"drawn": safe, "title": _words(given.get("title", ""))})
    state = state_of(page)
    return {
        "key": key,
        "state": state,
        "previous": None,
        "next": None,
        **{name: _words(page.get(name, "")) for name in TEXTS},
        "sources": [str(source) for source in page.get("sources", ())],
        "formulas": [_formula(given) for given in page.get("formulas", ())],
        "questions": questions,
        "deciding": _deciding(questions, state),
        "charts": charts,
        "tables": [_table(given) for given in page.get("tables", ())],
        "remarks": [_words(remark) for remark in page.get("remarks", ())],
        "command": str(page.get("command", "")),
        "tier": str(page.get("tier", "")),
        "reason": str(page.get("reason", "")),
        "facts": _facts(page),
        "runs": _runs(page.get("runs") or ()),
    }  # fmt: skip


def _formula(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        markup: Any = picture(mathml(str(given["latex"])))
    except UserError:  # a formula that cannot be typeset is still readable as it was written
        markup = None
    return {
        "markup": markup,
        "latex": given["latex"],
        "means": _words(given.get("means", "")),
        "source": given.get("source", ""),
    }


def _question(question: Mapping[str, Any]) -> dict[str, Any]:
    rule, answer = question.get("rule") or {}, question.get("answer")
    n = answer.get("n") if answer else None
    return {
        "asks": _words(question.get("asks", "")),
        "rule": rule_words(rule, str(question.get("rule_text", ""))),
        "decides": bool(question.get("decides", True)),
        "state": question.get("verdict") if question.get("verdict") in STATES else "not run",
        "figure": _figure(answer, str(question.get("unit", ""))) if answer else None,
        "how": how_words(answer) if answer else None,
        "known": answer is not None and not math.isnan(number(answer.get("estimate"))),
        "few": n is not None and n < MINIMUM_REPEATS,
        "strip": picture(strip(rule, answer)),
        "mini": picture(strip(rule, answer, mini=True)),
    }


def _deciding(questions: list[dict[str, Any]], state: str) -> dict[str, Any] | None:
    """The question that the front page shows: the first deciding one that says what the claim's verdict says."""
    deciding = [question for question in questions if question["decides"]] or questions
    found = [question for question in deciding if question["state"] == state] or deciding
    found = [question for question in found if question["known"]] or found
    return {**found[0], "more": len(deciding) - 1} if found else None


def _figure(answer: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """'−0.013 [−0.025, −0.001]' and 'bits per byte' in both languages: as many decimals as the interval warrants."""
    estimate, low, high = (number(answer.get(key)) for key in ("estimate", "low", "high"))
    if math.isnan(estimate):
        return {"number": "", "word": MISSING}
    half = (high - low) / 2
    # A sign stands at the number, a word behind the interval.
    sign = {"x": "×", "×": "×", "%": "%"}.get(unit, "")
    word = unit_words("" if sign else unit)
    if not (math.isfinite(half) and half > 0):
        ends = "" if low == high or math.isnan(half) else f" [{say(low)}, {say(high)}]"
        return {"number": f"{_short(estimate)}{sign}{ends}".replace("-", MINUS), "word": word}
    largest = max(abs(low), abs(high))
    # Two digits of the half width, five of the number at most.
    decimals = min(1 - math.floor(math.log10(half)), 4 - math.floor(math.log10(largest)))
    if largest >= 1e6 or decimals > 6:
        said = [say(value) for value in (estimate, low, high)]
    else:
        # Rounded first where digits before the point are not warranted, and no zero has a sign.
        said = [f"{round(v, decimals) + 0.0:,.{max(decimals, 0)}f}" for v in (estimate, low, high)]
    return {"number": f"{said[0]}{sign} [{said[1]}, {said[2]}]".replace("-", MINUS), "word": word}


def _short(value: float) -> str:
    """Five digits; whole numbers whole; what is very large or small with its power of ten."""
    if math.isfinite(value) and value == round(value) and abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.5g}" if 1e-3 <= abs(value) < 1e5 else say(value)


def _table(given: Mapping[str, Any]) -> dict[str, Any]:
    """Cells as text: numbers of a column share their decimals."""
    heads = [str(head) for head in given.get("heads", ())]
    rows = [[*row, *[None] * (len(heads) - len(row))] for row in given.get("rows", ())]
    columns = [[row[index] for row in rows] for index in range(len(heads))]
    shown = [_column(values) for values in columns]
    return {
        "title": _words(given.get("title", "")),
        "heads": heads,
        "numeric": [not is_text(values) for values in columns],
        "rows": list(zip(*shown, strict=True)),
    }


def _column(values: Sequence[Any]) -> list[str]:
    """Floats of about one size with equal decimals, four digits of the largest; others each by itself."""
    floats = [abs(v) for v in values if isinstance(v, float) and math.isfinite(v) and v != 0]
    decimals = None
    if floats and 1e-3 <= max(floats) < 1e6 and max(floats) / min(floats) < 1e4:
        decimals = max(3 - math.floor(math.log10(max(floats))), 0)
        shown = [f"{v:.{decimals}f}" for v in floats]
        while decimals and all(text.endswith("0") for text in shown):
            decimals, shown = decimals - 1, [text[:-1] for text in shown]
    return [_cell(value, decimals) for value in values]


def _cell(value: Any, decimals: int | None) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, float) or str(value) in ("inf", "-inf", "nan"):
        value = number(value)
        if not math.isfinite(value):
            return say(value)
        return (f"{value + 0.0:,.{decimals}f}" if decimals is not None else _short(value)).replace("-", MINUS)
    return str(value)


def _facts(page: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Provenance: (English name, Chinese name, value)."""
    facts = [("tier", "档位", str(page.get("tier", "")))]
    if page.get("seconds") is not None:
        facts.append(("measuring took", "测量用时", duration(number(page["seconds"]))))
    found = page.get("provenance")
    if found:
        facts += [
            ("machine", "机器", _machine(found)),
            ("versions", "版本", ", ".join(f"{name} {version}" for name, version in found.get("versions", {}).items())),
            ("commit", "提交", str(found.get("git") or "unknown")),
            ("time", "时间", str(found.get("time", ""))),
        ]
    return facts


def _machine(provenance: Mapping[str, Any]) -> str:
    hardware = provenance.get("hardware", {})
    said = [str(hardware.get("cpu", "unknown")), f"{hardware.get('cores', '?')} cores"]
    if hardware.get("memory_bytes"):
        said.append(memory(hardware["memory_bytes"]))
    return ", ".join(said + [str(name) for name in hardware.get("accelerators") or ()])


def _about(pages: Sequence[Mapping[str, Any]], seconds: float | None) -> list[tuple[str, str, str]]:
    """What the front page says of the whole: (English name, Chinese name, value)."""
    done = [page for page in pages if page.get("status") == "done"]
    proven = [page["provenance"] for page in done if page.get("provenance")]
    runs = {run["hash"] for page in pages for run in page.get("runs") or ()}
    days = sorted({str(p.get("time", ""))[:10] for p in proven} - {""})
    facts = [("tier", "档位", ", ".join(figure.distinct([str(page.get("tier", "")) for page in done])))]
    facts.append(("machine", "机器", "; ".join(figure.distinct([_machine(p) for p in proven]))))
    facts.append(("date", "日期", days[0] if len(days) == 1 else f"{days[0]} – {days[-1]}" if days else ""))
    if runs:
        facts.append(("trained runs", "训练次数", count(len(runs))))
    if seconds is not None:
        facts.append(("whole run", "总用时", duration(seconds)))
    elif done:
        facts.append(("measuring", "测量总用时", duration(sum(number(page.get("seconds") or 0) for page in done))))
    return [fact for fact in facts if fact[2]]


def _runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The table of runs; None where nothing was trained."""
    if not runs:
        return None
    rows = [
        [str(run.get("name") or "run"), run.get("seed"), run.get("rate"), run.get("bits_per_byte"),
         bool(run.get("done")), run["hash"]]
        for run in runs
    ]  # fmt: skip
    heads = ["run", "seed", "rate", "bits per byte", "done", "folder"]
    return _table({"title": "", "heads": heads, "rows": rows})
