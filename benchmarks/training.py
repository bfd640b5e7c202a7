"""One training step of a LLaMA-like decoder: assay against transformers, litgpt and x-transformers, and the limit.

    python -m benchmarks.training --size 11M --seconds 60 --json 11M.json

The limit is `square_rate_full`: the step's FLOPs (attention over all pairs) at the rate of 2048 x 2048 products, the
best of three in every round. Other definitions, measured before and after, stand beside it in the JSON. Before
anything is timed, the first loss of assay and of every peer is held to transformers' on the same weights and tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.nn import build
from assay.nn.batch import TensorBatch
from assay.nn.compiling import compile_blocks
from assay.nn.kernels.heap import keep_memory
from assay.nn.loss import loss_sum
from assay.nn.transformer import Transformer
from assay.spec.masks import Causal, Mask
from assay.spec.model import ModelSpec
from assay.spec.training import OptimizerSpec
from assay.training.optimizer import adamw
from assay.training.setup import COMPILE_TO
from assay.training.step import precision
from benchmarks import equal, gpu, measure, peers
from benchmarks.result import Check, Result
from benchmarks.rows import cannot, limit_row, of_summary

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


TOLERANCE = 1e-5
"""Relative, between first losses on the same weights and tokens."""
ON_GPU = "a training step on the GPU"
"""Where peers are that need one."""
NOTHING: Mapping[str, str] = {}
SHORT_WITHOUT = {
    "x-transformers/whole": "compiling it takes half a minute, and others are quicker: --long",
    "assay/compiled": f"blocks wider than {COMPILE_TO} are as quick as they stand, and stay so by default: --long",
}
"""What the default form leaves out, and why."""


def form(width: int) -> str:
    """How assay's long runs of a width go by default: "compiled" or "eager"."""
    return "compiled" if width <= COMPILE_TO else "eager"


def own(size: peers.Size, modes: Sequence[str] = ()) -> str:
    """Assay's row that peers are compared with: its default form, or eager where `modes` has nothing compiled."""
    return f"assay/{'eager' if list(modes) == ['no'] else form(size.width)}"


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


def assay_step(
    model: Transformer, size: peers.Size, compiled: bool, *, device: str = "cpu", dtype: str = "float32"
) -> Callable[[], Tensor]:
    """One whole step, as the training loop takes it (without clipping, which no peer does here)."""
    inputs, targets = (ids.to(device) for ids in peers.batch_of(size))
    every, weights = torch.arange(targets.numel(), device=device), torch.ones(targets.numel(), device=device)
    batch = TensorBatch(inputs, Mask(Causal()), None, None, None, None, None, every, targets.flatten(), weights)
    optimizer = adamw(model.train(), OptimizerSpec(learning_rate=1e-4))
    if compiled and (reason := compile_blocks(model)):
        raise RuntimeError(reason)

    def step() -> Tensor:
        with precision(dtype, device):
            found = loss_sum(model, batch)
        loss = found.total / found.weight
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def contenders(
    size: peers.Size, chosen: list[str], modes: list[str], without: Mapping[str, str]
) -> tuple[dict[str, tuple[Callable[[], Tensor], int]], dict[str, str]]:
    """Every contender's step and its number of parameters, all with the same weights; why others do not run.

    Args:
        size: of the model and its batch.
        chosen, modes: peers, and how each of them runs.
        without: contenders that are left out, and why.
    """
    out: dict[str, tuple[Callable[[], Tensor], int]] = {}
    missing = dict(without)
    torch.manual_seed(0)
    reference = peers.build_transformers(size)
    for name in ("assay/eager", "assay/compiled"):
        if name in without or (name != own(size, modes) and modes == ["no"]):
            continue
        model = build(spec_of(size))
        copy_weights(model, reference)
        out[name] = (assay_step(model, size, name == "assay/compiled"), peers.parameters(model))
    start = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    for peer in chosen:
        for mode in modes:
            name = f"{peer}/{'eager' if mode == 'no' else mode}"
            if name in without:
                continue
            try:
                other = peers.BUILDERS[peer](size)
                reference.load_state_dict(start)
                equal.copy(peer, other, reference, size.layers, size.heads)
                if mode == "blocks" and peers.blocks_of(other) is None:
                    continue
                out[name] = (peers.training_step(other, size, mode), peers.parameters(other))
            except Exception as error:
                missing[name] = f"{type(error).__name__}: {error}"
    return out, missing


