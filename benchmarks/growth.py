"""How cost grows: seconds over four sizes of each axis, the measured exponent, and the one that counted work gives.

    python -m benchmarks.growth [--seconds 150] [--json FILE]

Each curve has its sizes interleaved. The measured exponent is the least-squares slope of log time over log size, all
rounds' points in it, with its 95% interval; the theory's is the same slope of what is counted from the description
(FLOPs of a training step, bytes that a token or a checkpoint reads, tokens of a batch, cubes of a pattern's side).
What does not grow with the work (calls, start-up) makes the measured exponent smaller at small sizes.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from assay.generation.build import build as build_model
from assay.spec.model import ModelSpec
from assay.stats import Interval, slope
from benchmarks import measure
from benchmarks.command import command_line
from benchmarks.result import Result, Row, Spread

__all__ = ["CURVES", "Curve", "Fit", "fit", "suite"]

Call = Callable[[], Any]
BASE: dict[str, Any] = {
    "layers": 4, "width": 128, "context": 2048, "vocab_size": 512, "attention": {"heads": 4},
    "feedforward": {"width": 344}, "norm": {"kind": "rmsnorm"}, "head": {"tied": True},
}  # fmt: skip
ROWS, LENGTH = 4, 128
LARGE = 32e6
"""Bytes of weights from which sixteen tokens take long enough to be timed."""


def spec_of(axis: str, size: int) -> ModelSpec:
    """The base model with one of its sizes set."""
    changes: dict[str, dict[str, Any]] = {
        "depth": {"layers": size},
        "width": {"width": size, "feedforward": {"width": 8 * round(size / 3)}},
        "vocabulary": {"vocab_size": size},
    }
    return ModelSpec.from_dict(BASE | changes.get(axis, {}))


@dataclass(frozen=True)
class Curve:
    """One kind of work along one axis."""

    work: str
    axis: str
    sizes: tuple[int, ...]
    make: Callable[[str, int], tuple[Call, float]]
    """(axis, size) to what is timed and its counted cost."""
    counted: str
    slow: bool = False
    """In runs of 100 s or more alone."""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.work}, {self.axis}"


def training(axis: str, size: int) -> tuple[Call, float]:
    """A step, eager; FLOPs."""
    from assay.nn import build
    from assay.nn.batch import TensorBatch
    from assay.nn.loss import loss_sum
    from assay.spec.masks import Causal, Mask
    from assay.spec.training import OptimizerSpec
    from assay.training.optimizer import adamw

    spec, length = spec_of(axis, size), size if axis == "length" else LENGTH
    model = build(spec).train()
    ids = torch.randint(0, spec.vocab_size, (ROWS, length + 1), generator=torch.Generator().manual_seed(0))
    targets = ids[:, 1:].flatten()
    every = torch.arange(len(targets))
    batch = TensorBatch(
        ids[:, :-1], Mask(Causal()), None, None, None, None, None, every, targets, torch.ones(len(targets))
    )
    optimizer = adamw(model, OptimizerSpec())

    def step() -> None:
        loss_sum(model, batch).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, ROWS * float(spec.flops(length, training=True))


def decoding(axis: str, size: int) -> tuple[Call, float]:
    """Tokens after a prompt (large models 16, small ones 192); bytes of weights and cache that one token reads."""
    spec, prompt = spec_of(axis, size), size if axis == "length" else 16
    model = build_model(spec)
    ids = torch.randint(0, spec.vocab_size, (1, prompt), generator=torch.Generator().manual_seed(0))
    weights = 4.0 * sum(p.numel() for p in model.parameters())
    more = 16 if weights > LARGE else 192
    keys = 4.0 * 2 * spec.layers * spec.kv_heads("decoder") * spec.head_width("decoder") * (prompt + 8 + more / 2)

    def tokens() -> float:
        took = []
        for new in (8, 8 + more):
            began = measure.clock()
            model.generate(ids, max_new_tokens=new, ignore_eos=True)
            took.append(measure.clock() - began)
        return max(took[1] - took[0], 1e-9)

    return tokens, weights + keys


def objectives(axis: str, size: int) -> tuple[Call, float]:
    """A batch of span corruption; its tokens."""
    import numpy as np

    from assay.data.loader import Loader
    from assay.data.shards import TokenDocuments
    from assay.data.specials import vocabulary
    from assay.objectives import make
    from assay.spec.objective import ObjectiveSpec

    rows, length = (size, 256) if axis == "rows" else (16, size)
    draw = np.random.default_rng(0)
    texts = TokenDocuments.from_arrays([draw.integers(11, 31_000, 2 * length) for _ in range(4 * rows)])
    objective = make(ObjectiveSpec(kind="span_corruption"), "encoder_decoder", vocabulary(32_000, 100))  # type: ignore[arg-type]
    loader = Loader(texts, objective, batch_size=rows, length=length)
    steps = min(loader.steps(0), 4)
    epochs = count()

    def batches() -> None:
        epoch = next(epochs)  # a new one each time: what was made before is kept for a while
        for step in range(steps):
            loader.batch(epoch, step)

    return batches, float(steps * rows * length)


def ranks(axis: str, size: int) -> tuple[Call, float]:
    """Singular values of attention patterns; heads times the cube of their side."""
    from assay.probes.spectra import singular_values
    from benchmarks.rank import patterns

    heads, length = (size, 128) if axis == "heads" else (8, size)
    given = patterns(heads, length)
    return (lambda: singular_values(given, triangular=True) is None), float(heads * length**3)


def loading(axis: str, size: int) -> tuple[Call, float]:
    """A checkpoint opened and every weight read; bytes."""
    import assay

    model = build_model(spec_of(axis, size))
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "model"
    model.save(path)

    def read(kept: Any = folder) -> None:
        with torch.no_grad():
            for parameter in assay.load(path).parameters():
                parameter.sum()

    return read, 4.0 * sum(p.numel() for p in model.parameters())


def runs(axis: str, size: int) -> tuple[Call, float]:
    """A study with one worker, from cold; runs."""
    import assay
    from benchmarks.study import description

    def study() -> None:
        with tempfile.TemporaryDirectory() as out:
            given = description(2, 1, layers=2, width=64, feedforward={"width": 128}) | {"seeds": size}
            assay.compare(given, out=Path(out) / "study", workers=1)

    return study, float(size)


FLOPS, READ, TOKENS = "FLOPs of a step", "bytes read a token", "tokens of a batch"
CURVES = (
    Curve("training", "length", (64, 128, 256, 512), training, FLOPS),
    Curve("training", "depth", (2, 4, 8, 16), training, FLOPS),
    Curve("training", "width", (64, 128, 256, 512), training, FLOPS),
    Curve("training", "vocabulary", (1024, 4096, 16384, 65536), training, FLOPS),
    Curve("decoding", "length", (64, 256, 1024, 1792), decoding, READ),
    # From 100 MB of weights on: sizes that reach from the caches into memory show the step between them.
    Curve("decoding", "depth", (128, 192, 288, 432), decoding, READ),
    Curve("decoding", "width", (704, 896, 1152, 1472), decoding, READ),
    Curve("decoding", "vocabulary", (196608, 294912, 442368, 655360), decoding, READ),
    Curve("objectives", "rows", (8, 16, 32, 64), objectives, TOKENS),
    Curve("objectives", "length", (128, 256, 512, 1024), objectives, TOKENS),
    Curve("rank probe", "length", (64, 128, 256, 512), ranks, "heads x length^3"),
    Curve("rank probe", "heads", (8, 16, 32, 64), ranks, "heads x length^3"),
    Curve("loading", "depth", (8, 16, 32, 64), loading, "bytes of the checkpoint"),
    Curve("loading", "width", (256, 512, 1024, 2048), loading, "bytes of the checkpoint"),
    Curve("a study", "number of runs", (1, 2, 3, 4), runs, "runs", slow=True),
)


@dataclass(frozen=True)
class Fit:
    """One curve's numbers."""

    curve: Curve
    seconds: dict[int, Spread]
    cost: dict[int, float]
    measured: Interval
    """Exponent of time in the size."""
    theory: float
    """Exponent of the counted cost in the size."""
    against_cost: Interval
    """Exponent of time in the counted cost: 1 where time is proportional to it."""


