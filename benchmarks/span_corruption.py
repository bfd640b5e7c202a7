"""Encoder-decoder training with span corruption: assay against transformers' T5, eager and compiled, and the limit.

    python -m benchmarks.span_corruption --seconds 20 --json span_corruption.json
    python -m benchmarks.span_corruption --documents pieces --dynamic

T5 as published (relative positions, ReLU, tied embedding), 4 + 4 layers, 256 wide; a step is forward, mean
cross-entropy over the targets, backward, AdamW. First at equal unpadded shape (512 inputs, 114 targets a row). Then on
documents of real, uneven lengths (`benchmarks.uneven`): transformers' user gives one a row and pads to the longest of
the batch (compiled: to the full row, since other shapes compile anew; `--dynamic`: with dynamic shapes as well;
`--grouped`: also with batches of documents of like length); assay packs. The rate is of positions that are not padding.

Before anything is timed: the same weights in both, the same loss at equal shape, and the same loss over the same
examples, packed in one and padded in the other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.loader import Loader
from assay.data.shards import TokenDocuments
from assay.data.specials import vocabulary
from assay.nn.batch import TensorBatch, to_tensors
from assay.nn.compiling import compile_blocks
from assay.nn.kernels.heap import keep_memory
from assay.nn.loss import loss_sum
from assay.nn.transformer import Transformer
from assay.objectives import Examples, make
from assay.published.load import load
from assay.spec.masks import Bidirectional, Causal, Mask
from assay.spec.objective import ObjectiveSpec
from assay.spec.training import OptimizerSpec
from assay.training.optimizer import adamw
from benchmarks import measure, uneven
from benchmarks.result import Check, Result
from benchmarks.training import form

VOCABULARY = 8192


@dataclass(frozen=True)
class Size:
    """The model and its batch."""

    layers: int = 4
    width: int = 256
    heads: int = 4
    hidden: int = 1024
    batch: int = 8
    inputs: int = 512
    targets: int = 114

    def flops(self) -> float:
        """Of one step at full shape, attention over all pairs."""
        m, n, d, h = self.batch * self.inputs, self.batch * self.targets, self.width, self.hidden
        encoder = m * (4 * d * d + 2 * d * h) + 2 * m * self.inputs * d
        decoder = n * (6 * d * d + 2 * d * h) + 2 * m * d * d + 2 * n * (self.targets + self.inputs) * d
        return 3 * 2 * (self.layers * (encoder + decoder) + n * d * VOCABULARY)


OWN = form(Size.width)
"""The form that assay has by default at this width."""


def build_t5(size: Size) -> nn.Module:
    """The transformers package's T5ForConditionalGeneration, without dropout."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY, d_model=size.width, d_kv=size.width // size.heads, d_ff=size.hidden,
        num_layers=size.layers, num_decoder_layers=size.layers, num_heads=size.heads, dropout_rate=0.0,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, use_cache=False, n_positions=size.inputs,
    )  # fmt: skip
    torch.manual_seed(0)
    return T5ForConditionalGeneration(config).train()


def same_in_assay(theirs: nn.Module) -> Transformer:
    """Assay's model with the same weights, by way of a published folder."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)  # type: ignore[operator]
        model = load(folder).transformer
        model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    return model.train()


def t5_call(model: nn.Module, compiled: str) -> Callable[..., Any]:
    """The model as it is called: eager, compiled, or compiled with dynamic shapes."""
    return model if compiled == "eager" else torch.compile(model, dynamic=compiled == "dynamic")  # type: ignore[no-any-return]


def t5_step(model: nn.Module, call: Callable[..., Any], batch: dict[str, Tensor], optimizer: Any) -> Tensor:
    loss: Tensor = call(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def assay_step(model: Transformer, batch: TensorBatch, optimizer: Any) -> Tensor:
    found = loss_sum(model, batch)
    loss = found.total / found.weight
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def full_batch(size: Size) -> tuple[TensorBatch, dict[str, Tensor]]:
    """Random tokens at full shape, for either."""
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randint(11, VOCABULARY, (size.batch, size.inputs), generator=draw)
    targets = torch.randint(11, VOCABULARY, (size.batch, size.targets), generator=draw)
    shifted = torch.cat([torch.zeros(size.batch, 1, dtype=torch.long), targets[:, :-1]], 1)
    everything = Mask(Bidirectional())
    ours = TensorBatch(
        inputs, everything, None, shifted, Mask(Causal()), everything, None, torch.arange(targets.numel()),
        targets.flatten(), torch.ones(targets.numel()),
    )  # fmt: skip
    return ours, {"input_ids": inputs, "labels": targets}


def padded_batches(examples: Examples, size: Size, *, full: bool, grouped: bool = False) -> list[dict[str, Tensor]]:
    """What a user's collator makes: one document a row, padded to the longest of the batch (`full`: of all)."""
    order = np.argsort(examples.input_lengths, kind="stable") if grouped else np.arange(len(examples))
    batches = []
    for begin in range(0, len(examples) - size.batch + 1, size.batch):
        rows = [examples[int(i)] for i in order[begin : begin + size.batch]]
        inputs = uneven.padded([row.inputs for row in rows], -1, size.inputs if full else None)
        labels = uneven.padded([row.targets for row in rows], uneven.IGNORED, size.targets if full else None)
        batches.append({"input_ids": inputs.clamp(min=0), "attention_mask": (inputs >= 0).long(), "labels": labels})
    return [batches[i] for i in np.random.default_rng(0).permutation(len(batches))]


