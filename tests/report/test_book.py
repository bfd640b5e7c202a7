import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from assay.errors import UserError
from assay.report import book
from assay.report.book import write_book
from assay.report.front import STATES, front_svg, state_of
from assay.report.strip import strip, zones
from assay.stats import Equivalence, Superiority, Threshold

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<img src=x onerror="alert(1)">&'


def words(text: str) -> dict[str, str]:
    return {"en": text, "zh": f"{text}（中文）"}


def answer(estimate: Any = -0.0513, low: Any = -0.0622, high: Any = -0.0401, n: int | None = 3) -> dict[str, Any]:
    method = "exact" if n is None else f"paired Student t, n = {n}"
    return {"estimate": estimate, "low": low, "high": high, "confidence": 0.95, "n": n, "method": method}


def question(verdict: str = "supported", **more: Any) -> dict[str, Any]:
    rule = Superiority(0.02, "lower")
    return {
        "name": "loss", "asks": words("loss of A minus B"), "rule": rule.to_dict(), "rule_text": str(rule),
        "unit": "bits per byte", "decides": True, "answer": answer(), "verdict": verdict, **more,
    }  # fmt: skip


def page(key: str = "C1", verdict: str = "supported", **more: Any) -> dict[str, Any]:
    return {
        "schema_version": 1, "kind": "claim", "key": key, "status": "done", "verdict": verdict,
        "title": words(f"Title of {key}"), "says": words("What it says"), "literature": words("41.8 in table 3"),
        "experiment": words("Both are trained"), "rule": words("Below 0"), "changes": words("More seeds"),
        "sources": ["Wang et al. 2022"], "questions": [question(verdict)], "reason": "",
        "formulas": [{"latex": r"\frac{a}{b}", "means": words("a over b"), "source": "equation 4"}],
        "pictures": [{"title": words("The picture"), "x": "norm", "y": "loss", "kind": "points",
                      "rows": [{"series": "a", "x": "a", "y": 2.0, "low": 1.9, "high": 2.1}]}],
        "tables": [{"title": words("The table"), "heads": ["norm", "loss"], "rows": [["a", 2.125], ["b", "inf"]]}],
        "remarks": [words("A remark")], "command": f"assay claims run {key} --tier quick", "tier": "quick",
        "seconds": 90.0, "runs": [{"hash": "abcd", "name": "a", "seed": 0, "bits_per_byte": 2.0, "done": True}],
        "provenance": {"versions": {"assay": "0.1"}, "time": "2026-11-24T10:00:00+00:00", "git": "1234567",
                       "hardware": {"cpu": "A CPU", "cores": 2, "memory_bytes": 8e9, "accelerators": []}},
        **more,
    }  # fmt: skip


def bare(key: str, status: str, reason: str) -> dict[str, Any]:
    """The least that a page holds."""
    return {
        "schema_version": 1, "kind": "claim", "key": key, "title": words(f"Title of {key}"), "status": status,
        "reason": reason,
    }  # fmt: skip


class Outline(HTMLParser):
    """Elements, links, ids and whether every element is closed."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "rect", "path", "circle", "mspace"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.note(tag, dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def note(self, tag: str, attrs: dict[str, str | None]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name in attrs), attrs
        if attrs.get("id"):
            self.ids.append(str(attrs["id"]))
        if tag == "a":
            self.links.append(str(attrs.get("href")))
        elif attrs.get("src") or (attrs.get("href") and attrs["href"] != "data:,"):
            self.loaded.append(f"{tag} {attrs}")


def written(folder: Path, pages: list[dict[str, Any]], **more: Any) -> str:
    path = write_book(folder, pages, **more)
    assert path == folder / "claims.html"
    return path.read_text(encoding="utf-8")


def article(text: str, key: str) -> str:
    """One claim's part of the book."""
    found = re.search(rf'<article class="page claim" id="{key}".*?</article>', text, re.S)
    assert found
    return found[0]


def visible(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup))


