"""Decoding speed, batch 1, float32, CPU: assay, its eager loop and transformers in turn, against the memory's limit.

    python -m benchmarks.decode [--shapes 135m,11m] [--tokens 64] [--repeats 5] [--busy] [--json FILE]

The limit: as many bytes as all weights have, read again and again by the quickest of torch's passes (products with a
vector, the largest element), measured in every round beside assay. Runs are interleaved, so that whatever else the
machine does weighs on all of them alike; numbers are medians over repeats. transformers stands there twice, with its
own `generate` and as a compiled step over a static cache (`static_cache.py`); llama.cpp does where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from typing import Any

import torch

from assay.generation import decoding
from assay.generation.build import build
from assay.generation.model import Model
from assay.spec.model import ModelSpec
from benchmarks import llama, static_cache
from benchmarks.result import Check, Result
from benchmarks.rows import cannot, limit_row, of_times

SHAPES: dict[str, dict[str, Any]] = {
    # SmolLM2-135M
    "135m": {
        "vocab_size": 49152, "width": 576, "layers": 30, "context": 2048,
        "attention": {"heads": 9, "kv_heads": 3}, "feedforward": {"width": 1536},
    },
    "11m": {
        "vocab_size": 8192, "width": 320, "layers": 7, "context": 2048,
        "attention": {"heads": 5}, "feedforward": {"width": 864},
    },
}  # fmt: skip


clock = time.perf_counter


def weight_bytes(model: Model) -> int:
    """What one token reads: every weight but the rows of an untied input embedding."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def reference(model: Model) -> Any:
    """Transformers' Llama of the same shape with the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    spec = model.spec
    config = LlamaConfig(
        vocab_size=spec.vocab_size, hidden_size=spec.width, num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads("decoder"), num_key_value_heads=spec.kv_heads("decoder"),
        intermediate_size=spec.feedforward_width("decoder"), max_position_embeddings=spec.context,
        rms_norm_eps=spec.norm.eps, tie_word_embeddings=True,
    )  # fmt: skip
    other = LlamaForCausalLM(config).eval()
    ours = dict(model.transformer.named_parameters())
    names = {
        "self_attn.q_proj": "attention.q", "self_attn.k_proj": "attention.k", "self_attn.v_proj": "attention.v",
        "self_attn.o_proj": "attention.o", "mlp.gate_proj": "feedforward.gate", "mlp.up_proj": "feedforward.up",
        "mlp.down_proj": "feedforward.down", "input_layernorm": "attention_before",
        "post_attention_layernorm": "feedforward_before",
    }  # fmt: skip
    state = {
        "model.embed_tokens.weight": ours["embedding.weight"],
        "lm_head.weight": ours["embedding.weight"],
        "model.norm.weight": ours["decoder.final_norm.weight"],
    }
    for layer in range(spec.layers):
        for theirs, mine in names.items():
            state[f"model.layers.{layer}.{theirs}.weight"] = ours[f"decoder.blocks.{layer}.{mine}.weight"]
    other.load_state_dict(state)
    return other


def bandwidth(size: int, repeats: int = 7) -> float:
    """Bytes a second of the quickest pass over so many bytes: a product with a vector, or the largest of them."""
    matrix, x = torch.randn(max(size // 4 // 8192, 1), 8192), torch.randn(8192)
    ways = (lambda: torch.mv(matrix, x), lambda: torch.mm(matrix, x[:, None]), lambda: matrix.amax())
    best = float("inf")
    with torch.inference_mode():
        for _ in range(repeats):
            for way in ways:
                start = clock()
                way()
                best = min(best, clock() - start)
    return matrix.numel() * 4 / best


def measure(name: str, tokens: int, repeats: int, prompt: int, *, compiled: bool = True) -> dict[str, Any]:
    """One shape: seconds a token of every way, and their share of the limit. `compiled`: transformers compiled too."""
    model = build(ModelSpec.from_dict(SHAPES[name]))
    other = reference(model)
    ids = torch.randint(0, model.spec.vocab_size, (1, prompt), generator=torch.Generator().manual_seed(0))
    why_not = decoding.why_not

    def native(new: int) -> torch.Tensor:
        return model.generate(ids, max_new_tokens=new, ignore_eos=True)

    def eager(new: int) -> torch.Tensor:
        decoding.why_not = lambda *_: "the benchmark asks for the modules themselves"
        try:
            return native(new)
        finally:
            decoding.why_not = why_not

    def theirs(new: int) -> torch.Tensor:
        return other.generate(
            ids, max_new_tokens=new, min_new_tokens=new, do_sample=False, attention_mask=torch.ones_like(ids),
            pad_token_id=0,
        )  # fmt: skip

    ways: dict[str, Any] = {"assay": native, "assay, eager": eager, "transformers": theirs}
    same, missing, first = {"transformers": torch.equal(native(16), theirs(16))}, {}, {}
    if compiled:
        try:
            loop = static_cache.StaticCacheLoop(other, prompt + max(8 + tokens, 16))
            same[static_cache.NAME] = torch.equal(native(16), loop.generate(ids, 16))
            ways[static_cache.NAME] = lambda new: loop.generate(ids, new)
            first[static_cache.NAME] = loop.first_seconds
        except Exception as error:  # no compiler, or a step that is no one graph
            missing[static_cache.NAME] = f"{type(error).__name__}: {error}"
            same.pop(static_cache.NAME, None)
    else:
        missing[static_cache.NAME] = "compiling it takes longer than this form of the suite may: --long"
    try:
        peer = llama.LlamaCpp(model, threads=torch.get_num_threads())
        ways["llama.cpp"] = lambda new: peer.generate(ids, new)
        same["llama.cpp"] = torch.equal(native(16), ways["llama.cpp"](16))
    except Exception as error:  # it is not installed, or not this version: the others are still compared
        missing["llama.cpp"] = f"{type(error).__name__}: {error}"
    times: dict[str, list[float]] = {way: [] for way in ways}
    size, rates = weight_bytes(model), []
    for turn in range(repeats):
        for way, run in list(ways.items())[turn % len(ways) :] + list(ways.items())[: turn % len(ways)]:
            if way == "assay":  # beside what is held to it: neighbours come and go
                rates.append(bandwidth(size, 3))
            # Two lengths: what a call costs besides its tokens, the prompt included, cancels.
            short, long = (_timed(run, count) for count in (8, 8 + tokens))
            times[way].append((long - short) / tokens)
    rate = statistics.median(rates)  # of the best in every round: neighbours slow both the limit and who is held to it
    limit = size / rate
    results = {
        way: {"ms_per_token": 1e3 * statistics.median(all_), "best_ms": 1e3 * min(all_),
              "share_of_limit": limit / statistics.median(all_), "best_share": limit / min(all_)}
        for way, all_ in times.items()
    }  # fmt: skip
    return {
        "shape": name, "parameters": sum(p.numel() for p in model.parameters()), "weight_bytes": size,
        "bandwidth_gb_s": rate / 1e9, "bandwidth_best_gb_s": max(rates) / 1e9,
        "limit_ms": 1e3 * limit, "tokens": tokens, "repeats": repeats, "same_ids": same, "missing": missing,
        "compiling_seconds": first,
        "results": results, "seconds": times,
    }  # fmt: skip


def suite(seconds: float, long: bool) -> list[Result]:
    """The rows of the suite: 135M and 11M parameters; `seconds` decides how many rounds there are.

    Long: transformers compiled too, which takes half a minute beside the smaller model and minutes beside the larger.
    """
    goals = {"135m": 0.85, "11m": 0.7}
    found = []
    for name in SHAPES:
        rounds = max(3, round(seconds / (14 if name == "135m" else 3))) if seconds >= 5 else 2
        row = measure(name, 48 if seconds >= 5 else 12, min(rounds, 12), 16, compiled=long)
        found.append(result(row, goals[name]))
    return found


def result(row: dict[str, Any], goal: float) -> Result:
    """The suite's form of one shape; it says so where the machine was too busy for a difference of times."""
    out = Result(
        f"decode-{row['shape']}",
        f"Decoding, batch 1, {row['parameters'] / 1e6:.0f}M parameters",
        "decoding",
        f"one row, greedy, float32, {row['tokens']} tokens after 16, {torch.get_num_threads()} threads; what a call "
        "costs besides its tokens, the prompt included, cancels",
        "ms a token",
        limit=f"as many bytes as all weights have ({row['weight_bytes'] / 1e6:.0f} MB), read again and again in "
        f"torch's quickest way ({row['bandwidth_gb_s']:.1f} GB/s)",
        rounds=row["repeats"],
    )
    if any(statistics.median(times) <= 0 for times in row["seconds"].values()):
        out.group, out.failed = "failed", "a longer call took less time than a shorter one: the machine is too busy"
        return out
    out.rows = of_times(row["seconds"], "assay", limit=1e-3 * row["limit_ms"])
    out.rows.append(limit_row("memory bandwidth", row["limit_ms"]))
    out.rows += cannot(row["missing"])
    out.checks = [
        Check(f"the same 16 tokens as {who}", 0.0 if same else 1.0, 0.0) for who, same in row["same_ids"].items()
    ]
    out.aim_at_limit("assay", goal)
    out.aim_at("llama.cpp", 1.0)
    out.notes += [f"{who}: its first call, compilation, took {s:.1f} s." for who, s in row["compiling_seconds"].items()]
    out.facts["raw"] = row
    return out


def _timed(run: Any, count: int) -> float:
    start = clock()
    run(count)
    return clock() - start


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--json", help="also write the result to this file")
    parser.add_argument(
        "--busy", action="store_true", help="one thread, its own processor time: for machines that others use too"
    )
    args = parser.parse_args()
    if args.busy:
        global clock
        torch.set_num_threads(1)
        clock = time.process_time
    load = os.getloadavg()[0]
    report = {
        "what": "decoding, batch 1, float32, CPU",
        "torch": torch.__version__, "threads": torch.get_num_threads(), "clock": clock.__name__,
        "machine": platform.machine(),
        "load_before": load,
        "shapes": [measure(name, args.tokens, args.repeats, args.prompt) for name in args.shapes.split(",")],
        "load_after": os.getloadavg()[0],
    }  # fmt: skip
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