def useful(batch: dict[str, Tensor]) -> int:
    """Inputs and targets that are not padding."""
    return int(batch["attention_mask"].sum() + (batch["labels"] != uneven.IGNORED).sum())


def positions(batch: dict[str, Tensor]) -> int:
    """Inputs and targets, padding too."""
    return batch["input_ids"].numel() + batch["labels"].numel()


def check_equal(name: str, ours: float, theirs: float) -> Check:
    """End the run where the two differ by more than float32's rounding."""
    print(f"{name}: loss {ours:.6f} (assay), {theirs:.6f} (transformers)")
    found = Check(f"loss, {name}, same weights", abs(ours - theirs) / abs(theirs), 2e-5)
    if not found.passed:
        raise SystemExit(f"{name}: the losses differ on the same weights, so nothing is timed")
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Check, then time both comparisons."""
    if args.busy:
        args.threads, measure.clock = 1, time.process_time
    torch.set_num_threads(args.threads)
    keep_memory()
    size = Size()
    theirs = build_t5(size)
    texts, _ = uneven.real_texts(VOCABULARY - 100, size.inputs + 56, args.documents)
    known = vocabulary(VOCABULARY, 100)
    objective = make(ObjectiveSpec(kind="span_corruption"), "encoder_decoder", known)  # type: ignore[arg-type]
    texts = texts[: args.rows]
    examples = uneven.examples_of(objective, texts)
    loader = Loader(TokenDocuments.from_arrays(texts), objective, batch_size=size.batch, length=size.inputs)
    packs = [loader.batch(0, step) for step in range(loader.steps(0))]

    ours_full, theirs_full = full_batch(size)
    models = {mode: same_in_assay(theirs) for mode in uneven.forms(OWN, args.own_form_alone)}
    wanted = theirs(**theirs_full).loss.item()
    checks = [
        check_equal("full shape", float(assay_loss(models[OWN], ours_full)), wanted),
        check_packed(models[OWN], theirs, objective, texts[: size.batch], size),
    ]
    longest = padded_batches(examples, size, full=False)
    if "compiled" in models:
        if reason := compile_blocks(models["compiled"]):
            raise SystemExit(reason)
        checks.append(check_equal("full shape, compiled", float(assay_loss(models["compiled"], ours_full)), wanted))

    optimizers = {mode: adamw(model, OptimizerSpec(learning_rate=1e-4)) for mode, model in models.items()}
    peers = {mode: build_t5(size) for mode in ("eager", "compiled", *(["dynamic"] if args.dynamic else []))}
    calls = {mode: t5_call(model, mode) for mode, model in peers.items()}
    theirs_opt = {
        mode: torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
        for mode, model in peers.items()
    }
    everything = {"attention_mask": torch.ones_like(theirs_full["input_ids"])}
    steps: dict[str, Callable[[], Any]] = {
        f"assay/{mode}": lambda mode=mode: assay_step(models[mode], ours_full, optimizers[mode]) for mode in models
    }
    for mode in ("eager", "compiled"):
        batch = theirs_full if mode == "eager" else theirs_full | everything  # one graph for both comparisons
        steps[f"transformers/{mode}"] = lambda mode=mode, batch=batch: t5_step(
            peers[mode], calls[mode], batch, theirs_opt[mode]
        )
    flops = size.flops()
    times, rates = measure.beside_products(steps, args.seconds, warmup=1) if args.part != "uneven" else ({}, [])
    limit = flops / statistics.median(rates) if rates else 0.0
    equal = measure.summary(times, {}, f"assay/{OWN}", flops, rates) if times else {}

    def theirs_on(mode: str, batches: list[dict[str, Tensor]]) -> uneven.Counted:
        return uneven.Counted(
            [lambda b=b: t5_step(peers[mode], calls[mode], b, theirs_opt[mode]) for b in batches],
            [useful(b) for b in batches],
        )

    def ours_on(mode: str) -> uneven.Counted:
        tensors = [to_tensors(b) for b in packs]
        return uneven.Counted(
            [lambda b=b: assay_step(models[mode], b, optimizers[mode]) for b in tensors],
            [b.token_count for b in packs],
            mode == "compiled",
        )

    contenders = {f"assay/{mode}, packed": ours_on(mode) for mode in models} | {
        "transformers/eager, padded": theirs_on("eager", longest),
        "transformers/compiled, padded": theirs_on("compiled", padded_batches(examples, size, full=True)),
    }
    if args.dynamic:
        contenders["transformers/dynamic, padded"] = theirs_on("dynamic", longest)
    if args.grouped:
        alike = padded_batches(examples, size, full=False, grouped=True)
        contenders["transformers/eager, like lengths"] = theirs_on("eager", alike)
    if args.part == "equal":
        contenders = {}
    found = uneven.rate_summary(uneven.rates(contenders, args.seconds), f"assay/{OWN}, packed") if contenders else {}
    return {
        "benchmark": "span corruption, encoder-decoder",
        "size": vars(size),
        "threads": args.threads,
        "machine": measure.machine(),
        "parameters": sum(p.numel() for p in models[OWN].parameters()),
        "own": OWN,
        "checks": checks,
        "limit": limit,
        "equal shape": equal,
        "documents": args.documents,
        "padding": {
            "assay": float(np.mean([b.padding for b in packs])),
            "transformers, longest": 1 - sum(map(useful, longest)) / sum(map(positions, longest)),
        },
        "uneven documents": found,
    }  # fmt: skip


def assay_loss(model: Transformer, batch: TensorBatch) -> Tensor:
    found = loss_sum(model, batch)
    return found.total.detach() / found.weight


def check_packed(model: Transformer, theirs: nn.Module, objective: Any, texts: list[np.ndarray], size: Size) -> Check:
    """The same examples packed in assay and padded in transformers have the same summed loss."""
    loader = Loader(TokenDocuments.from_arrays(texts), objective, batch_size=1, length=size.inputs)
    packed, count, total = [loader.batch(0, step) for step in range(loader.steps(0))], 0, 0.0
    assert any(not b.single_document for b in packed), "rows of one document each show nothing"
    plan = loader._plan(0)
    chosen = plan.rows.pieces
    pieces = objective.examples(loader._texts(plan.pieces, chosen, 0))
    for batch in packed:
        found = loss_sum(model, to_tensors(batch))
        total, count = total + float(found.total.detach()), count + found.count
    rows = [pieces[i] for i in range(len(pieces))]
    inputs = uneven.padded([row.inputs for row in rows], -1)
    labels = uneven.padded([row.targets for row in rows], uneven.IGNORED)
    given = {"input_ids": inputs.clamp(min=0), "attention_mask": (inputs >= 0).long(), "labels": labels}
    name = f"{len(rows)} documents, packed in {len(packed)} rows"
    return check_equal(name, total / count, theirs(**given).loss.item())


def suite(seconds: float, long: bool, **changes: Any) -> list[Result]:
    """Both rows of the suite; long: transformers with dynamic shapes and with batches of like length too."""
    found = run(uneven.arguments(seconds, long, dynamic=long, grouped=long, **changes))
    shape = "T5-like, 4 + 4 layers, 256 wide, vocabulary 8,192, batch 8 x 512 / 114"
    both = uneven.results(found, "span-corruption", "Span corruption, encoder-decoder", shape)
    both[0].aim_at_limit(f"assay/{OWN}", 0.93)
    both[0].aim_at_best(1.0)
    both[1].aim_at_best(1.5)
    return both


def main() -> None:
    """Command line; see the module."""
    uneven.main(__doc__ or "", run, "dynamic", "grouped")


if __name__ == "__main__":
    main()