def test_the_book_is_whole_offline_and_in_the_claims_order(tmp_path: Path) -> None:
    pages = [page("C10"), page("C2", "refuted"), bare("C1", "failed", "It broke"), bare("C40", "not run", "Too large")]
    text = written(tmp_path, pages, seconds=1712)
    outline = Outline(text)
    assert re.findall(r'<article class="page claim" id="(C\d+)"', text) == ["C1", "C2", "C10", "C40"]
    assert len(outline.ids) == len(set(outline.ids)) and not outline.loaded
    assert all(link.startswith("#") and link[1:] in {*outline.ids, "all"} for link in outline.links)
    assert "@import" not in text and "url(http" not in text and "localStorage" not in text and "cookie" not in text


def test_a_claims_page_says_everything(tmp_path: Path) -> None:
    found = article(written(tmp_path, [page("C3")]), "C3")
    said = visible(found)
    for part in (
        "Title of C3", "Title of C3（中文）", "What it says", "41.8 in table 3", "Both are trained", "Below 0",
        "The picture",
        "loss of A minus B", "−0.051 [−0.062, −0.040] bits per byte", "95% interval, paired Student t, n = 3",
        "Supported if the interval of the difference lies below -0.02", "supported 支持", "The table", "2.125", "∞",
        "A remark", "More seeds", "Wang et al. 2022", "assay claims run C3 --tier quick", "A CPU, 2 cores, 8.00 GB",
        "assay 0.1", "2026-11-24T10:00:00", "1 min 30 s", "equation 4",
    ):  # fmt: skip
        assert part in said, part
    assert "<mfrac>" in found and 'class="strip"' in found


def test_the_front_page_counts_verdicts_and_says_where_and_when(tmp_path: Path) -> None:
    verdicts = ["supported", "supported", "refuted", "depends", "undecided"]
    pages = [page(f"C{i}", v) for i, v in enumerate(verdicts, 1)] + [bare("C6", "failed", "It broke")]
    front = visible(written(tmp_path, pages, seconds=1712).split("<article")[0].split("<main>")[1])
    for said in ("2 supported", "1 refuted", "1 depends", "1 undecided", "1 failed", "A CPU", "2026-11-24",
                 "28 min 32 s", "−0.051 [−0.062, −0.040] bits per byte", "It broke", "ChatGLM"):  # fmt: skip
        assert said in front, said
    assert "not run" not in front


def test_neighbours_are_linked(tmp_path: Path) -> None:
    text = written(tmp_path, [page("C1"), page("C3"), page("C7")])
    assert re.findall(r'rel="(\w+)" href="#(\w+)"', article(text, "C3")) == [("prev", "C1"), ("next", "C7")]
    assert re.findall(r'rel="(\w+)"', article(text, "C1")) == ["next"]
    assert re.findall(r'rel="(\w+)"', article(text, "C7")) == ["prev"]


def test_all_text_is_escaped(tmp_path: Path) -> None:
    evil = words(EVIL)
    given = page(
        "C1", title=evil, says=evil, literature=evil, experiment=evil, rule=evil, changes=evil, sources=[EVIL],
        remarks=[evil],
        questions=[question(asks=evil, unit=EVIL, rule_text=EVIL)], command=EVIL, reason=EVIL, tier=EVIL,
        formulas=[{"latex": rf"\text{{{EVIL}}}", "means": evil, "source": EVIL},
                  {"latex": "{" + EVIL, "means": evil, "source": ""}],
        tables=[{"title": evil, "heads": [EVIL], "rows": [[EVIL]]}],
        pictures=[{"title": evil, "kind": "points", "x": EVIL, "y": EVIL,
                   "rows": [{"series": EVIL, "x": EVIL, "y": 1}]}],
    )  # fmt: skip
    text = written(tmp_path, [given], beyond=[{"what": evil, "why": evil}])
    outline = Outline(text)  # refuses event handlers
    assert "img" not in outline.tags and "onerror" in text
    assert "<img" not in front_svg([given])
    ET.fromstring(front_svg([given]))


def test_one_language_is_shown_once(tmp_path: Path) -> None:
    text = written(tmp_path, [page("C1", remarks=["Only once"], says={"en": "Said once", "zh": ""})])
    assert text.count("Only once") == 1 and text.count("Said once") == 1


def test_a_formula_that_cannot_be_typeset_stands_as_it_was_written(tmp_path: Path) -> None:
    text = written(tmp_path, [page("C1", formulas=[{"latex": r"\nosuch{x}", "means": words("x"), "source": ""}])])
    assert r"<code>\nosuch{x}</code>" in text


