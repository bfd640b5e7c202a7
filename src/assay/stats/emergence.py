"""Is a jump in results the model's or the metric's? Schaeffer et al. 2023, as an analysis of anyone's results.

A token's cross-entropy falls smoothly with scale, -log p(s) = exp(a - b log s) (a power law). Each metric is a function
of p and the target's length L:

    exact match         p^L                     sharp: nothing at all, then everything
    edit distance       L (1 - p)               linear
    multiple choice     Phi(mean / spread)      of the margin between the right choice and the best other one

The smooth quantity is refitted, each metric's curve predicted from the fit alone, and compared with what was observed.
Where exact match is all there is, p's power law is fitted to the counts themselves (a binomial model with complementary
log-log link), which leaves two free parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.errors import UserError
from assay.stats.composition import Composition, compose
from assay.stats.distributions import normal_cdf
from assay.stats.intervals import Interval, wilson_interval
from assay.stats.results import ModelResults, Results
from assay.stats.smooth import Draw, PowerLaw, detectable, fit_counts, fit_power_law, quality

__all__ = ["Curve", "Emergence", "analyse"]

Array = NDArray[np.float64]

MOST, LEAST, JUMP, SMOOTH = 0.8, 0.5, 0.7, 0.9
"""The metric makes the jump where the smooth quantity is smooth (its fit explains SMOOTH of its variance), the curve
explained is surely above MOST, and the steepest step is predicted within 1 - JUMP of it. It does not where the curve
explained is surely below LEAST, or the step predicted surely misses by more than 1 - JUMP."""


@dataclass(frozen=True)
class Curve:
    """One metric over the scales."""

    metric: str
    """exact match, edit distance, multiple choice."""
    scales: list[float]
    observed: list[float]
    low: list[float]
    high: list[float]
    """95% bounds of the observed."""
    predicted: list[float]
    """From the smooth quantity's fit alone."""
    own: list[float] | None
    """From each model's own smooth quantity, without the fit; None where there is none."""
    explained: Interval | None
    """1 - sum (observed - predicted)^2 / sum (observed - mean)^2; None where the observed does not change."""
    explained_own: float | None
    """The same, of `own`."""
    step: tuple[int, int] | None
    """The neighbouring scales between which the observed changes most: the jump."""
    jump: float
    """The observed change there."""
    jump_predicted: float
    jump_explained: Interval | None
    """1 - |1 - predicted / observed change| of that step."""
    smoothness: float | None
    """Share of the smooth quantity's own variance that its law explains; None where it was not measured."""
    verdict: str


@dataclass(frozen=True)
class Emergence:
    """An analysis."""

    path: str
    models: list[str]
    scales: list[float]
    items: list[int]
    smooth: str
    """What the smooth quantity was taken from."""
    nats: list[float] | None
    """[models] cross-entropy of a token."""
    law: PowerLaw | None
    margin: tuple[list[float], float] | None
    """[models] mean margin, and its spread over items."""
    curves: list[Curve]
    compositions: list[Composition]
    resolution: list[str]
    """What the test set can and cannot tell."""
    notes: list[str] = field(default_factory=list)
    seed: int = 0
    resamples: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def analyse(results: Results, *, resamples: int = 2000, seed: int = 0) -> Emergence:
    """Fit, predict, compare.

    Args:
        results: what `read_results` gives.
        resamples: of items within each model, for the intervals.
        seed: of the resampling.

    Raises:
        UserError: models that lack what others have, or fewer than two that can be fitted.
    """
    if resamples < 100:
        raise UserError(f"--resamples {resamples}: too few for an interval.", "Give 100 or more; 2,000 is usual.")
    models = results.models
    scales = np.array([m.scale for m in models])
    curves: list[Curve] = []
    law, nats = None, None
    notes = _notes(results)
    rng = np.random.default_rng(seed)
    draws = [Draw(model, resamples, rng) for model in models]
    if results.smooth is not None and all(m.nats is not None or m.rates is not None for m in models):
        try:
            nats = np.array([draw.nats for draw in draws])
        except UserError as error:
            raise UserError(f"{results.path}: {error}") from None
        intercept, exponent = fit_power_law(scales, nats)
        fitted = PowerLaw(float(intercept), float(exponent), None)
        law = PowerLaw(fitted.intercept, fitted.exponent, quality(np.log(nats), np.log(fitted.nats(scales))))
        again = np.stack([draw.nats_again for draw in draws], axis=1)
        a, b = fit_power_law(scales, again)
        smooth_again = np.exp(a[:, None] - b[:, None] * np.log(scales))
        if all(m.accuracy is not None for m in models):
            curves.append(_curve("exact match", scales, draws, law, smooth_again))
        if all(m.edit_distance is not None for m in models):
            curves.append(_curve("edit distance", scales, draws, law, smooth_again))
    elif models[0].accuracy is not None and all(m.accuracy is not None for m in models):
        law, curve = _from_counts(scales, draws)
        curves.append(curve)
    margin = None
    if all(m.margin is not None for m in models) and len(models[0].items):
        margin, curve = _choices(scales, draws)
        curves.append(curve)
    try:
        compositions = compose(results.subtasks, dict(zip([m.model for m in models], scales.tolist(), strict=True)))
    except UserError as error:
        raise UserError(f"{results.path}: {error}") from None
    if not curves and not compositions:
        raise UserError(
            f"{results.path}: nothing can be compared: {results.smooth or 'no smooth quantity'} stands alone, "
            "or is not there for every model.",
            "Add accuracy, edit_distance or margin for every model.",
        )
    return Emergence(
        results.path, [m.model for m in models], scales.tolist(), [m.number for m in models],
        results.smooth or ("accuracy, through counts" if law else "none"),
        None if nats is None else nats.tolist(), law, margin, curves, compositions,
        _resolution(models, curves), notes, seed, resamples,
    )  # fmt: skip


