"""Prefix language modelling at vocabulary 32,000: assay against transformers with a dense mask, eager and compiled.

    python -m benchmarks.prefix --seconds 20 --json prefix.json

A LLaMA-like decoder (6 layers, 384 wide, 11M parameters without embeddings). transformers gets the mask as its users
give it, [batch, 1, queries, keys], the labels of the prefix ignored. First at equal shape, rows without padding; then
on documents of real, uneven lengths (`benchmarks.uneven`), one a row and padded to the longest there (compiled: to the
full row), packed here. Rates are of positions that are not padding. Before anything is timed: the same weights, the
same loss at equal shape, and the same loss over the same documents, packed and padded.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.batch import Batch, lay
from assay.data.loader import Loader
from assay.data.shards import TokenDocuments
from assay.data.specials import vocabulary
from assay.nn import build
from assay.nn.batch import to_tensors
from assay.nn.compiling import compile_blocks
from assay.nn.kernels.heap import keep_memory
from assay.nn.transformer import Transformer
from assay.objectives import Example, Examples, Lengths, make
from assay.spec.objective import ObjectiveSpec
from assay.spec.training import OptimizerSpec
from assay.training.optimizer import adamw
from benchmarks import gpu, measure, peers, uneven
from benchmarks.result import Check, Result
from benchmarks.rows import cannot
from benchmarks.span_corruption import assay_loss, assay_step, check_equal, t5_call, t5_step
from benchmarks.training import ON_GPU, copy_weights, form, spec_of

SIZE = peers.Size("prefix", 6, 384, 6, 1024, 32_000, 4, 256, 2)
OWN = form(SIZE.width)
"""The form that assay has by default at this width."""
KNOWN = vocabulary(SIZE.vocab_size, 100)


def assay_model(theirs: nn.Module) -> Transformer:
    """The same shape and weights, as a prefix decoder."""
    model = build(spec_of(SIZE).with_(family="prefix"))
    copy_weights(model, theirs)
    return model.train()


def given_to_transformers(rows: list[Example], length: int | None = None) -> dict[str, Tensor]:
    """Padded ids, labels (transformers shifts them itself) and the dense mask of several examples."""
    inputs = uneven.padded([row.inputs for row in rows], 0, length)
    labels = uneven.padded(
        [np.where(row.weights > 0, row.targets, uneven.IGNORED) for row in rows], uneven.IGNORED, length
    )
    q, k = torch.arange(inputs.shape[1])[:, None], torch.arange(inputs.shape[1])
    prefix = torch.tensor([row.prefix for row in rows])[:, None, None]
    seen = (k <= q) | (k < prefix)
    mask = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)[:, None]
    return {"input_ids": inputs, "attention_mask": mask, "shift_labels": labels, "labels": labels}  # fmt: skip


def batches_of(examples: Examples, *, full: bool) -> tuple[list[dict[str, Tensor]], list[int]]:
    """One document a row, `SIZE.batch` rows, and how many positions are not padding."""
    batches, useful = [], []
    for begin in range(0, len(examples) - SIZE.batch + 1, SIZE.batch):
        rows = [examples[i] for i in range(begin, begin + SIZE.batch)]
        batches.append(given_to_transformers(rows, SIZE.length if full else None))
        useful.append(sum(len(row.inputs) for row in rows))
    return batches, useful


def full_batch(objective: Any) -> tuple[Batch, dict[str, Tensor]]:
    """Random texts that fill their rows: for assay, for transformers."""
    raw = objective.raw_length(Lengths(SIZE.length), ends=True)
    draw = np.random.default_rng(1)
    examples = uneven.examples_of(objective, [draw.integers(11, 31_000, raw) for _ in range(SIZE.batch)])
    assert (examples.input_lengths == SIZE.length).all()
    batch = lay(examples, np.ones(SIZE.batch, dtype=np.int64), Lengths(SIZE.length), "prefix", KNOWN)
    return batch, given_to_transformers([examples[i] for i in range(SIZE.batch)])


def check_packed(model: Transformer, theirs: nn.Module, objective: Any, texts: list[np.ndarray]) -> Check:
    """The same documents packed in assay and padded in transformers have the same loss."""
    examples = uneven.examples_of(objective, texts)
    lengths = Lengths(int(examples.input_lengths.sum()))
    packed = lay(examples, np.array([len(examples)]), lengths, "prefix", KNOWN)
    rows = [examples[i] for i in range(len(examples))]
    name = f"{len(rows)} documents, packed in a row"
    return check_equal(
        name, float(assay_loss(model, to_tensors(packed))), theirs(**given_to_transformers(rows)).loss.item()
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Check, then time both comparisons."""
    if args.busy:
        args.threads, measure.clock = 1, time.process_time
    torch.set_num_threads(args.threads)
    keep_memory()
    torch.manual_seed(0)
    theirs = peers.build_transformers(SIZE).train()
    objective: Any = make(ObjectiveSpec(kind="prefix_lm"), "prefix", KNOWN)  # type: ignore[arg-type]
    texts, _ = uneven.real_texts(8192, SIZE.length - 1, args.documents)
    texts = texts[: args.rows]
    examples = uneven.examples_of(objective, texts)
    models = {mode: assay_model(theirs) for mode in uneven.forms(OWN, args.own_form_alone)}
    full, full_theirs = full_batch(objective)
    tensors, wanted = to_tensors(full), theirs(**full_theirs).loss.item()
    checks = [
        check_equal("full shape", float(assay_loss(models[OWN], tensors)), wanted),
        check_packed(models[OWN], theirs, objective, [ids[:40] for ids in texts[:4]]),
    ]
    if "compiled" in models:
        if reason := compile_blocks(models["compiled"]):
            raise SystemExit(reason)
        checks.append(check_equal("full shape, compiled", float(assay_loss(models["compiled"], tensors)), wanted))
    optimizers = {mode: adamw(model, OptimizerSpec(learning_rate=1e-4)) for mode, model in models.items()}
    others = {mode: peers.build_transformers(SIZE).train() for mode in ("eager", "compiled")}
    calls = {mode: t5_call(model, mode) for mode, model in others.items()}
    theirs_opt = {
        mode: torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
        for mode, model in others.items()
    }
    steps: dict[str, Callable[[], Any]] = {
        f"assay/{mode}": lambda mode=mode: assay_step(models[mode], tensors, optimizers[mode]) for mode in models
    }
    steps |= {
        f"transformers/{mode}": lambda mode=mode: t5_step(others[mode], calls[mode], full_theirs, theirs_opt[mode])
        for mode in others
    }
    # FLOPs as transformers does them: attention over all pairs, logits at every position.
    flops = measure.flops(SIZE, 1.0)
    times, rates = measure.beside_products(steps, args.seconds, warmup=1) if args.part != "uneven" else ({}, [])
    limit = flops / statistics.median(rates) if rates else 0.0
    equal = measure.summary(times, {}, f"assay/{OWN}", flops, rates) if times else {}

    loader = Loader(TokenDocuments.from_arrays(texts), objective, batch_size=SIZE.batch, length=SIZE.length)
    packs = [loader.batch(0, step) for step in range(loader.steps(0))]
    packed = [to_tensors(b) for b in packs]
    longest, counts = batches_of(examples, full=False)
    whole, _ = batches_of(examples, full=True)

    def ours_on(mode: str) -> uneven.Counted:
        return uneven.Counted(
            [lambda b=b: assay_step(models[mode], b, optimizers[mode]) for b in packed],
            [b.token_count for b in packs],
            mode == "compiled",
        )

    def theirs_on(mode: str, batches: list[dict[str, Tensor]]) -> uneven.Counted:
        return uneven.Counted(
            [lambda b=b: t5_step(others[mode], calls[mode], b, theirs_opt[mode]) for b in batches], counts
        )

    contenders = {f"assay/{mode}, packed": ours_on(mode) for mode in models} | {
        "transformers/eager, padded": theirs_on("eager", longest),
        "transformers/compiled, padded": theirs_on("compiled", whole),
    }
    if args.part == "equal":
        contenders = {}
    found = uneven.rate_summary(uneven.rates(contenders, args.seconds), f"assay/{OWN}, packed") if contenders else {}
    return {
        "benchmark": "prefix LM",
        "size": vars(SIZE),
        "threads": args.threads,
        "machine": measure.machine(),
        "own": OWN,
        "checks": checks,
        "limit": limit,
        "equal shape": equal,
        "documents": args.documents,
        "padding": {
            "assay": float(np.mean([b.padding for b in packs])),
            "transformers, longest": 1 - sum(counts) / sum(b["input_ids"].numel() for b in longest),
        },
        "uneven documents": found,
    }


def suite(seconds: float, long: bool, **changes: Any) -> list[Result]:
    """Both rows of the suite."""
    found = run(uneven.arguments(seconds, long, **changes))
    shape = "6 layers, 384 wide, vocabulary 32,000, batch 4 x 256; transformers with a dense mask"
    both = uneven.results(found, "prefix", "Prefix language modelling", shape)
    for each in both:
        each.rows += cannot({"FlexAttention": gpu.why_not(ON_GPU)})
    both[0].aim_at_best(1.0)
    both[1].aim_at_best(1.5)
    return both


def main() -> None:
    """Command line; see the module."""
    uneven.main(__doc__ or "", run)


if __name__ == "__main__":
    main()
