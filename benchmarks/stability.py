"""What placements do to gradients, to training without warmup, and to the update of the function by depth.

    python benchmarks/stability.py gradients     # Xiong et al. 2020, figure 3: gradient norm by layer at the start
    python benchmarks/stability.py training      # Post-LN without warmup where DeepNorm and Pre-LN train
    python benchmarks/stability.py updates       # |f after a step - f before| by depth, 12 to 1,000 layers

Each prints its numbers and writes them, with how they were got, to OUT/<name>/. Times are no matter here: nothing
that is printed depends on the machine's speed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from assay.nn import build
from assay.probes import function_update
from assay.report.stability import write_stability
from assay.runs import provenance, write_json
from assay.spec.training import OptimizerSpec
from assay.stats import mean_interval, slope
from assay.studies.stability import FAILURE, Settings, Subject, stability_study, subjects
from assay.training.optimizer import adamw
from assay.training.setup import make_loader
from assay.training.step import take_step
from assay.training.text import load_text, resolve

XIONG = {"norm": ("layernorm",), "feedforward.activation": ("relu",), "feedforward.gated": (False,)}
"""The block of Xiong et al.: LayerNorm, ReLU; the default is a LLaMA-like block."""


def run(name: str, vary: dict[str, tuple[Any, ...]], settings: Settings, out: Path) -> list[dict[str, Any]]:
    """The study of some models, written to its folder."""
    models = subjects(["tiny"], vary, settings)

    def tell(event: dict[str, Any]) -> None:
        if event.get("finished"):
            print(f"  {event['name']}, seed {event['seed']}", file=sys.stderr)

    found = stability_study(models, settings, progress=tell, command=f"python benchmarks/stability.py {name}")
    write_json(out / name / "stability.json", found)
    write_stability(out / name)
    return found["models"]


def gradients(out: Path, seeds: int, quick: bool) -> None:
    """Gradient norm by layer before training, Xavier everywhere.

    The paper's own setting is an encoder-decoder of 6 + 6 layers with sinusoidal positions and embeddings times
    sqrt(width); the causal decoder of 12 layers beside it has no cross-attention.
    """
    width = 64 if quick else 128
    for family in ("encoder_decoder", "causal"):
        vary = {
            **XIONG, "init": ("xavier",), "width": (width,), "layers": (12,), "family": (family,),
            "positions": ("sinusoidal",), "embedding.scale": (width**0.5,), "placement": ("post", "pre"),
        }  # fmt: skip
        models = run(f"gradients-{family}", vary, Settings(seeds=seeds, batch_size=8, length=64), out)
        for model in models:
            layers = model["seeds"][0]["at"]["start"]["layers"]
            depth = sum(layer["stack"] == "decoder" for layer in layers)
            print(
                f"{family}, {model['name']}: mean gradient's norm, {depth} decoder layers, {width} wide, {seeds} seeds"
            )
            for what, pick in (("layer", None), ("feedforward.down", "feedforward.down.weight")):
                table = [_norms(seed["at"]["start"], depth, pick) for seed in model["seeds"]]
                means = [sum(column) / len(column) for column in zip(*table, strict=True)]
                print(f"  {what:17s}" + " ".join(f"{value:.3f}" for value in means))
                ratio = mean_interval([row[-1] / row[0] for row in table])
                spread = mean_interval([max(row) / min(row) for row in table])
                print(f"  {what:17s}last / first {ratio}, largest / smallest {spread}")


def _norms(at: dict[str, Any], depth: int, pick: str | None) -> list[float]:
    if pick is None:
        return [layer["gradient"] for layer in at["layers"] if layer["stack"] == "decoder"]
    held = {matrix["name"]: matrix["gradient"] for matrix in at["matrices"]}
    return [held[f"decoder.blocks.{layer}.{pick}"] for layer in range(depth)]


def training(out: Path, seeds: int, quick: bool, rates: Sequence[float] = (1e-3,)) -> None:
    """Training without warmup at several depths and rates: what fails, by the rule that every result states."""
    depths = (12,) if quick else (12, 24, 48)
    steps = 60 if quick else 120
    for rate in rates:
        settings = Settings(
            seeds=seeds, batch_size=4, length=64, learning_rate=rate, steps=steps, warmup=0, tokenizer="bytes"
        )
        print(f"{steps} steps at {rate:g}, no warmup, {seeds} seeds; {FAILURE}")
        for placement in ("post", "pre", "deepnet"):
            # Post-LN as its paper has it: Xavier, as in DeepNet's comparison.
            init = "auto" if placement == "deepnet" else "xavier"
            vary = {**XIONG, "width": (64,), "init": (init,), "layers": depths, "placement": (placement,)}
            for model in run(f"training-{rate:g}-{placement}", vary, settings, out):
                tails = [f"{_tail(s['losses']):.3f} ({_tail(s['floors']):.3f})" for s in model["seeds"]]
                failed = sum(seed["failed"] is not None for seed in model["seeds"])
                spikes = sum(len(seed["spikes"]) for seed in model["seeds"])
                print(
                    f"  {placement:8s} {model['spec']['layers']:>3d} layers: {failed} of {len(tails)} failed, "
                    "mean loss of the last tenth (unigram frequencies' on the same targets) "
                    + ", ".join(tails)
                    + f", {spikes} spikes",
                    flush=True,
                )


def _tail(losses: list[float]) -> float:
    last = losses[-max(len(losses) // 10, 1) :]
    return sum(last) / len(last) if last else math.nan


CASES = (
    ("sgd", 1e-6, False, "gradient descent, norms without gains and shifts: what DeepNet's bound is proven for"),
    ("sgd", 1e-6, True, "gradient descent, norms with gains and shifts"),
    ("adamw", 1e-7, False, "AdamW, norms without gains and shifts"),
)
"""Optimizer, rate, learned norms, in words. Rates are so small that no depth saturates (the change of the output stays
a small part of it), and float64 holds them: in float32 such a step is lost in the weights' rounding."""


