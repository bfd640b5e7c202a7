"""What the analysis of emergence fits: a token's power law, and a model's items drawn again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.errors import UserError
from assay.stats.results import ModelResults

__all__ = ["Draw", "PowerLaw", "detectable", "fit_counts", "fit_power_law", "quality"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """-log p = exp(intercept - exponent * log scale)."""

    intercept: float
    exponent: float
    fit: float | None
    """Share of log cross-entropy's variance that it explains; None where nothing was left to test."""

    def nats(self, scale: Array) -> Array:
        """Cross-entropy of a token at scales."""
        return np.exp(self.intercept - self.exponent * np.log(scale))


def fit_power_law(scales: Array, nats: Array) -> tuple[Array, Array]:
    """(intercept, exponent) by least squares of log nats on log scale; nats [..., models] gives [...] of each."""
    x = np.log(scales)
    y = np.log(np.maximum(nats, 1e-12))
    centred = x - x.mean()
    slope = (y - y.mean(-1, keepdims=True)) @ centred / (centred @ centred)
    return y.mean(-1) - slope * x.mean(), -slope


def fit_counts(scales: Array, length: Array, right: Array, items: Array) -> PowerLaw:
    """The power law whose p^L fits counts of exact matches best, by maximum likelihood.

    1 - p^L = 1 - exp(-exp(log L + a - b log s)): a binomial regression with complementary log-log link and offset
    log L, solved by iteratively reweighted least squares (McCullagh & Nelder 1989, section 4.4).
    """
    x = np.stack([np.ones_like(scales), -(np.log(scales) - np.log(scales).mean())], axis=1)
    offset, wrong = np.log(length), items - right
    # Half a count from the ends keeps the first step finite.
    start = np.log(-np.log((right + 0.5) / (items + 1)))
    beta = np.linalg.lstsq(x, start - offset, rcond=None)[0]
    for _ in range(100):
        eta = np.clip(x @ beta + offset, -30, 3.5)
        rate = np.exp(eta)
        share = np.clip(-np.expm1(-rate), 1e-12, 1 - 1e-12)
        slope = rate * np.exp(-rate) + 1e-300
        weight = items * slope**2 / (share * (1 - share)) + 1e-12
        target = eta - offset + (wrong / items - share) / slope
        new = np.linalg.solve((x * weight[:, None]).T @ x + 1e-9 * np.eye(2), (x * weight[:, None]).T @ target)
        step = np.clip(new - beta, -2, 2)
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    return PowerLaw(float(beta[0] + beta[1] * np.log(scales).mean()), float(beta[1]), None)


def detectable(items: int) -> float:
    """The least true share that `items` items show at least once in 95% of tests: 1 - 0.05^(1/n), about 3/n."""
    return 1 - 0.05 ** (1 / items)


class Draw:
    """One model's rows, and the same rows drawn again and again."""

    def __init__(self, model: ModelResults, resamples: int, rng: np.random.Generator) -> None:
        self.model, self.rng = model, rng
        n = len(model.items)
        self.rows = None if n < 2 else rng.integers(0, n, (resamples, n))
        self.resamples = resamples
        self.length = model.length if model.length is not None else np.ones(n)

    def mean(self, values: Array) -> tuple[float, Array]:
        """Mean over items, and [resamples] of them."""
        items = self.model.items
        value = float((values * items).sum() / max(items.sum(), 1))
        if self.rows is None:
            return value, np.full(self.resamples, value)
        return value, (values * items)[self.rows].sum(1) / items[self.rows].sum(1)

    def shares(self, values: Array) -> tuple[float, Array]:
        """As `mean`; one row of many items is drawn from its binomial instead."""
        value, again = self.mean(values)
        if self.rows is None and self.model.number > 1:
            again = self.rng.binomial(self.model.number, value, self.resamples) / self.model.number
        return value, again

    def _smooth(self) -> tuple[float, Array]:
        """Over tokens, not targets: long targets count for more."""
        model = self.model
        if model.rates is not None:
            top, tops = self.mean(model.rates * self.length)
            bottom, bottoms = self.mean(self.length)
            least = 0.5 / max(float((self.length * model.items).sum()), 1)
            return -math.log(max(top / bottom, least)), -np.log(np.maximum(tops / bottoms, least))
        assert model.nats is not None
        top, tops = self.mean(model.nats * self.length)
        bottom, bottoms = self.mean(self.length)
        return top / bottom, tops / bottoms

    @property
    def nats(self) -> float:
        """A token's cross-entropy."""
        value = self._smooth()[0]
        if not math.isfinite(value) or value <= 0:
            raise UserError(
                f"model {self.model.model!r}: the mean log-probability is {-value:g}, so no power law can be fitted.",
                "Leave out models that are perfect or impossible at every token, and targets of probability 0.",
            )
        return value

    @property
    def nats_again(self) -> Array:
        """[resamples] of it."""
        return self._smooth()[1]

    def predict(self, metric: str, nats: Array) -> Array:
        """The metric where a token's cross-entropy is `nats` [...]: the mean over this model's lengths."""
        lengths, index = np.unique(self.length, return_inverse=True)
        weight = np.bincount(index, self.model.items) / self.model.items.sum()
        if metric == "exact match":
            return np.asarray(np.exp(-nats[..., None] * lengths) @ weight)
        return np.asarray(-np.expm1(-nats) * float(lengths @ weight))

    def own(self, metric: str) -> float:
        """The metric without the fit: from every item's own probability; from a share of right tokens, the mean's.

        (A share over few tokens is too noisy to be taken to a power item by item.)
        """
        if self.model.nats is None:
            return float(self.predict(metric, np.array([self.nats]))[0])
        p = np.exp(-self.model.nats)
        return self.mean(p**self.length if metric == "exact match" else (1 - p) * self.length)[0]

    def observe(self, metric: str) -> tuple[float, Array]:
        """What was measured, and drawn again."""
        model = self.model
        if metric == "exact match":
            assert model.accuracy is not None
            return self.shares(model.accuracy)
        assert model.edit_distance is not None
        return self.mean(model.edit_distance)


def quality(observed: Array, predicted: Array) -> float | None:
    """Share of the observed values' variance that the prediction explains; None where they do not vary."""
    whole = float(((observed - observed.mean()) ** 2).sum())
    if whole <= 1e-18:
        return None
    return 1 - float(((observed - predicted) ** 2).sum()) / whole
