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
from pathlib import Path
from typing import Any

import torch

from assay.report.stability import summary, write_stability
from assay.runs import write_json
from assay.stats import mean_interval, slope
from assay.studies.stability import Settings, stability_study, subjects

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


def training(out: Path, seeds: int, quick: bool) -> None:
    """Training without warmup at several depths and rates: what fails, by the rule that every result states."""
    depths = (12,) if quick else (12, 24, 48)
    steps = 60 if quick else 150
    for rate in (3e-3,) if quick else (1e-3, 3e-3):
        vary = {**XIONG, "width": (64,), "init": ("auto",), "layers": depths, "placement": ("post", "pre", "deepnet")}
        settings = Settings(
            seeds=seeds, batch_size=8, length=64, learning_rate=rate, steps=steps, warmup=0, tokenizer="bytes"
        )
        # Post-LN as its paper has it: Xavier, as in DeepNet's comparison.
        models = []
        for placement in ("post", "pre", "deepnet"):
            init = "xavier" if placement != "deepnet" else "auto"
            part = {**vary, "init": (init,), "placement": (placement,)}
            models += run(f"training-{rate:g}-{placement}", part, settings, out)
        print(
            f"{steps} steps at {rate:g}, no warmup, {seeds} seeds; failed: not finite or not under the unigram entropy"
        )
        for model in models:
            final = [seed["losses"][-1] if seed["losses"] else math.nan for seed in model["seeds"]]
            failed = sum(seed["failed"] is not None for seed in model["seeds"])
            spikes = sum(len(seed["spikes"]) for seed in model["seeds"])
            labels = model["labels"]
            print(
                f"  {labels['placement']:8s} {labels['layers']:>3s} layers: {failed} of {len(final)} failed, losses "
                + ", ".join(f"{value:.3f}" for value in final)
                + f" (unigram {model['seeds'][0]['unigram']:.3f}), {spikes} spikes"
            )


CASES = (
    ("sgd", 1e-4, False, "gradient descent, norms without gains and shifts: what DeepNet's bound is proven for"),
    ("sgd", 1e-4, True, "gradient descent, norms with gains and shifts"),
    ("adamw", 1e-6, False, "AdamW, norms without gains and shifts"),
)
"""Optimizer, rate (small enough that outputs of size 1 do not saturate for most depths), learned norms, in words."""


def updates(out: Path, seeds: int, quick: bool) -> None:
    """The update of the function by one first step, against depth."""
    depths = (12, 24, 48) if quick else (12, 48, 192, 1000)
    for optimizer, rate, learned, words in CASES:
        print(f"{words}; rate {rate:g}, width 32, {seeds} seeds: RMS by which one step moves the normed output")
        for placement in ("post", "deepnet"):
            vary = {
                **XIONG, "init": ("auto" if placement == "deepnet" else "xavier",), "width": (32,),
                "attention.heads": (2,), "norm.weight": (learned,), "norm.bias": (learned,),
                "placement": (placement,), "layers": depths,
            }  # fmt: skip
            settings = Settings(
                seeds=seeds, batch_size=4, length=16, learning_rate=rate, optimizer=optimizer, clip=0.0,
                tokenizer="bytes",
            )  # fmt: skip
            name = f"updates-{optimizer}-{'learned' if learned else 'plain'}-norms-{placement}"
            models = run(name, vary, settings, out)
            table = {model["labels"]["layers"]: summary(model, "start")["output_update"] for model in models}
            pairs = [
                (math.log(len(seed["at"]["start"]["layers"])), math.log(seed["at"]["start"]["output_update"]))
                for model in models for seed in model["seeds"]
            ]  # fmt: skip
            rise = slope([x for x, _ in pairs], [y for _, y in pairs])
            values = [value.estimate for value in table.values() if value]
            print(f"  {placement:8s}" + ", ".join(f"{depth}: {value}" for depth, value in table.items()))
            print(f"  {'':8s}log-log slope {rise}, largest / smallest mean {max(values) / min(values):.2f}", flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gradients", "training", "updates"))
    parser.add_argument("--out", type=Path, default=Path("stability"))
    parser.add_argument("--seeds", type=int, default=None, help="default: 10 for gradients, 3 for the others")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small: does it run?")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    seeds = given.seeds or (10 if given.what == "gradients" else 3)
    {"gradients": gradients, "training": training, "updates": updates}[given.what](given.out, seeds, given.quick)


if __name__ == "__main__":
    main()
