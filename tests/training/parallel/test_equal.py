"""One run on 1, 2 and 4 ranks: the same losses, gradients and weights up to the order of sums.

Everything is computed in float64, eps = 2.2e-16. A sum of n terms taken in another order differs by at most
n eps sum|terms|. The sums that ranks take in another order run over a batch's targets, n <= 8 rows x 32. So

    gradient, per element     dg <= n eps max|g|, and |g| <= norm of the gradient
    weight, after k steps     dw <= k lr dg / eps_adam        (AdamW moves by lr m / (sqrt(v) + eps_adam))
    loss                      dL <= n eps L + |gradient| |dw| <= n eps L + norm sqrt(parameters) dw

to first order, and FACTOR leaves room for the second. With eps_adam = 1e-3 that is some 1e-10; the classic mistakes
are worth 1e-3 and more.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.training.parallel.crew import Crew

from assay.runs import RunFolder

Described = Callable[..., dict[str, Any]]

EPS, FACTOR, TERMS, STEPS, RATE, EPS_ADAM = 2.0**-52, 4.0, 8 * 32, 6, 3e-3, 1e-3
EXACT = ("step", "lr", "tokens", "input_tokens", "flops", "progress")
FSDP, HSDP = (2, {"kind": "fsdp"}), (4, {"kind": "hsdp", "shard": 2})
ALL = [(2, {"kind": "ddp"}), FSDP, (4, {"kind": "fsdp"}), HSDP]
FAMILIES = [
    ("causal", None, ALL),
    ("prefix", "prefix_lm", [FSDP]),
    ("encoder_decoder", "span_corruption", [HSDP]),
    ("encoder", "mlm", [FSDP]),
]


def weights(out: Path) -> dict[str, torch.Tensor]:
    folder = RunFolder(out)
    return load_file(folder.checkpoint(folder.checkpoint_steps()[-1]) / "model.safetensors")


def kind(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == name]


def bounds(rows: list[dict[str, Any]], parameters: int) -> tuple[float, float]:
    """(of the weights, of the losses), by the formulas above."""
    norm = max(row["grad_norm"] for row in kind(rows, "train"))
    loss = max(row["loss"] for row in kind(rows, "train"))
    weight = STEPS * RATE * TERMS * EPS * norm / EPS_ADAM
    return FACTOR * weight, FACTOR * (TERMS * EPS * loss + norm * math.sqrt(parameters) * weight)


def weights_apart(a: Path, b: Path) -> float:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def losses_apart(one: list[dict[str, Any]], many: list[dict[str, Any]]) -> float:
    """The largest difference of a loss, a norm or an evaluation; what is counted has to be equal."""
    names = ("loss", "grad_norm", "bits_per_byte", "masked_nats_per_token")
    found = []
    for which in ("train", "eval"):
        for x, y in zip(kind(one, which), kind(many, which), strict=True):
            assert [x.get(name) for name in EXACT] == [y.get(name) for name in EXACT]
            found += [abs(x[name] - y[name]) for name in names if name in x]
    return max(found)


@pytest.mark.parametrize(("family", "objective", "arrangements"), FAMILIES)
def test_any_number_of_ranks_gives_the_same_run(
    crew: Crew,
    described: Described,
    tmp_path: Path,
    family: str,
    objective: str | None,
    arrangements: list[tuple[int, dict[str, Any]]],
) -> None:
    run = described(family, objective, accumulation=2)
    (one,) = crew.run(1, "train", run=run, out=str(tmp_path / "one"), wide=True)
    assert one["outcome"]["status"] == "done"
    parameters = sum(t.numel() for t in weights(tmp_path / "one").values())
    weight_bound, loss_bound = bounds(one["rows"], parameters)
    for number, (ranks, parallel) in enumerate(arrangements):
        run["train"]["parallel"] = parallel
        place = tmp_path / str(number)
        many = crew.run(ranks, "train", run=run, out=str(place), wide=True)
        assert all(answer["outcome"] == many[0]["outcome"] for answer in many)
        told = [row for row in many[0]["rows"] if row.get("event") == "ranks"]
        assert [(row["ranks"], row["parallel"]) for row in told] == [(ranks, parallel["kind"])]
        assert weights_apart(tmp_path / "one", place) <= weight_bound, (ranks, parallel)
        assert losses_apart(one["rows"], many[0]["rows"]) <= loss_bound, (ranks, parallel)


@pytest.mark.parametrize("mistake", ["rank means", "local norm", "same rows"])
def test_the_classic_mistakes_are_seen(crew: Crew, described: Described, tmp_path: Path, mistake: str) -> None:
    run = described("prefix", "prefix_lm")
    (one,) = crew.run(1, "train", run=run, out=str(tmp_path / "one"), wide=True)
    many = crew.run(2, "train", run=run, out=str(tmp_path / "many"), wide=True, mistake=mistake)
    assert many[0]["outcome"]["status"] == "done"
    weight_bound, _ = bounds(one["rows"], 1)
    apart = weights_apart(tmp_path / "one", tmp_path / "many")
    assert apart > 1e5 * weight_bound, (apart, weight_bound)