def test_a_picture_without_finite_values_says_so(tmp_path: Path) -> None:
    empty = {"title": words("Lost"), "kind": "lines", "x": "x", "y": "y", "rows": [{"series": "a", "x": 1, "y": "inf"}]}
    assert "No value of this picture is finite" in written(tmp_path, [page("C1", pictures=[empty])])


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"kind": "study"}, {"title": None}])
def test_pages_of_another_kind_are_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    given = {key: value for key, value in (page("C4") | change).items() if value is not None}
    with pytest.raises(UserError, match="C4"):
        write_book(tmp_path, [given])
    assert not (tmp_path / "claims.html").exists()


@pytest.mark.parametrize(
    ("given", "unit", "said"),
    [
        (answer(), "bits per byte", "−0.051 [−0.062, −0.040] bits per byte"),
        (answer(1.234, 1.1, 1.4), "x", "1.23× [1.10, 1.40]"),
        (answer(123456.0, 120000.0, 127000.0), "", "123,500 [120,000, 127,000]"),
        (answer(0.0001, -0.002, 0.002), "", "0.0001 [−0.0020, 0.0020]"),
        (answer(3.14e23, 3e23, 3.3e23), "FLOPs", "3.140 × 10²³ [3.000 × 10²³, 3.300 × 10²³] FLOPs"),
        (answer(552.1, 552.1, 552.1, None), "t", "552.1 t"),
        (answer(175e9, 175e9, 175e9, None), "", "1.750 × 10¹¹"),
        (answer(40, 40, 40, None), "", "40"),
        (answer(0.5, "-inf", "inf", 1), "", "0.5 [−∞, ∞]"),
        (answer("inf", "inf", "inf", None), "", "∞"),
        (answer("nan", "-inf", "inf", 0), "x", "not measured"),
        (answer(-3.999966, -4.000045, -3.999888), "decades", "−4.0000 [−4.0000, −3.9999] decades"),
    ],
)
def test_figures_have_the_digits_that_their_interval_warrants(given: dict[str, Any], unit: str, said: str) -> None:
    shown = book._figure(given, unit)
    assert f"{shown['number']} {shown['word']['en']}".strip() == said


def test_chinese_readers_get_units_intervals_and_rules_in_chinese(tmp_path: Path) -> None:
    """What the Chinese page hides is the English of it; the number stands once for both."""
    lost = question("undecided", answer=answer("nan", "-inf", "inf", 0), name="lost")
    found = article(written(tmp_path, [page("C3", questions=[question(), lost])]), "C3")
    shown = visible(re.sub(r'<(span|p) lang="en">.*?</\1>', "", found, flags=re.S))
    for said in ("−0.051 [−0.062, −0.040] 比特每字节", "未测量", "95% 区间，配对 t 分布，n = 3。",
                 "差值的区间在 −0.02 以下则支持，在另一侧则否定。"):  # fmt: skip
        assert said in shown, said
    for said in ("bits per byte", "not measured", "interval", "Supported if"):
        assert said not in shown.partition("所用训练")[0], said  # heads of tables are English


def test_columns_share_their_decimals() -> None:
    assert book._column([0.002, 0.018, None]) == ["0.002", "0.018", "–"]
    assert book._column([2.34112, 2.5, "inf"]) == ["2.341", "2.500", "∞"]
    assert book._column([1, 1500000, -2]) == ["1", "1,500,000", "−2"]
    assert book._column([1.9e-5, 2.04e-5]) == ["1.900 × 10⁻⁵", "2.040 × 10⁻⁵"]
    assert book._column([1e-9, 3.0]) == ["1.000 × 10⁻⁹", "3"]
    assert book._column(["text", True, False]) == ["text", "yes", "no"]


def test_the_front_shows_the_question_that_says_what_the_verdict_says() -> None:
    first, second = question("undecided", name="a"), question("refuted", name="b", unit="t")
    aside = question("refuted", decides=False, unit="aside")
    shown = book._page(page("C1", "refuted", questions=[aside, first, second]))["deciding"]
    assert shown["figure"]["word"]["en"] == "t" and shown["more"] == 1


