"""Pages of the instruments, made from their JSON alone: what they say, what they draw, what they refuse."""

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import UserError
from assay.report import charts
from assay.report.lines import Line, Mark, lines
from assay.report.range_test import write_range_test
from assay.report.stability import COLUMNS, layer_means, summary, write_stability
from assay.runs import provenance, write_json
from assay.spec.model import ModelSpec

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "VALIDATE", True)


def layer(number: int, value: float, update: float | None = 0.1) -> dict[str, Any]:
    row = {name: value * number for name, *_ in COLUMNS}
    return {"stack": "decoder", "layer": number, **row, "update": update, "relative_update": update}


def at(seed: int, depth: int, growth: float) -> dict[str, Any]:
    return {
        "loss": 7.0,
        "layers": [layer(n + 1, 1.0) | {"gradient": (1 + 0.1 * seed) * growth**n} for n in range(depth)],
        "matrices": [{"name": "embedding.weight", "gradient": 1.0, "gradient_of_examples": 2.0, "weight": 0.02}],
        "output_update": 0.01 * (seed + 1) * depth,
    }


def study(depths: tuple[int, ...] = (4,), trained: bool = False) -> dict[str, Any]:
    models = []
    for placement, growth in (("post", 2.0), ("pre<b>", 1.0)):
        for depth in depths:
            seeds = []
            for seed in range(3):
                moments = {"start": at(seed, depth, growth)} | ({"end": at(seed, depth, 1.1)} if trained else {})
                losses = list(np.linspace(7, 3, 30)) if trained else []
                failed = "the loss or gradient is not finite at step 31" if trained and seed == 0 else None
                seeds.append(
                    {"seed": seed, "at": moments, "losses": losses, "failed": failed, "unigram": 5.0,
                     "spikes": [{"start": 9, "end": 9, "height": 1.0}] if trained else [], "batch_hash": "0"}
                )  # fmt: skip
            labels = {"placement": placement, "layers": str(depth)}
            spec = ModelSpec(layers=depth).to_dict(full=True)
            models.append({"name": f"{placement} · {depth}", "labels": labels, "spec": spec, "seeds": seeds})
    settings = {"batch_size": 4, "length": 8, "data": "x", "seeds": 3, "optimizer": "adamw", "learning_rate": 1e-3}
    return {
        "kind": "stability", "settings": settings, "models": models, "complete": True,
        "rules": {"spikes": "the rule of spikes", "failure": "the rule of failure"},
        "provenance": provenance("assay probe x"),
    }  # fmt: skip


def page(folder: Path, data: dict[str, Any]) -> str:
    write_json(folder / "stability.json", data)
    return write_stability(folder).read_text(encoding="utf-8")


def test_the_page_of_stability(tmp_path: Path) -> None:
    html = page(tmp_path, study())
    assert html.count('<div class="wide"><svg') == len(COLUMNS)
    assert "assay probe x" in html and "Gradients are norms of the batch" in html
    assert "pre&lt;b&gt;" in html and "pre<b>" not in html
    assert "src=" not in html and "http://www.w3.org" in html, "nothing is loaded"
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)), "no two pictures share an id"
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ET.fromstring(svg)


def test_the_summary_is_the_means_of_seeds() -> None:
    post, pre = (summary(model, "start") for model in study()["models"])
    assert post["ratio"] and post["ratio"].estimate == pytest.approx(8.0)
    assert pre["ratio"] and pre["ratio"].estimate == pytest.approx(1.0)
    assert pre["output_update"] and pre["output_update"].estimate == pytest.approx(0.08) and pre["output_update"].n == 3
    assert layer_means(study()["models"][0], "start")[3]["gradient"] == pytest.approx(1.1 * 8)


def test_training_adds_its_curves_spikes_and_failures(tmp_path: Path) -> None:
    html = page(tmp_path, study(trained=True))
    assert html.count('<div class="wide"><svg') == 2 * len(COLUMNS) + 1
    assert "the rule of spikes" in html and "the rule of failure" in html and "1 of 3" in html
    assert "not finite at step 31" in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_several_depths_add_the_update_against_depth(tmp_path: Path) -> None:
    html = page(tmp_path, study((2, 4, 8)))
    assert html.count('<div class="wide"><svg') == len(COLUMNS) + 1
    assert "against the depth of the model" in html