def run(
    size: peers.Size, seconds: float, chosen: list[str], modes: list[str], without: Mapping[str, str] = NOTHING
) -> dict[str, Any]:
    """Time all contenders; what the JSON holds. glibc keeps freed memory, as in assay's loop, for all of them."""
    torch.set_num_threads(size.threads)
    keep_memory()
    built, missing = contenders(size, chosen, modes, without)
    first: dict[str, float] = {}
    losses: dict[str, float] = {}
    for name, (step, parameters) in list(built.items()):
        began = time.perf_counter()
        try:
            losses[name] = step().item()
        except Exception as error:
            if name.startswith("assay"):
                raise
            missing[name] = f"{type(error).__name__}: {error}"  # a peer whose compilation fails ends nothing
            del built[name]
            continue
        first[name] = time.perf_counter() - began
        print(f"{name}: {parameters:,} parameters, loss {losses[name]:.4f}, first {first[name]:.1f} s", file=sys.stderr)
    theirs = losses.get("transformers/eager", losses[own(size, modes)])
    for name, loss in losses.items():
        if not abs(loss - theirs) <= TOLERANCE * abs(theirs):
            raise SystemExit(f"{name}: loss {loss} differs from transformers' {theirs} on the same weights")
    before = measure.limits(size, 0.1)
    times, rates = measure.beside_products({name: step for name, (step, _) in built.items()}, seconds, warmup=1)
    after = measure.limits(size, 0.1)
    best = {k: (max if k == "square_flops_per_second" else min)(before[k], after[k]) for k in before}
    flops = measure.flops(size, 1.0)
    best["square_rate_full"] = flops / statistics.median(rates)
    return {
        "benchmark": "training step",
        "size": asdict(size),
        "machine": measure.machine(),
        "parameters": {name: count for name, (_, count) in built.items()},
        "missing": missing,
        "first_loss": losses,
        "first_step_seconds": first,
        "limit": best,
        "own": own(size, modes),
        "contenders": measure.summary(times, best, own(size, modes), flops, rates),
    }


def suite(
    seconds: float, long: bool, *, size: peers.Size | None = None, modes: list[str] | None = None
) -> list[Result]:
    """The row of the suite. Long: all peers compiled, also with their blocks one by one, and the 1.3M model."""
    sizes = [size] if size else [peers.SIZES[name] for name in (("11M", "1.3M") if long else ("11M",))]
    modes = modes or ["no", "whole", *(["blocks"] if long else [])]
    without = NOTHING if long else SHORT_WITHOUT
    found = [result(run(each, seconds, list(peers.BUILDERS), modes, without)) for each in sizes]
    for each in sizes:
        found += gpu.guarded(f"training-{each.name}-gpu", ON_GPU, lambda each=each: gpu.training(each, seconds))
    big = peers.SIZES["135M"]
    return found + gpu.guarded(f"training-{big.name}-gpu", ON_GPU, lambda: gpu.training(big, seconds, dtype="bfloat16"))


def result(found: dict[str, Any]) -> Result:
    """The suite's form of what `run` gives."""
    size = found["size"]
    reference, limit = found["own"], found["limit"]
    out = Result(
        f"training-{size['name']}",
        f"A training step, LLaMA-like, {size['name']} parameters",
        "training",
        f"{size['layers']} layers, {size['width']} wide, {size['heads']} heads, hidden {size['hidden']} (SwiGLU), "
        f"vocabulary {size['vocab_size']}, batch {size['batch']} x {size['length']}, float32, AdamW, "
        f"{size['threads']} threads",
        "ms a step",
        limit="the step's FLOPs, attention over all pairs, at the rate of 2048 x 2048 products in the same round",
        rounds=found["contenders"][reference]["rounds"],
    )
    out.rows = of_summary(found["contenders"], reference, "square_rate_full")
    out.rows.append(limit_row("square products", 1e3 * limit["square_rate_full"]))
    out.rows += cannot(found["missing"] | dict.fromkeys(("Liger-Kernel", "FlexAttention"), gpu.why_not(ON_GPU)))
    theirs = found["first_loss"].get("transformers/eager", found["first_loss"][reference])
    out.checks = [
        Check(f"first loss of {who}, same weights", abs(loss - theirs) / abs(theirs), TOLERANCE)
        for who, loss in found["first_loss"].items()
    ]
    seconds = ", ".join(f"{who} {taken:.1f} s" for who, taken in found["first_step_seconds"].items())
    out.notes.append(f"First steps, compilation included: {seconds}.")
    for name, value in limit.items():
        if name != "square_flops_per_second" and name != "square_rate_full":
            step = found["contenders"][reference]["seconds"]["median"]
            out.notes.append(f"By another limit ({name.replace('_', ' ')}): {reference} at {value / step:.3f}.")
    out.aim_at_limit(reference, 0.97 if size["name"] == "11M" else 0.7)
    out.aim_at_best(1.0)
    out.facts["raw"] = found
    return out


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
        threads = result["size"]["threads"]
        print(f"{name} on {threads} threads; speed of {result['own']} over each, and limit fractions")
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
