"""Jumps from metrics: exact laws, known truths recovered, controls that must come out the other way, bad input."""

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.errors import UserError
from assay.stats.composition import compose, frechet, independent
from assay.stats.emergence import Emergence, analyse
from assay.stats.results import read_results
from assay.stats.smooth import detectable, fit_counts, fit_power_law

SCALES = (1e6, 1e7, 1e8, 1e9, 1e10)


def smooth(scale: float) -> float:
    return 3 * (scale / 1e6) ** -0.5


def step(scale: float) -> float:
    return 3.0 if scale < 1e9 else 0.05


def write(path: Path, heads: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heads, *rows])
    return path


def made(path: Path, law: Callable[[float], float], *, items: int = 400, length: int = 5, seed: int = 0) -> Emergence:
    """Items drawn from a token's law: every token is right with probability exp(-law)."""
    draw = np.random.default_rng(seed)
    rows: list[list[object]] = []
    for index, scale in enumerate(SCALES):
        right = draw.random((items, length)) < math.exp(-law(scale))
        for item in right:
            rows.append([f"m{index}", scale, -law(scale), length, int(item.all()), int((~item).sum())])
    heads = ["model", "scale", "token_logprob", "length", "accuracy", "edit_distance"]
    return analyse(read_results(write(path, heads, rows)), resamples=300)


def test_a_smooth_quantity_through_exact_match_is_told_from_a_jump_of_its_own(tmp_path: Path) -> None:
    found = made(tmp_path / "r.csv", smooth)
    exact, edit = found.curves
    assert found.law is not None and found.law.exponent == pytest.approx(0.5, abs=1e-6) and found.law.fit is not None
    assert found.law.fit > 0.9999
    assert exact.explained is not None and exact.explained.low > 0.95 and "makes the jump" in exact.verdict
    assert "no jump of its own" in edit.verdict
    for scale, value in zip(SCALES, exact.predicted, strict=True):
        assert value == pytest.approx(math.exp(-5 * smooth(scale)))
    for scale, value in zip(SCALES, edit.predicted, strict=True):
        assert value == pytest.approx(5 * (1 - math.exp(-smooth(scale))))
    # The control: tokens whose probability itself jumps.
    control = made(tmp_path / "c.csv", step)
    assert all("itself is not smooth" in curve.verdict for curve in control.curves)
    assert control.curves[0].smoothness is not None and control.curves[0].smoothness < 0.9


def test_a_metric_that_the_quantity_does_not_explain(tmp_path: Path) -> None:
    """Accuracies that stay at nothing although p^L would rise: a task that is not made of its tokens."""
    rows: list[list[object]] = [
        [f"m{i}", s, -smooth(s), 2, int(i == 4 and k % 2)] for i, s in enumerate(SCALES) for k in range(200)
    ]
    heads = ["model", "scale", "token_logprob", "length", "accuracy"]
    found = analyse(read_results(write(tmp_path / "r.csv", heads, rows)), resamples=300)
    assert found.curves[0].verdict == "exact match does not explain the jump"


