import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from assay.report import charts, figure
from assay.report.figure import draw, log_ticks, number

SVG = "{http://www.w3.org/2000/svg}"


def picture(kind: str, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"title": {"en": f"A {kind}", "zh": "图"}, "kind": kind, "x": "rate", "y": "loss", "rows": rows, **more}


def said(svg: str) -> list[str]:
    return [str(node.text) for node in ET.fromstring(svg).iter(f"{SVG}title")]


def words(svg: str) -> str:
    return " ".join("".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text"))


def band(series: str, x: Any, y: Any, low: Any, high: Any) -> dict[str, Any]:
    return {"series": series, "x": x, "y": y, "low": low, "high": high}


EVERY = [
    picture("lines", [band(s, x, 2 + x, 1 + x, 3 + x) for s in "ab" for x in (0.1, 0.2, 0.4)], log_x=True, log_y=True),
    picture("lines", [band(s, x, 1.0, 0.9, 1.2) for s in "ab" for x in ("embedding", "head")]),
    picture("points", [band(s, x, x, x - 1, x + 1) for s in "ab" for x in (1, 2, 3)]),
    picture("points", [band(n, n, 2.0, 1.9, 2.1) for n in ("LayerNorm", "RMSNorm")]),
    picture("points", [band(s, t, 2.0, 1.9, 2.1) for s in ("causal", "prefix") for t in ("copying", "sorting")]),
    picture("bars", [{"series": "", "x": n, "y": v} for n, v in (("GPT-3", 175), ("PaLM", 540))], log_y=True),
    picture("bars", [band(s, t, -0.5, -0.7, 0.1) for s in ("causal", "prefix") for t in ("copying", "sorting")]),
    picture("heat", [{"x": x, "y": y, "value": x * y} for x in range(4) for y in range(3)]),
    picture("heat", [{"x": x, "y": y, "value": 1 + (x == y)} for x in ("a", "b") for y in ("a", "b")]),
]  # fmt: skip


@pytest.mark.parametrize("given", EVERY, ids=lambda given: given["kind"])
def test_every_kind_is_titled_svg_that_loads_nothing_in_both_widths(given: dict[str, Any]) -> None:
    chart = draw(given)
    assert chart and chart.title == f"A {given['kind']}"
    for svg in (chart.wide, chart.narrow):
        tree = ET.fromstring(svg)
        assert tree.get("viewBox") and tree.findtext(f"{SVG}title") == chart.title
        assert not re.search(r'(?:href|src)="(?!#)', svg) and "<script" not in svg
        assert 'fill="black"' not in svg and 'stroke="black"' not in svg
        assert "rate" in words(svg) and "loss" in words(svg)
    assert float(str(ET.fromstring(chart.narrow).get("width"))) < 400


def test_descriptions_hold_to_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "VALIDATE", True)
    for given in (EVERY[0], EVERY[4], EVERY[7]):
        draw(given)


def test_a_point_tells_its_value_and_interval() -> None:
    chart = draw(picture("points", [band("a", 1, 2.5, 2.25, 2.75), band("b", 1, 3.5, 3.25, 3.75)]))
    assert chart and "a at 1: 2.500 [2.250, 2.750]" in said(chart.wide)


@pytest.mark.parametrize("bad", ["inf", "-inf", "nan", float("inf"), float("nan"), None])
def test_what_is_not_finite_is_left_out_and_named(bad: Any) -> None:
    rows = [{"series": s, "x": x, "y": 2.0 + x} for s in ("pre", "post") for x in (0.1, 0.2, 0.3)]
    rows[5]["y"] = bad
    chart = draw(picture("lines", rows))
    assert chart and re.search(r"Left out: post at 0\.3 \((∞|−∞|not a number)\)\.", words(chart.wide))
    assert sum(text.startswith("post at") for text in said(chart.wide)) == 2
    rows[5]["y"] = 2.3
    whole = draw(picture("lines", rows))
    assert whole and "Left out" not in whole.wide


def test_what_a_logarithm_cannot_show_is_left_out() -> None:
    rows = [{"series": "a", "x": x, "y": y} for x, y in ((0.0, 1.0), (1.0, 0.0), (2.0, 3.0), (4.0, 5.0))]
    chart = draw(picture("lines", rows, log_x=True, log_y=True))
    assert chart and "Left out: a at 0 (1.000); a at 1 (0)." in words(chart.wide)