def fit(curve: Curve, times: dict[int, list[float]], cost: dict[int, float]) -> Fit:
    """The exponents of one curve; all rounds' points count."""
    points = [(size, taken) for size, values in times.items() for taken in values]
    taken = [math.log(value) for _, value in points]
    measured = slope([math.log(size) for size, _ in points], taken)
    sizes = list(cost)
    theory = slope([math.log(size) for size in sizes], [math.log(cost[size]) for size in sizes]).estimate
    against = slope([math.log(cost[size]) for size, _ in points], taken)
    return Fit(curve, {s: Spread.of(v) for s, v in times.items()}, cost, measured, theory, against)


def measured(curve: Curve, seconds: float) -> Fit:
    """Time the sizes of a curve in turns; at least three rounds (two of what is slow)."""
    made = {size: curve.make(curve.axis, size) for size in curve.sizes}
    times: dict[int, list[float]] = {size: [] for size in made}
    if not curve.slow:
        for call, _ in made.values():
            call()
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < (2 if curve.slow else 3) or time.perf_counter() < end:
        for size, (call, _) in made.items():
            began = measure.clock()
            told = call()
            # A call that times a part of itself says how long that was.
            times[size].append(told if isinstance(told, float) else measure.clock() - began)
        rounds += 1
    return fit(curve, times, {size: cost for size, (_, cost) in made.items()})