def test_shares_of_right_tokens_serve_as_well_as_log_probabilities(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    rows: list[list[object]] = []
    for i, s in enumerate(SCALES):
        for item in draw.random((400, 4)) < math.exp(-smooth(s)):
            rows.append([f"m{i}", s, item.mean(), 4, int(item.all())])
    heads = ["model", "scale", "token_accuracy", "length", "accuracy"]
    found = analyse(read_results(write(tmp_path / "r.csv", heads, rows)), resamples=300)
    assert found.law is not None and found.law.exponent == pytest.approx(0.5, abs=0.03)
    assert "makes the jump" in found.curves[0].verdict


@pytest.mark.parametrize("column", ["token_logprobs", "logprob"])
def test_ways_to_give_log_probabilities_agree(tmp_path: Path, column: str) -> None:
    rows: list[list[object]] = []
    for i, s in enumerate(SCALES):
        for k in range(20):
            value = -smooth(s)
            given = " ".join([f"{value}"] * 3) if column == "token_logprobs" else 3 * value
            rows.append([f"m{i}", s, given, 3, int(k < 20 * math.exp(-3 * smooth(s)))])
    heads = ["model", "scale", column, "length", "accuracy"]
    found = analyse(read_results(write(tmp_path / "r.csv", heads, rows)), resamples=200)
    assert found.law is not None and found.law.exponent == pytest.approx(0.5)


def test_counts_alone_give_the_law_back_and_zeros_do_not_bend_it(tmp_path: Path) -> None:
    scales, items = np.array(SCALES), np.full(5, 1e6)
    law = fit_counts(
        scales, np.full(5, 5.0), np.round(items * np.exp(-5 * np.array([smooth(s) for s in SCALES]))), items
    )
    assert law.exponent == pytest.approx(0.5, abs=2e-3)
    rows: list[list[object]] = []
    draw = np.random.default_rng(0)
    for i, s in enumerate(SCALES):
        rows.append([f"m{i}", s, draw.binomial(400, math.exp(-5 * smooth(s))) / 400, 5, 400])
    found = analyse(read_results(write(tmp_path / "r.csv", ["model", "scale", "accuracy", "length", "items"], rows)))
    assert found.law is not None and found.law.exponent == pytest.approx(0.5, abs=0.06)
    assert found.curves[0].observed[0] == 0 and 0 < found.curves[0].predicted[0] < 1e-4
    assert any("observed 0" in sentence for sentence in found.resolution)


def test_multiple_choice_from_margins(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    means = [-3.0, -1.5, 0.0, 1.5, 3.0]
    rows: list[list[object]] = [
        [f"m{i}", s, m]
        for i, (s, mean) in enumerate(zip(SCALES, means, strict=True))
        for m in draw.normal(mean, 1.0, 500)
    ]
    found = analyse(read_results(write(tmp_path / "r.csv", ["model", "scale", "margin"], rows)), resamples=200)
    (curve,) = found.curves
    assert found.margin is not None and found.margin[1] == pytest.approx(1.0, abs=0.05)
    assert curve.predicted == pytest.approx([0.0013, 0.0668, 0.5, 0.9332, 0.9987], abs=0.02)
    assert "makes the jump" in curve.verdict


def test_power_law_of_exact_values() -> None:
    scales = np.array(SCALES)
    a, b = fit_power_law(scales, 7 * scales**-0.3)
    assert float(a) == pytest.approx(math.log(7)) and float(b) == pytest.approx(0.3)


def test_resolution_is_the_rule_of_three() -> None:
    assert detectable(1000) == pytest.approx(3 / 1000, rel=0.01)
    assert (1 - detectable(50)) ** 50 == pytest.approx(0.05)


def test_intervals_hold_the_truth_about_as_often_as_they_say(tmp_path: Path) -> None:
    """Exact match of the middle model: its 95% interval over 60 repeats."""
    truth, hits = math.exp(-5 * smooth(1e8)), 0
    for seed in range(60):
        curve = made(tmp_path / "r.csv", smooth, items=60, seed=seed).curves[0]
        hits += curve.low[2] <= truth <= curve.high[2]
    assert hits >= 52


def test_five_subtasks_from_40_to_60_percent() -> None:
    before, after = independent([0.4] * 5), independent([0.6] * 5)
    assert before == pytest.approx(0.01024) and after == pytest.approx(0.07776)
    assert after / before == pytest.approx(7.59375)
    # The note's 1.1% and 7% belong to 40.6% and 58.8%.
    assert independent([0.406] * 5) == pytest.approx(0.011, abs=5e-5)
    assert independent([0.588] * 5) == pytest.approx(0.070, abs=5e-4)


def test_frechet_bounds_hold_for_every_dependence_and_are_reached() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        k, weights = draw.integers(2, 5), draw.random(32)
        cells = draw.random((32, k)) < 0.5
        weights /= weights.sum()
        parts = (weights[:, None] * cells).sum(0)
        low, high = frechet(parts.tolist())
        assert low - 1e-12 <= float(weights[cells.all(1)].sum()) <= high + 1e-12
    assert frechet([0.7, 0.6]) == (pytest.approx(0.3), 0.6)
    assert frechet([0.4] * 5) == (0.0, 0.4)


def test_a_column_that_is_blank_everywhere_says_nothing(tmp_path: Path) -> None:
    heads = ["model", "scale", "accuracy", "length", "items", "subtask", "score"]
    rows = [[f"m{n}", 10.0**n, 0.2 * n, 3, 100, "", ""] for n in range(1, 4)]
    found = read_results(write(tmp_path / "r.csv", heads, rows))
    assert found.subtasks == {} and len(found.models) == 3


def test_compositions_are_read_and_impossible_wholes_shown(tmp_path: Path) -> None:
    rows: list[list[object]] = []
    for model, scale, part, whole in (("a", 1, 0.4, 0.01), ("b", 10, 0.6, 0.7)):
        rows += [[model, scale, f"part{k}", part] for k in range(5)] + [[model, scale, "whole", whole]]
    found = analyse(read_results(write(tmp_path / "r.csv", ["model", "scale", "subtask", "score"], rows)))
    first, second = found.compositions
    assert first.independent == pytest.approx(0.01024) and first.possible and second.possible is False
    with pytest.raises(UserError, match="other sub-tasks"):
        compose({"a": {"x": np.ones(1)}, "b": {"y": np.ones(1)}}, {"a": 1, "b": 2})


GOOD = ["model", "scale", "token_logprob", "length", "accuracy"]


@pytest.mark.parametrize(
    ("heads", "rows", "words"),
    [
        (["model", "size", "accuracy", "length"], [["a", 1, 1, 1]], "column scale is missing"),
        (["scale", "accuracy", "length"], [[1, 1, 1]], "column model is missing"),
        (["model", "scale", "accuracy"], [["a", 1, 1]], "column length is missing"),
        (["model", "scale", "colour"], [["a", 1, 1]], "no column holds a result"),
        (["model", "scale", "score"], [["a", 1, 1]], "column subtask is missing"),
        (GOOD, [["a", 5, -1, 2, 0], ["b", 5, -1, 2, 0]], "scale holds 5 for every model"),
        (GOOD, [["a", 5, -1, 2, 0], ["b", 6, -1, 2, 1.5]], "line 3: accuracy = 1.5: a share lies between 0 and 1"),
        (GOOD, [["a", 5, 0.2, 2, 0], ["b", 6, -1, 2, 1]], "line 2: token_logprob = 0.2: a log-probability above 0"),
        (GOOD, [["a", 5, "x", 2, 0], ["b", 6, -1, 2, 1]], "line 2: token_logprob = x: is no number"),
        (GOOD, [["a", 5, -1, 0, 0], ["b", 6, -1, 2, 1]], "line 2: length = 0"),
        (GOOD, [["a", 5, "nan", 1, 0], ["b", 6, -1, 2, 1]], "is not finite"),
        (GOOD, [["a", 5, -1, 2, 0], ["a", 6, -1, 2, 1]], "has scales 5, 6"),
        (GOOD, [["a", 0, -1, 2, 0], ["b", 6, -1, 2, 1]], "scale = 0"),
        (GOOD, [["a", 5, -1, 2], ["b", 6, -1, 2, 1]], "has not the 5 cells"),
        (GOOD, [["a", 5, -1, 2, ""], ["a", 5, -1, 2, 1], ["b", 6, -1, 2, 1]], "in some rows and not in others"),
        (GOOD, [["a", 5, "-inf", 2, 0], ["b", 6, -1, 2, 1]], "no power law"),
        (GOOD, [], "holds no rows"),
        (["model", "scale", "token_logprobs", "accuracy"], [["a", 5, "-1 0.5", 0], ["b", 6, "-1", 1]], "above 0"),
        (["model", "scale", "token_logprob"], [["a", 5, -1], ["b", 6, -0.5]], "stands alone"),
    ],
)
def test_bad_input_is_one_message(tmp_path: Path, heads: list[str], rows: list[list[object]], words: str) -> None:
    path = write(tmp_path / "r.csv", heads, rows)
    with pytest.raises(UserError) as error:
        analyse(read_results(path), resamples=100)
    assert words in str(error.value)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_results(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_results(tmp_path / "b.csv")