def test_many_left_out_are_counted() -> None:
    rows = [{"series": "a", "x": x, "y": 1.0 if x < 2 else "nan"} for x in range(20)]
    chart = draw(picture("lines", rows))
    assert chart and "and 12 more" in words(chart.wide)


def test_nothing_to_draw_is_none() -> None:
    assert draw(picture("lines", [])) is None
    assert draw(picture("points", [{"series": "a", "x": "b", "y": "inf"}])) is None
    assert draw(picture("heat", [{"x": 0, "y": 0, "value": "nan"}])) is None


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="pie"):
        draw(picture("pie", []))


def test_an_interval_without_bounds_is_not_drawn_and_one_bound_reaches_the_frame() -> None:
    rows = [band("a", "a", 1.0, "-inf", "inf"), band("b", "b", 2.0, 1.5, "inf"), band("c", "c", 3.0, 2.5, 3.5)]
    chart = draw(picture("points", rows))
    assert chart and "a: 1.000" in said(chart.wide) and "b: 2.000 [1.500, ∞]" in said(chart.wide)
    assert "Intervals are cut at the frame." in words(chart.wide)


def test_wide_bands_do_not_flatten_lines_and_error_bars_are_whole() -> None:
    rows = [band("a", x, float(x), x - 50.0, x + 50.0) for x in range(5)]
    lines, points = draw(picture("lines", rows)), draw(picture("points", rows))
    assert lines and points
    assert "cut at the frame" in words(lines.wide) and "cut at the frame" not in words(points.wide)


def test_bars_stand_on_zero() -> None:
    chart = draw(picture("bars", [{"series": "", "x": n, "y": v} for n, v in (("a", 101.0), ("b", 104.0))]))
    assert chart
    texts = [node.text for node in ET.fromstring(chart.wide).iter(f"{SVG}text")]
    assert "0" in texts


def test_twelve_series_differ_in_colour_or_shape() -> None:
    names = [f"series {index}" for index in range(12)]
    marks = figure._marks(names, charts.WIDE, legend=True)
    colours, shapes = (marks[key].to_dict()["scale"]["range"] for key in ("color", "shape"))
    assert len(set(zip(colours, shapes, strict=True))) == 12
    chart = draw(picture("lines", [{"series": n, "x": x, "y": x * i} for i, n in enumerate(names) for x in (1, 2)]))
    assert chart and all(name in words(chart.narrow) for name in names)


def test_long_lines_are_thinned_with_both_ends_kept() -> None:
    rows = [{"series": "a", "x": x, "y": float(x)} for x in range(5000)]
    kept = figure._thin([{"x": row["x"]} for row in rows])
    assert len(kept) == figure.POINTS and (kept[0]["x"], kept[-1]["x"]) == (0, 4999)
    chart = draw(picture("lines", rows))
    assert chart and len(chart.wide) < 30_000


def test_charts_of_one_title_share_no_id() -> None:
    one, two = draw(EVERY[0], "C1-0"), draw(EVERY[0], "C2-0")
    assert one and two

    def ids(chart: charts.Chart) -> set[str]:
        return set(re.findall(r'\bid="([^"]+)"', chart.wide + chart.narrow))

    assert ids(one) and not ids(one) & ids(two)


def test_text_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    chart = draw(picture("points", [band(evil, evil, 1.0, 0.5, 1.5)], title={"en": evil, "zh": evil}))
    assert chart and "<script" not in chart.wide + chart.narrow


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.5, 2000, [1, 10, 100, 1000]),
        (1, 30, [1, 2, 5, 10, 20]),
        (1e-9, 1e12, None),
        (2.1, 2.2, None),
        (0.3, 1.22, [0.4, 0.6, 0.8, 1.0, 1.2]),
    ],
)
def test_logarithmic_axes_have_round_ticks(low: float, high: float, ticks: list[float] | None) -> None:
    found = log_ticks(low, high)
    assert 3 <= len(found) <= 9 and all(low <= tick <= high for tick in found)
    if ticks:
        assert found == ticks


def test_numbers_from_plain_data() -> None:
    assert number("inf") == float("inf") and number("-inf") == -float("inf") and number("2.5") == 2.5
    assert number("x") != number("x") and number(None) != number(None)
