import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tests.report.synthetic import write_study

from assay.report import charts
from assay.report.rows import aggregate
from assay.report.study import StudyData, load
from assay.spec.study import StudySpec

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions are held to Vega-Lite's schema here."""
    monkeypatch.setattr(charts, "VALIDATE", True)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    path = tmp_path_factory.mktemp("study")
    write_study(path)
    return load(path)


def all_charts(study: StudyData) -> list[charts.Chart]:
    found = [
        charts.loss_by_compute(study.finished),
        charts.final_loss(aggregate(study)),
        charts.loss_by_position(study.finished, "bytes"),
        charts.learning_curves(study.finished),
    ]
    assert all(found)
    return [chart for chart in found if chart]


def test_charts_are_titled_scalable_svg_that_loads_nothing(study: StudyData) -> None:
    for chart in all_charts(study):
        for svg in (chart.wide, chart.narrow):
            tree = ET.fromstring(svg)
            assert tree.get("viewBox") and tree.get("role") == "img"
            assert tree.findtext(f"{SVG}title") == chart.title
            assert not re.search(r'(?:href|src)="(?!#)', svg) and "@import" not in svg and "<script" not in svg
        assert float(str(ET.fromstring(chart.narrow).get("width"))) < 400


def test_ids_of_charts_in_one_page_do_not_meet(study: StudyData) -> None:
    ids = [name for c in all_charts(study) for svg in (c.wide, c.narrow) for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert ids and len(ids) == len(set(ids))
    for c in all_charts(study):
        assert set(re.findall(r"url\(#([^)]+)\)", c.wide)) <= set(re.findall(r'\bid="([^"]+)"', c.wide))


def test_points_tell_their_values(study: StudyData) -> None:
    bits = aggregate(study)[0].bits_per_byte
    assert bits is not None
    said = [t.text for t in ET.fromstring(charts.final_loss(aggregate(study)).wide).iter(f"{SVG}title")]
    assert f"causal: {bits.estimate:.4f} [{bits.low:.4f}, {bits.high:.4f}]" in said
    assert sum(str(text).startswith("causal, seed") for text in said) == 3


def test_lines_are_told_apart_by_colour_and_shape(study: StudyData) -> None:
    svg = all_charts(study)[0].wide
    for index, colour in enumerate(charts.PALETTE[:3], 1):
        assert f"var(--c{index},{colour}" in svg
    assert 'fill="black"' not in svg and 'stroke="black"' not in svg  # text takes the page's colour


def test_a_single_seed_has_points_and_no_band(tmp_path: Path) -> None:
    write_study(tmp_path, StudySpec.from_dict({"vary": {"placement": ["pre"]}, "seeds": 1}))
    data = load(tmp_path)
    chart = charts.loss_by_compute(data.finished)
    assert chart and "[" not in "".join(str(t.text) for t in ET.fromstring(chart.wide).iter(f"{SVG}title"))
    assert "1 seed" in charts.final_loss(aggregate(data)).wide


def test_more_combinations_than_colours_are_dashed(tmp_path: Path) -> None:
    values = [2e-3, 2.1e-3, 2.2e-3, 2.3e-3, 2.4e-3, 2.5e-3, 2.6e-3, 2.7e-3, 2.8e-3]
    vary = {"train.optimizer.learning_rate": values}
    write_study(tmp_path, StudySpec.from_dict({"vary": vary, "seeds": 1}))
    chart = charts.loss_by_compute(load(tmp_path).finished)
    assert chart and 'stroke-dasharray="6,3"' in chart.wide


def test_runs_without_curves_have_no_chart(study: StudyData) -> None:
    bare = load(study.path)
    for run in bare.runs:
        run.metrics = []
    assert charts.loss_by_position(bare.finished) is None
    assert charts.learning_curves(bare.finished) is None
    assert charts.loss_by_compute(bare.finished) is None


def test_a_band_wider_than_the_frame_does_not_set_it(tmp_path: Path) -> None:
    write_study(tmp_path, StudySpec.from_dict({"vary": {"placement": ["pre"]}, "seeds": 3}), noise=0.5)
    chart = charts.loss_by_compute(load(tmp_path).finished)
    labels = [
        float(t.text or 0)
        for t in ET.fromstring(chart.wide).iter(f"{SVG}text")
        if re.fullmatch(r"\d\.\d", t.text or "")
    ]
    assert labels and min(labels) > 0.3 and max(labels) < 8


def test_a_band_takes_three_seeds(tmp_path: Path) -> None:
    for seeds in (2, 3):
        write_study(tmp_path / str(seeds), StudySpec.from_dict({"vary": {"placement": ["pre"]}, "seeds": seeds}))
        chart = charts.loss_by_compute(load(tmp_path / str(seeds)).finished)
        assert chart and ("mark-area" in chart.wide) == (seeds == 3)


def test_the_untrained_model_does_not_set_the_frame(study: StudyData) -> None:
    before = charts.loss_by_compute(study.finished)
    again = load(study.path)
    for run in again.runs:
        run.metrics.insert(0, {"kind": "eval", "step": 0, "flops": 0, "bits_per_byte": 9.0})
    assert charts.loss_by_compute(again.finished) == before