def _curve(metric: str, scales: Array, draws: Sequence[Draw], law: PowerLaw, again: Array) -> Curve:
    """Observed and predicted; `again` [resamples, models] is nats from the refits."""
    observed, repeats = zip(*(draw.observe(metric) for draw in draws), strict=True)
    smooth = law.nats(scales)
    predicted = np.array([draw.predict(metric, smooth[i : i + 1])[0] for i, draw in enumerate(draws)])
    predictions = np.stack([draw.predict(metric, again[:, i]) for i, draw in enumerate(draws)], axis=1)
    return _compare(
        metric, scales, draws, (np.array(observed), np.stack(repeats, 1)), (predicted, predictions),
        np.array([draw.own(metric) for draw in draws]), law.fit,
    )  # fmt: skip


def _compare(
    metric: str,
    scales: Array,
    draws: Sequence[Draw],
    seen: tuple[Array, Array],
    foretold: tuple[Array, Array],
    own: Array | None,
    smoothness: float | None,
) -> Curve:
    """`seen` and `foretold`: the values [models], and the same of every resample [resamples, models]."""
    (observed, repeats), (predicted, predictions) = seen, foretold
    low, high = np.quantile(repeats, [0.025, 0.975], axis=0)
    numbers = [draw.model.number for draw in draws]
    if metric != "edit distance":  # a resample of zeros is all zeros: Wilson's interval knows better
        for i, (share, number) in enumerate(zip(observed, numbers, strict=True)):
            if number > 1:
                bounds = wilson_interval(round(share * number), number)
                low[i], high[i] = min(bounds.low, share), max(bounds.high, share)
    explained = stepped = pair = None
    jump = jump_predicted = 0.0
    if (share_explained := quality(observed, predicted)) is not None:
        j = int(np.abs(np.diff(observed)).argmax())
        pair = (j, j + 1)
        jump, jump_predicted = float(np.diff(observed)[j]), float(np.diff(predicted)[j])
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = ((repeats - repeats.mean(1, keepdims=True)) ** 2).sum(1)
            curve_again = 1 - ((repeats - predictions) ** 2).sum(1) / spread
            step_again = 1 - np.abs(1 - np.diff(predictions)[:, j] / np.diff(repeats)[:, j])
        known = any(draw.rows is not None or draw.model.number > 1 for draw in draws)
        explained = _interval(share_explained, curve_again, known, min(numbers))
        stepped = _interval(1 - abs(1 - jump_predicted / jump), step_again, known, min(numbers))
    alone = None if own is None else quality(observed, own)
    return Curve(
        metric, scales.tolist(), observed.tolist(), low.tolist(), high.tolist(), predicted.tolist(),
        None if own is None else own.tolist(), explained, alone, pair, jump, jump_predicted, stepped, smoothness,
        _verdict(metric, explained, stepped, smoothness),
    )  # fmt: skip


def _interval(estimate: float, again: Array, known: bool, number: int) -> Interval:
    """Percentiles of the resamples that are finite; without bounds where the spread is not known."""
    again = again[np.isfinite(again)]
    low, high = np.quantile(again, [0.025, 0.975]) if known and len(again) else (-math.inf, math.inf)
    return Interval(estimate, float(low), float(high), 0.95, number, f"bootstrap over items, {len(again)} resamples")


def _sure(value: Interval) -> tuple[float, float]:
    """Its bounds; the estimate twice where nothing is known of the spread."""
    return (value.low, value.high) if math.isfinite(value.low) else (value.estimate, value.estimate)


def _verdict(metric: str, explained: Interval | None, stepped: Interval | None, smoothness: float | None) -> str:
    if explained is None or stepped is None:
        return f"{metric} does not change over the scales: there is no jump to explain"
    (low, high), (_, step_high) = _sure(explained), _sure(stepped)
    if smoothness is not None and smoothness < SMOOTH:
        return f"the underlying quantity itself is not smooth: the jump is not {metric}'s doing alone"
    if high < LEAST or step_high < JUMP:
        return f"{metric} does not explain the jump"
    if low >= MOST and stepped.estimate >= JUMP:
        if metric == "edit distance":
            return "edit distance follows the smooth quantity and has no jump of its own"
        return f"a smooth quantity seen through {metric} makes the jump"
    return "undecided: the share explained is neither surely high nor surely low"