def suite(seconds: float, long: bool, *, curves: Sequence[Curve] | None = None) -> list[Result]:
    """The section of the suite."""
    slow = seconds >= 100
    chosen = list(curves) if curves is not None else [curve for curve in CURVES if slow or not curve.slow]
    return [result([measured(curve, 0.6 * seconds / len(chosen)) for curve in chosen])]


def result(fits: Sequence[Fit]) -> Result:
    """Rows of exponents, and one picture a kind of work: time against counted cost, both over their smallest."""
    out = Result(
        "growth", "How cost grows", "growth",
        f"{BASE['layers']} layers, {BASE['width']} wide, {ROWS} x {LENGTH} tokens, vocabulary {BASE['vocab_size']} but "
        "for the axis that is varied; float32, eager, four sizes each",
        "exponent of time in the size", rounds=3,
    )  # fmt: skip
    for one in fits:
        value = Spread(one.measured.estimate, one.measured.low, one.measured.high)
        against = one.against_cost
        inside = "within" if one.theory in one.measured else "not within"
        out.rows.append(Row(
            one.curve.name, "other", value,
            note=f"theory ({one.curve.counted}) {one.theory:.2f}, {inside} the interval; time grows as the "
            f"counted cost to the {against.estimate:.2f} [{against.low:.2f}, {against.high:.2f}]; sizes "
            f"{', '.join(map(str, one.seconds))}",
        ))  # fmt: skip
    for work in dict.fromkeys(one.curve.work for one in fits):
        rows: list[dict[str, Any]] = []
        for one in fits:
            if one.curve.work == work:
                first, least = min(one.cost), min(one.cost.values())
                rows += [
                    {
                        "series": one.curve.axis, "x": one.cost[size] / least,
                        "y": spread.median / one.seconds[first].median, "low": spread.low / one.seconds[first].median,
                        "high": spread.high / one.seconds[first].median,
                    }
                    for size, spread in one.seconds.items()
                ]  # fmt: skip
        most = max(row["x"] for row in rows)
        rows += [{"series": "proportional", "x": x, "y": x} for x in (1.0, most)]
        out.pictures.append({
            "title": f"{work.capitalize()}: time against counted cost", "x": "counted cost, smallest size = 1",
            "y": "time, smallest size = 1", "kind": "lines", "log_x": True, "log_y": True, "rows": rows,
        })  # fmt: skip
    out.notes.append("Brackets are 95% intervals of the slope, not quartiles.")
    return out


if __name__ == "__main__":
    command_line(__doc__ or "", suite, seconds=150.0)