def test_what_was_interrupted_or_not_measured_says_so(tmp_path: Path) -> None:
    data = study() | {"complete": False}
    for model in data["models"]:
        for seed in model["seeds"]:
            for row in seed["at"]["start"]["layers"]:
                row["update"] = row["relative_update"] = None
            seed["at"]["start"]["output_update"] = None
    html = page(tmp_path, data)
    assert "interrupted" in html and html.count('<div class="wide"><svg') == len(COLUMNS) - 2
    with pytest.raises(UserError, match="holds no measurements"):
        page(tmp_path, {"kind": "other"})


def test_lines_have_bands_from_three_repeats_and_gaps_where_nothing_is_finite() -> None:
    x = [1, 2, 3]
    three = lines([Line("a", x, [[1, 2, 3], [2, 3, math.nan], [3, 4, math.nan]])], ("x", "y"), "t")
    assert three and "mark-area" in three.wide
    said = [str(t.text) for t in ET.fromstring(three.wide).iter(f"{SVG}title")]
    assert any(s.startswith("a, 1.00: 2.00 [") for s in said) and "a, 3.00: 3.00" in said
    two = lines([Line("a", x, [[1, 2, 3], [2, 3, 4]])], ("x", "y"), "t", marks=[Mark(2, "here")])
    assert two and "mark-area" not in two.wide and "here" in two.wide
    assert lines([Line("a", x, [[math.nan] * 3])], ("x", "y"), "t") is None
    assert lines([Line("a", x, [[-1, -1, -1]])], ("x", "y"), "t", log_y=True) is None


def test_logarithmic_lines_are_means_of_logarithms() -> None:
    chart = lines([Line("a", [1, 2], [[1, 1], [10, 10], [100, 100]])], ("x", "y"), "t", log_y=True)
    assert chart and any("a, 1.00: 10.0" in str(t.text) for t in ET.fromstring(chart.wide).iter(f"{SVG}title"))


def test_long_lines_are_thinned_and_keep_their_end() -> None:
    chart = lines([Line("a", range(1, 1001), [list(range(1, 1001))])], ("x", "y"), "t")
    short = lines([Line("a", range(1, 101), [list(range(1, 101))])], ("x", "y"), "t")
    assert chart and short and len(chart.wide) < 2 * len(short.wide)


def reading(seed: int, diverged: bool = True) -> dict[str, Any]:
    rates = list(np.geomspace(1e-5, 1, 20))
    losses = [*np.linspace(7, 5, 15), 9, 20, 50, 90, 100]
    return {"seed": seed, "rates": rates, "losses": losses, "smoothed": losses, "largest": rates[14], "lowest_at": 14,
            "diverged_at": 16 if diverged else None}  # fmt: skip


def test_the_page_of_the_range_test(tmp_path: Path) -> None:
    data = {
        "kind": "lr-find", "name": "small", "settings": {"steps": 20}, "readings": [reading(0), reading(1, False)],
        "found": {"largest": 0.05, "suggestion": 0.0167, "reason": "it fell", "bounded": True}, "why_not": "",
        "rule": "the rule", "complete": False, "provenance": provenance("assay lr-find small"),
    }  # fmt: skip
    write_json(tmp_path / "lr-find.json", data)
    html = write_range_test(tmp_path).read_text(encoding="utf-8")
    assert "Try a peak learning rate of 0.017: it fell." in html and "suggestion 0.0167" in html
    assert "interrupted" in html and "not within the range" in html and "the rule" in html
    write_json(tmp_path / "lr-find.json", data | {"found": None, "why_not": "the loss never fell"})
    assert "No suggestion: the loss never fell" in write_range_test(tmp_path).read_text(encoding="utf-8")
    write_json(tmp_path / "lr-find.json", {"kind": "stability"})
    with pytest.raises(UserError):
        write_range_test(tmp_path)
