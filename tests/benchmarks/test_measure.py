"""Limits are measured in the rounds that they are held against."""

import pytest

from benchmarks import measure


def test_every_round_has_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"a": 0, "b": 0}

    def call(name: str) -> None:
        calls[name] += 1

    times, rates = measure.beside_products({k: (lambda k=k: call(k)) for k in calls}, 0.0, warmup=2, least=4, n=32)
    assert calls == {"a": 6, "b": 6} and set(times) == {"a", "b"}
    assert len(rates) == len(times["a"]) == 4 and all(rate > 0 for rate in rates)


def test_shares_are_medians_within_a_round() -> None:
    """A machine that slows down by half halves the limit too; the extremes, one of either, are no measure."""
    found = measure.summary(
        {"assay": [1.0, 2.0, 8.0], "peer": [2.0, 4.0, 4.0]}, {}, "assay", 100.0, [200.0, 100.0, 100.0]
    )
    assert found["assay"]["fraction"]["square_rate_full"] == pytest.approx(0.5)
    assert found["peer"]["fraction"]["square_rate_full"] == pytest.approx(0.25)
    assert measure.summary({"assay": [1.0]}, {}, "assay")["assay"]["fraction"] == {}
