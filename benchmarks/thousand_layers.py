r"""A decoder of 1,000 layers (2,000 sublayers) under DeepNorm, trained until it knows far more than bytes' frequencies.

    python -m benchmarks.thousand_layers --out runs/thousand --steps 1800 --batch 16 --length 32 --threads 1 \
        --record docs/thousand_layers.json   # 1.6 s a step on one core: 50 minutes
    python -m benchmarks.thousand_layers --out runs/try --steps 30         # does it run, and does the loss fall

The run is an ordinary run folder: interrupted, it goes on where it was. At the end the loss stands beside the entropy
of single tokens in the same training batches, in nats: what a model reaches that learns frequencies alone.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import assay
from assay.nn.kernels.heap import keep_memory
from assay.training.api import make_run
from assay.training.loop import train_run
from assay.training.setup import make_loader
from assay.training.text import load_text, resolve


def spec(args: argparse.Namespace) -> dict[str, Any]:
    """DeepNet's decoder, deep and narrow."""
    return {
        "layers": args.layers, "width": args.width, "attention": {"heads": 2}, "context": args.length,
        "placement": args.placement, "norm": "layernorm", "feedforward": {"activation": "gelu", "gated": False},
    }  # fmt: skip


def unigram_nats(loader: Any, batches: int) -> float:
    """Entropy of single target tokens in the run's own first batches."""
    counts: Counter[int] = Counter()
    for step in range(batches):
        batch = loader.batch(0, step)
        counts.update(batch.targets[batch.weights > 0].tolist())
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


def main() -> None:
    """Train, compare, and write `thousand.json` beside the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 1000), ("width", 32), ("batch", 16), ("length", 64), ("steps", 1500), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--placement", default="deepnet", help="deepnet; or post, pre to see what becomes of them")
    parser.add_argument("--data", default="stdlib")
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--record", type=Path, help="where what came out is written too, to be kept")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_memory()
    run = make_run(
        spec(args), {"source": args.data, "tokenizer": "bytes"}, seed=args.seed, steps=args.steps, length=args.length,
        batch_size=args.batch, learning_rate=args.learning_rate, checkpointing=args.checkpointing, compile=args.compile,
        schedule={"kind": "cosine", "warmup": 0.1}, evaluations=1, checkpoints=4,
    )  # fmt: skip
    text = load_text(run.data)
    unigram = unigram_nats(make_loader(resolve(run), text), 200)
    print(f"{args.layers} layers of {args.placement}: entropy of single tokens {unigram:.3f} nats", flush=True)

    def show(row: dict[str, Any]) -> None:
        if row["kind"] == "train" and (row["step"] % 10 == 0 or row["step"] <= 5):
            print(f"step {row['step']}: {row['loss']:.3f} nats, gradient {row['grad_norm']:.3f}", flush=True)
        elif row["kind"] != "train":
            print({key: value for key, value in row.items() if key != "by_position"}, flush=True)

    folder = assay.runs.RunFolder(args.out)
    outcome = train_run(run, folder, progress=show)
    losses = [row["loss"] for row in folder.metrics() if row["kind"] == "train"]
    last = losses[-max(len(losses) // 20, 1) :]
    found = {
        "layers": args.layers, "placement": args.placement, "unigram_nats": unigram, "first_loss": losses[0],
        "last_loss": sum(last) / len(last), "steps": len(losses), "outcome": outcome,
        "curve": [[i + 20, round(sum(losses[i : i + 20]) / 20, 4)] for i in range(0, len(losses) - 19, 20)],
        "provenance": folder.read_json("run.json")["provenance"],
    }  # fmt: skip
    for path in filter(None, (args.out / "thousand.json", args.record)):
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"loss {losses[0]:.3f} at first, {found['last_loss']:.3f} over the last {len(last)} steps")


if __name__ == "__main__":
    main()
