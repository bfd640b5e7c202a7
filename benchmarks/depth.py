"""A deep, narrow decoder: assay against x-transformers and torchscale, side by side, and the multiply limit.

    python -m benchmarks.depth --layers 250 --width 64 --threads 1 --json depth.json
    python -m benchmarks.depth --compile-times          # how long the first step takes at several depths
    python -m benchmarks.depth --memory                 # live bytes against what the description predicts

A step is forward, mean cross-entropy over every position, backward, clipping to norm 1, AdamW. All have the same depth,
width, heads, feed-forward (4 x width, GELU, not gated), batch and vocabulary, and scale their residual as DeepNet does.
Limits: `square_rate_full`, the step's FLOPs (attention over all pairs) at the rate of 2048 x 2048 products in the same
round, and `products`, what the weight products alone take, each at its own shape.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.nn import build
from assay.nn.compiling import compile_blocks
from assay.nn.kernels.heap import keep_memory
from assay.nn.loss import cross_entropy_sum
from assay.spec.masks import Causal, Mask
from assay.spec.memory import step_bytes
from assay.spec.model import ModelSpec
from assay.spec.training import OptimizerSpec
from assay.training.memory import peak_bytes
from assay.training.optimizer import adamw, clipped_step
from benchmarks import measure
from benchmarks.result import Check, Result
from benchmarks.rows import cannot, limit_row, of_summary

VOCABULARY = 256


def spec_of(args: argparse.Namespace, layers: int | None = None) -> ModelSpec:
    """DeepNet's decoder at this size."""
    return ModelSpec.from_dict(
        {
            "vocab_size": VOCABULARY, "width": args.width, "layers": layers or args.layers, "context": args.length,
            "attention": {"heads": args.heads}, "placement": "deepnet", "norm": "layernorm",
            "feedforward": {"activation": "gelu", "gated": False},
        }
    )  # fmt: skip


def data(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, VOCABULARY, (args.batch, args.length + 1), generator=torch.Generator().manual_seed(0))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def assay_step(
    args: argparse.Namespace, *, compiled: bool, checkpointing: bool = False, layers: int | None = None
) -> tuple[Callable[[], Any], nn.Module]:
    model = build(spec_of(args, layers)).train()
    assert model.decoder is not None
    model.decoder.checkpointing = checkpointing
    if compiled and (reason := compile_blocks(model)):
        raise SystemExit(reason)
    optimizer = adamw(model, OptimizerSpec())
    inputs, targets = data(args)
    weights = torch.ones(targets.numel())

    def step() -> Tensor:
        hidden = model.decode(inputs, Mask(Causal())).hidden.flatten(0, 1)
        matrix = model.head.matrix(model.embedding.weight)
        loss = cross_entropy_sum(hidden, matrix, targets.flatten(), weights) / targets.numel()
        loss.backward()
        clipped_step(optimizer, 1.0)
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step, model