def test_the_front_shows_what_was_measured() -> None:
    lost = question("undecided", answer=answer("nan", "-inf", "inf", 0))
    shown = book._page(page("C1", "undecided", questions=[lost, question("undecided")]))["deciding"]
    assert shown["figure"]["number"].startswith("−0.051")


def test_few_repeats_are_said_to_decide_nothing(tmp_path: Path) -> None:
    few = page("C1", "undecided", questions=[question("undecided", answer=answer(n=2))])
    assert "Fewer than 3 repeats" in written(tmp_path, [few])
    assert "Fewer than 3 repeats" not in written(tmp_path, [page("C1")])


@pytest.mark.parametrize(
    "rule",
    [Threshold(0.5), Threshold(2.0, "below"), Superiority(0.1), Superiority(0.1, "lower"), Equivalence(0.3)],
)
def test_zones_are_where_the_rule_gives_its_verdicts(rule: Any) -> None:
    from assay.stats import Interval, Verdict

    for low, high, yes in zones(rule.to_dict()):
        middle = low + 1 if high == float("inf") else high - 1 if low == -float("inf") else (low + high) / 2
        expected = Verdict.SUPPORTED if yes else Verdict.REFUTED
        assert rule.verdict(Interval.exact(middle)) is expected, (low, high)


def circle(svg: str) -> float:
    return float(str(next(ET.fromstring(svg).iter(f"{SVG}circle")).get("cx")))


def supported(svg: str) -> tuple[float, float]:
    """Where the zone that supports lies: it alone has a foot of height 3."""
    foot = next(node for node in ET.fromstring(svg).iter(f"{SVG}rect") if node.get("height") == "3")
    left = float(str(foot.get("x")))
    return left, left + float(str(foot.get("width")))


@pytest.mark.parametrize("mini", [False, True])
def test_the_estimate_lies_in_the_zone_of_its_verdict(mini: bool) -> None:
    rule = Equivalence(0.02).to_dict()
    inside = strip(rule, answer(0.005, -0.001, 0.011), mini=mini)
    outside = strip(rule, answer(0.5, 0.4, 0.6), mini=mini)
    left, right = supported(inside)
    assert left < circle(inside) < right
    assert circle(outside) > supported(outside)[1]


def test_strips_of_unbounded_exact_and_missing_answers() -> None:
    rule = Threshold(2.0).to_dict()
    for given in (answer(3.0, "-inf", "inf"), answer(3.0, 3.0, 3.0, None), answer("inf", "inf", "inf"), None):
        ET.fromstring(strip(rule, given))
    assert "<circle" not in strip(rule, None) and "<circle" not in strip(rule, answer("nan", "nan", "nan"))
    assert strip({"rule": "unknown", "margin": 1}, answer()) == "" and strip({}, None) == ""


def test_a_strip_says_rule_and_answer_in_words() -> None:
    title = ET.fromstring(strip(Equivalence(0.02).to_dict(), answer())).findtext(f"{SVG}title")
    assert title == "supported between -0.02000 and 0.02000; found -0.05130 [-0.06220, -0.04010]"


def test_the_readmes_picture_has_every_claim_with_symbol_and_word() -> None:
    pages = [page(f"C{i}", v) for i, v in enumerate(["supported", "refuted", "depends", "undecided"], 1)]
    svg = front_svg([*pages, bare("C5", "failed", ""), bare("C6", "not run", "")])
    text = [str(node.text) for node in ET.fromstring(svg).iter(f"{SVG}text")]
    assert {f"C{i}" for i in range(1, 7)} | set(STATES) <= set(text)
    assert "1 refuted" in text and "var(" not in svg
    symbols = [state.symbol for state in STATES.values()]
    assert len(set(symbols)) == len(symbols)


def test_a_claim_that_is_not_done_has_no_verdict() -> None:
    assert state_of({**page(), "status": "failed"}) == "failed"
    assert state_of({**page(), "status": "not run"}) == "not run"
    assert state_of({**page(), "verdict": "no such"}) == "not run"
    assert state_of(page("C1", "depends")) == "depends"


def test_the_report_needs_no_claims_room(tmp_path: Path) -> None:
    code = "import sys, assay.report.book; sys.exit(any(name.startswith('assay.claims') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
