"""One training step of a LLaMA-like decoder: assay against transformers, litgpt and x-transformers, and the limit.

    python -m benchmarks.training --size 11M --seconds 60 --json 11M.json

The limit is `square_rate_full`: the step's FLOPs (attention over all pairs) at the rate of the best 2048 x 2048
product of this machine, measured before and after. Other definitions stand beside it in the JSON. Before anything is
timed, assay's first loss is held to transformers' on the same weights and tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.nn import build
from assay.nn.batch import TensorBatch
from assay.nn.compiling import compile_blocks
from assay.nn.loss import loss_sum
from assay.nn.transformer import Transformer
from assay.spec.masks import Causal, Mask
from assay.spec.model import ModelSpec
from assay.spec.training import OptimizerSpec
from assay.training.optimizer import adamw
from benchmarks import measure, peers

NAMES = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.o": "self_attn.o_proj",
    "feedforward.gate": "mlp.gate_proj",
    "feedforward.up": "mlp.up_proj",
    "feedforward.down": "mlp.down_proj",
    "attention_before": "input_layernorm",
    "feedforward_before": "post_attention_layernorm",
}


def spec_of(size: peers.Size) -> ModelSpec:
    """The same shape in assay's words."""
    return ModelSpec.from_dict(
        {
            "vocab_size": size.vocab_size,
            "width": size.width,
            "layers": size.layers,
            "context": size.length,
            "norm": {"kind": "rmsnorm", "eps": 1e-6},
            "attention": {"heads": size.heads},
            "feedforward": {"width": size.hidden},
            "head": {"tied": False},
        }
    )


def copy_weights(ours: Transformer, theirs: nn.Module) -> None:
    """Transformers' weights into assay's model."""
    source = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        other = name.replace("decoder.blocks", "model.layers").replace("decoder.final_norm", "model.norm")
        other = other.replace("head.weight", "lm_head.weight")
        other = "model.embed_tokens.weight" if name == "embedding.weight" else other
        for mine, its in NAMES.items():
            other = other.replace(f".{mine}.", f".{its}.")
        parameter.data.copy_(source[other].data)


def assay_step(model: Transformer, size: peers.Size, compiled: bool) -> Callable[[], Tensor]:
    """One whole step, as the training loop takes it (without clipping, which no peer does here)."""
    inputs, targets = peers.batch_of(size)
    every = torch.arange(targets.numel())
    batch = TensorBatch(
        inputs, Mask(Causal()), None, None, None, None, None, every, targets.flatten(), torch.ones(targets.numel())
    )
    optimizer = adamw(model.train(), OptimizerSpec(learning_rate=1e-4))
    if compiled and (reason := compile_blocks(model)):
        raise RuntimeError(reason)

    def step() -> Tensor:
        found = loss_sum(model, batch)
        loss = found.total / found.weight
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def contenders(size: peers.Size, chosen: list[str], modes: list[str]) -> dict[str, tuple[Callable[[], Tensor], int]]:
    """Every contender's step and its number of parameters."""
    out: dict[str, tuple[Callable[[], Tensor], int]] = {}
    torch.manual_seed(0)
    reference = peers.build_transformers(size)
    for compiled in (False, True):
        if compiled and modes == ["no"]:
            continue
        model = build(spec_of(size))
        copy_weights(model, reference)
        step = assay_step(model, size, compiled)
        out["assay/compiled" if compiled else "assay/eager"] = (step, peers.parameters(model))
    for peer in chosen:
        for mode in modes:
            torch.manual_seed(0)
            model = reference if peer == "transformers" and mode == "no" else peers.BUILDERS[peer](size)
            if mode == "blocks" and peers.blocks_of(model) is None:
                continue
            name = f"{peer}/{'eager' if mode == 'no' else mode}"
            out[name] = (peers.training_step(model, size, mode), peers.parameters(model))
    return out


def run(size: peers.Size, seconds: float, chosen: list[str], modes: list[str]) -> dict[str, Any]:
    """Time all contenders; what the JSON holds."""
    torch.set_num_threads(size.threads)
    built = contenders(size, chosen, modes)
    first: dict[str, float] = {}
    losses: dict[str, float] = {}
    for name, (step, parameters) in built.items():
        began = time.perf_counter()
        losses[name] = step().item()
        first[name] = time.perf_counter() - began
        print(f"{name}: {parameters:,} parameters, loss {losses[name]:.4f}, first {first[name]:.1f} s", file=sys.stderr)
    theirs = losses.get("transformers/eager")
    for name in ("assay/eager", "assay/compiled"):
        if theirs is not None and name in losses and abs(losses[name] - theirs) > 1e-4 * abs(theirs):
            raise SystemExit(f"{name}: loss {losses[name]} differs from transformers' {theirs} on the same weights")
    before = measure.limits(size)
    times = measure.interleave({name: step for name, (step, _) in built.items()}, seconds)
    after = measure.limits(size)
    best = {k: (max if k == "square_flops_per_second" else min)(before[k], after[k]) for k in before}
    return {
        "benchmark": "training step",
        "size": asdict(size),
        "machine": measure.machine(),
        "parameters": {name: count for name, (_, count) in built.items()},
        "first_loss": losses,
        "first_step_seconds": first,
        "limit": best,
        "contenders": measure.summary(times, best, "assay/compiled" if "assay/compiled" in times else "assay/eager"),
    }


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(peers.SIZES), action="append")
    parser.add_argument("--modes", default="no,whole,blocks")
    parser.add_argument("--peers", default=",".join(peers.BUILDERS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = []
    for name in args.size or ["11M", "1.3M"]:
        result = run(peers.SIZES[name], args.seconds, args.peers.split(","), args.modes.split(","))
        results.append(result)
        print(f"{name} on {result['size']['threads']} threads; speed of assay/compiled over each, and limit fractions")
        for contender, row in result["contenders"].items():
            ratio, share = row["speed_ratio"], row["fraction"]
            print(
                f"{contender:24s} {1e3 * row['seconds']['median']:8.1f} ms  "
                f"x{1 / ratio['median']:.3f} [{1 / ratio['high']:.3f} {1 / ratio['low']:.3f}]  "
                f"limit {share['square_rate_full']:.3f}  (causal pairs {share['square_rate_causal']:.3f}, "
                f"own shapes {share['products_and_half_attention']:.3f})"
            )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