def updates(out: Path, seeds: int, quick: bool) -> None:
    """The update of the function by one first step, against depth: geometric means over seeds."""
    depths = (12, 24, 48) if quick else (12, 48, 192, 1000)
    found = []
    for optimizer, rate, learned, words in CASES:
        print(f"{words}; rate {rate:g}, width 32, float64, {seeds} seeds: RMS by which a step moves the normed output")
        for placement in ("post", "deepnet"):
            settings = Settings(
                seeds=seeds, batch_size=4, length=16, learning_rate=rate, optimizer=optimizer, clip=0.0,
                tokenizer="bytes",
            )  # fmt: skip
            vary: dict[str, tuple[Any, ...]] = {
                **XIONG, "init": ("auto" if placement == "deepnet" else "xavier",), "width": (32,),
                "attention.heads": (2,), "norm.weight": (learned,), "norm.bias": (learned,),
                "placement": (placement,), "layers": depths,
            }  # fmt: skip
            table = {
                depth: [_update(model, settings, seed) for seed in range(seeds)]
                for depth, model in zip(depths, subjects(["tiny"], vary, settings), strict=True)
            }
            found.append(
                {"optimizer": optimizer, "rate": rate, "learned_norms": learned, "placement": placement, "moved": table}
            )
            logs = {depth: [math.log10(value) for value in values] for depth, values in table.items()}
            means = {depth: mean_interval(values) for depth, values in logs.items()}
            pairs = [(math.log10(depth), value) for depth, values in logs.items() for value in values]
            rise = slope([x for x, _ in pairs], [y for _, y in pairs])
            largest, least = (pick(10**mean.estimate for mean in means.values()) for pick in (max, min))
            print(
                f"  {placement:8s}"
                + ", ".join(f"{d}: {10**m.estimate:.3g} [{10**m.low:.3g}, {10**m.high:.3g}]" for d, m in means.items())
                + f"; slope {rise}, largest / smallest {largest / least:.2f}",
                flush=True,
            )
            write_json(out / "updates" / "updates.json", {"cases": found, "provenance": provenance()})


def _update(model: Subject, settings: Settings, seed: int) -> float:
    run = resolve(model.run.model_copy(update={"seed": seed}))
    batch = make_loader(run, load_text(run.data)).batch(0, 0)
    network = build(run.model, seed=seed, dtype="float64")
    optimizer: torch.optim.Optimizer
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=settings.learning_rate)
    else:
        optimizer = adamw(network, OptimizerSpec(learning_rate=settings.learning_rate, weight_decay=0.0))

    def step() -> None:
        take_step(
            network, optimizer, batch, weight=float(batch.weights.sum()), parts=1, z_loss=0.0, dtype="float32",
            learning_rate=settings.learning_rate, most=settings.clip,
        )  # fmt: skip

    return function_update(network, batch, step, restore=False).output.change


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gradients", "training", "updates"))
    parser.add_argument("--out", type=Path, default=Path("stability"))
    parser.add_argument("--seeds", type=int, default=None, help="default: 3 for training, 10 for the others")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3], help="of training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small: does it run?")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    seeds = given.seeds or (3 if given.what == "training" else 10)
    if given.what == "training":
        training(given.out, seeds, given.quick, given.rates)
    else:
        {"gradients": gradients, "updates": updates}[given.what](given.out, seeds, given.quick)


if __name__ == "__main__":
    main()