def _from_counts(scales: Array, draws: Sequence[Draw]) -> tuple[PowerLaw, Curve]:
    """Exact match alone: the power law from its counts."""
    observed, repeats = (
        np.array([draw.observe("exact match")[0] for draw in draws]),
        np.stack([draw.observe("exact match")[1] for draw in draws], 1),
    )
    length = np.array([draw.mean(draw.length)[0] for draw in draws])
    items = np.array([max(draw.model.number, 1) for draw in draws], dtype=float)
    # Shares of unknown numbers of items are weighted alike.
    items = np.where(items == 1, 100.0, items)
    law = fit_counts(scales, length, observed * items, items)
    predicted = np.exp(-law.nats(scales) * length)
    chosen = repeats[: min(len(repeats), 400)]
    laws = [fit_counts(scales, length, row * items, items) for row in chosen]
    predictions = np.stack([np.exp(-again.nats(scales) * length) for again in laws])
    return law, _compare("exact match", scales, draws, (observed, chosen), (predicted, predictions), None, None)


def _choices(scales: Array, draws: Sequence[Draw]) -> tuple[tuple[list[float], float], Curve]:
    """Multiple choice from margins: their mean grows linearly with log scale, their spread is pooled."""
    x = np.log(scales)
    centred = x - x.mean()
    means, again, squares, grades, grades_again = [], [], [], [], []
    for draw in draws:
        margin = draw.model.margin
        assert margin is not None
        value, repeat = draw.mean(margin)
        square, square_again = draw.mean(margin**2)
        means.append(value)
        again.append(repeat)
        squares.append((square - value**2, square_again - repeat**2))
        grade, grade_again = draw.mean((margin > 0) + 0.5 * (margin == 0))
        grades.append(grade)
        grades_again.append(grade_again)
    spread = math.sqrt(max(float(np.mean([s for s, _ in squares])), 1e-12))
    spread_again = np.sqrt(np.maximum(np.mean([s for _, s in squares], axis=0), 1e-12))
    level, repeat_level = np.array(means), np.stack(again, 1)

    def line(values: Array) -> Array:
        slope = (values - values.mean(-1, keepdims=True)) @ centred / (centred @ centred)
        return np.asarray(values.mean(-1, keepdims=True) + slope[..., None] * centred)

    def grade_of(values: Array) -> Array:
        return np.array([normal_cdf(float(v)) for v in values.ravel()]).reshape(values.shape)

    curve = _compare(
        "multiple choice", scales, draws, (np.array(grades), np.stack(grades_again, 1)),
        (grade_of(line(level) / spread), grade_of(line(repeat_level) / spread_again[:, None])),
        grade_of(level / spread), quality(level, line(level)),
    )  # fmt: skip
    return (means, spread), curve


def _resolution(models: Sequence[ModelResults], curves: Sequence[Curve]) -> list[str]:
    """What the number of items allows to be seen."""
    exact = next((curve for curve in curves if curve.metric == "exact match"), None)
    if exact is None:
        return []
    numbers = [model.number for model in models]
    if min(numbers) <= 1:
        return [
            "The number of items is not known (add a column items), so the resolution of the test set is not either."
        ]
    least = min(numbers)
    said = [
        f"With {least:,} items the least accuracy above 0 is {1 / least:.2g}, and a true accuracy under "
        f"{detectable(least):.2g} is missed in more than 5% of tests."
    ]
    rows = list(zip(models, exact.observed, exact.predicted, strict=True))
    hidden = [(m, p) for m, o, p in rows if o == 0 and 0 < p < detectable(m.number)]
    if hidden:
        model, share = min(hidden, key=lambda pair: pair[1])
        needed = f"about {math.log(0.05) / math.log1p(-share):,.0f}" if share > 1e-12 else "more than 10^12"
        said.append(
            f"At {len(hidden)} of {len(models)} scales the observed 0 is what this resolution gives for the accuracy "
            f"predicted; to see {model.model}'s {share:.2g} it would take {needed} items."
        )
    return said


def _notes(results: Results) -> list[str]:
    notes = []
    if len(results.models) < 3 and results.smooth is not None:
        notes.append("Two scales: a power law goes through both, so its smoothness is not tested. Five or more would.")
    if results.aggregated:
        notes.append("Rows are means: how items differ is not known, so intervals hold the counts' spread alone.")
    if results.smooth in ("token_logprob", "token_logprobs", "logprob"):
        notes.append(
            "p^L is the chance that sampling gives the target. Greedy decoding is right more often wherever the right "
            "token is likeliest with p well below 1; column token_accuracy, the share of tokens that are likeliest and "
            "right, is its smooth quantity."
        )
    return notes