def peer_step(model: nn.Module, args: argparse.Namespace, read: Callable[[nn.Module, Tensor], Tensor]) -> Any:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    inputs, targets = data(args)

    def step() -> Tensor:
        loss = F.cross_entropy(read(model, inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def x_transformers(args: argparse.Namespace) -> tuple[Any, nn.Module]:
    from x_transformers import Decoder, TransformerWrapper

    model = TransformerWrapper(
        num_tokens=VOCABULARY, max_seq_len=args.length, use_abs_pos_emb=False, tie_embedding=True,
        attn_layers=Decoder(
            dim=args.width, depth=args.layers, heads=args.heads, attn_dim_head=args.width // args.heads,
            rotary_pos_emb=True, rotary_emb_dim=args.width // args.heads, pre_norm=False,
            scale_residual_constant=(2 * args.layers) ** 0.25, ff_mult=4, ff_no_bias=True, attn_flash=True,
        ),
    ).train()  # fmt: skip
    return peer_step(model, args, lambda m, ids: m(ids)), model


def torchscale(args: argparse.Namespace) -> tuple[Any, nn.Module]:
    from torchscale.architecture.config import DecoderConfig
    from torchscale.architecture.decoder import Decoder

    config = DecoderConfig(
        vocab_size=VOCABULARY, decoder_embed_dim=args.width, decoder_attention_heads=args.heads,
        decoder_ffn_embed_dim=4 * args.width, decoder_layers=args.layers, deepnorm=True,
        share_decoder_input_output_embed=True,
    )  # fmt: skip
    model = Decoder(config, embed_tokens=nn.Embedding(VOCABULARY, args.width)).train()
    return peer_step(model, args, lambda m, ids: m(ids)[0]), model


def limits(args: argparse.Namespace) -> dict[str, float]:
    """A step's FLOPs, and the seconds that its products take alone."""
    rows, d = args.batch * args.length, args.width
    shapes = [(rows, d, d, 4 * args.layers), (rows, d, 4 * d, args.layers), (rows, 4 * d, d, args.layers)]
    shapes.append((rows, d, VOCABULARY, 1))
    flops = sum(6 * m * k * n * count for m, k, n, count in shapes) + 12 * rows * args.length * d * args.layers
    return {"flops": flops, "products": measure.matmul_limit(shapes)}


def compile_times(args: argparse.Namespace) -> list[dict[str, float]]:
    """Seconds of the first step at several depths, a fresh compiler each, against a later step's."""
    rows = []
    for layers in args.depths:
        torch._dynamo.reset()
        gc.collect()
        with torch._inductor.utils.fresh_inductor_cache():
            step, _ = assay_step(args, compiled=True, layers=layers)
            start = time.perf_counter()
            step()
            first = time.perf_counter() - start
            start = time.perf_counter()
            step()
            later = time.perf_counter() - start
        rows.append({"layers": layers, "first": first, "later": later, "compiling": first - later})
        print(f"{layers} layers: first step {first:.1f} s, a later one {later:.2f} s")
    return rows


def memory(args: argparse.Namespace) -> list[dict[str, float]]:
    """Live bytes of forward and backward against what the description predicts, eager, weights not counted."""
    rows = []
    for checkpointing in (False, True):
        model = assay_step(args, compiled=False, checkpointing=checkpointing)[1]
        inputs, targets = data(args)

        def work(model: Any = model, inputs: Tensor = inputs, targets: Tensor = targets) -> None:
            hidden = model.decode(inputs, Mask(Causal())).hidden.flatten(0, 1)
            matrix = model.head.matrix(model.embedding.weight)
            cross_entropy_sum(hidden, matrix, targets.flatten(), torch.ones(targets.numel())).backward()
            model.zero_grad()

        work()
        found = peak_bytes(work, held=0) or 0
        said = step_bytes(spec_of(args), args.batch, args.length, checkpointing=checkpointing).peak
        rows.append({"checkpointing": checkpointing, "measured": found, "predicted": said, "ratio": said / found})
        print(f"checkpointing {checkpointing}: {found / 1e6:.1f} MB measured, predicted {said / found:.3f} of it")
    return rows


def main() -> None:
    """Time, measure memory, or time compiling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 250), ("width", 64), ("heads", 4), ("batch", 8), ("length", 64), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--contenders", default="assay/compiled,assay/eager,x-transformers/eager,torchscale/eager")
    parser.add_argument("--compile-times", action="store_true")
    parser.add_argument("--depths", type=int, nargs="+", default=[100, 200, 400, 1000])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_memory()
    if args.threads == 1:
        measure.clock = time.process_time
    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(args).items()}, "torch": torch.__version__}
    if args.compile_times:
        result["compile_times"] = compile_times(args)
    elif args.memory:
        result["memory"] = memory(args)
    else:
        result |= compare(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Interleaved steps of all contenders."""
    makers: dict[str, Callable[[], tuple[Any, nn.Module]]] = {
        "assay/compiled": lambda: assay_step(args, compiled=True),
        "assay/eager": lambda: assay_step(args, compiled=False),
        "x-transformers/eager": lambda: x_transformers(args),
        "torchscale/eager": lambda: torchscale(args),
    }
    steps, facts, missing = {}, {}, {}
    for name in args.contenders.split(","):
        torch.manual_seed(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                step, model = makers[name]()
                start = time.perf_counter()
                loss = float(step())
        except (ImportError, TypeError, AttributeError, RuntimeError) as error:
            missing[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            print(f"{name}: does not run here ({missing[name]})")
            continue
        facts[name] = {
            "parameters": sum(p.numel() for p in model.parameters()), "loss": loss,
            "first_step_seconds": time.perf_counter() - start,
        }  # fmt: skip
        steps[name] = step
        print(f"{name}: {facts[name]}")
    before = limits(args)
    times, rates = measure.beside_products(steps, args.seconds, warmup=2, least=5)
    least, flops = {"products": min(before["products"], limits(args)["products"])}, before["flops"]
    rows = measure.summary(times, least, next(iter(steps)), flops, rates)
    least["square_rate_full"] = flops / statistics.median(rates)
    for name, row in rows.items():
        ratio, share = row["speed_ratio"], row["fraction"]
        print(
            f"{name:22s} {1e3 * row['seconds']['median']:8.1f} ms  x{ratio['median']:.3f} [{ratio['low']:.3f} "
            f"{ratio['high']:.3f}]  " + "  ".join(f"{key} {value:.3f}" for key, value in share.items())
        )
    found = {"facts": facts, "missing": missing, "limit_seconds": least, "contenders": rows}
    return found | {"machine": measure.machine()}


def suite(seconds: float, long: bool, **changes: Any) -> list[Result]:
    """The row of the suite, on one thread and its processor time; long: eager and torchscale too."""
    names = ["assay/compiled", "x-transformers/eager", *(["assay/eager", "torchscale/eager"] if long else [])]
    given: dict[str, Any] = {
        "layers": 250, "width": 64, "heads": 4, "batch": 8, "length": 64, "threads": 1, "contenders": ",".join(names)
    }  # fmt: skip
    args = argparse.Namespace(**(given | {"seconds": seconds} | changes))
    torch.set_num_threads(args.threads)
    keep_memory()
    if args.threads == 1:
        measure.clock = time.process_time
    found = compare(args)
    own = next(iter(found["contenders"]))
    out = Result(
        "depth", f"A training step, {args.layers} layers, {args.width} wide", "training",
        f"DeepNorm, {args.heads} heads, GELU, batch {args.batch} x {args.length}, float32, clipped AdamW, "
        f"{args.threads} thread, processor time",
        "ms a step", limit="the step's FLOPs at the rate of 2048 x 2048 products in the same round",
        rounds=found["contenders"][own]["rounds"],
    )  # fmt: skip
    out.rows = of_summary(found["contenders"], own, "square_rate_full")
    out.rows.append(limit_row("square products", 1e3 * found["limit_seconds"]["square_rate_full"]))
    out.rows += cannot(found["missing"])
    both = [found["facts"][who]["loss"] for who in ("assay/compiled", "assay/eager") if who in found["facts"]]
    both += [float(assay_step(args, compiled=False)[0]())] if len(both) == 1 else []
    out.checks = [Check("first loss, compiled and eager, seeds as built", abs(both[0] - both[1]) / both[1], 1e-4)]
    counts = ", ".join(f"{who} {facts['parameters']:,}" for who, facts in found["facts"].items())
    out.notes.append(f"Parameters: {counts}. Peers scale their residual as DeepNet does; their weights are their own.")
    out.aim_at_limit(own, 0.5)
    out.aim_at("x-transformers/eager", 2.0)
    return [out]


if __name__ == "__main__":
    main()
