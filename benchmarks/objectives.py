"""How fast examples are made: whole batches of assay's loader against the collators that people use.

    python benchmarks/objectives.py --out objectives.json

The others are re-expressed here from public knowledge of their algorithms, as they work, not copied: the NumPy
collator of transformers' Flax T5 example (random spans per row, then sentinels and filtering over the batch) and
fairseq's `DenoisingDataset` (one example at a time, in torch, whole-word spans of Poisson lengths, sentence
permutation). One thread, process time, rounds interleaved, medians of ratios within a round with quartiles. Theirs
collate token ids that lie ready; ours also fetches the pieces from the documents, packs them, and makes positions,
document ids and masks. Memory is kept as training keeps it (for all; `--no-keep` for glibc's defaults).

`--step` also takes training steps of a small model (6 layers, 128 wide) and says which share of one its batch costs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402 (after the number of threads)
import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from assay.data.loader import Loader  # noqa: E402
from assay.data.shards import TokenDocuments  # noqa: E402
from assay.data.specials import vocabulary  # noqa: E402
from assay.nn.kernels.heap import keep_memory  # noqa: E402
from assay.objectives import make  # noqa: E402
from assay.spec.objective import ObjectiveSpec  # noqa: E402

VOCABULARY = vocabulary(32_000, 100)
FAMILIES = ("causal", "prefix", "encoder_decoder", "encoder")
RAW = 568
"""Raw tokens of T5's full example: 512 inputs, 114 targets."""


class FlaxT5Collator:
    """T5 span corruption as the Flax example's collator does it, from lists of 568 ids as `datasets` hands them out."""

    def __init__(self, density: float = 0.15, mean: float = 3.0) -> None:
        self.density, self.mean = density, mean

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, np.ndarray]:
        ids = np.array([example["input_ids"] for example in examples])
        batch, length = ids.shape
        noise = np.asarray([self._mask(length) for _ in range(batch)])
        labels = self._filter(ids, self._sentinels((~noise).astype(np.int8)))
        return {
            "input_ids": self._filter(ids, self._sentinels(noise.astype(np.int8))),
            "labels": labels,
            "decoder_input_ids": np.concatenate([np.zeros((batch, 1), labels.dtype), labels[:, :-1]], axis=1),
        }

    def _mask(self, length: int) -> np.ndarray:
        noise = min(max(int(np.round(length * self.density)), 1), length - 1)
        spans = max(int(np.round(noise / self.mean)), 1)

        def pieces(items: int) -> np.ndarray:
            borders = np.arange(items - 1) < (spans - 1)
            np.random.shuffle(borders)
            number = np.cumsum(np.pad(borders, [[1, 0]]))
            return np.unique(number, return_counts=True)[1]

        lengths = np.reshape(np.stack([pieces(length - noise), pieces(noise)], axis=1), [spans * 2])
        starts = np.zeros((length,), dtype=np.int8)
        starts[np.cumsum(lengths)[:-1]] = True
        return np.equal(np.cumsum(starts) % 2, 1)

    def _sentinels(self, mask: np.ndarray) -> np.ndarray:
        start = mask - np.roll(mask, 1, axis=-1) * mask
        start[:, 0] = mask[:, 0]
        numbers = np.where(start != 0, np.cumsum(start, axis=-1), start)
        numbers = np.where(numbers != 0, VOCABULARY.size - numbers, 0)
        return numbers - (mask - start)

    def _filter(self, ids: np.ndarray, sentinels: np.ndarray) -> np.ndarray:
        full = np.where(sentinels != 0, sentinels, ids)
        rows = full[full >= 0].reshape((len(ids), -1))
        return np.concatenate([rows, np.full((len(ids), 1), VOCABULARY.eos, dtype=np.int32)], axis=-1)


class FairseqDenoising:
    """BART's noising one example at a time, with a torch generator seeded by (seed, epoch, index)."""

    def __init__(self, documents: list[torch.Tensor], word_start: torch.Tensor, full_stop: torch.Tensor) -> None:
        self.documents, self.word_start, self.full_stop = documents, word_start, full_stop
        lam, chances, value = 3.0, [], math.exp(-3.0)
        for k in range(128):
            chances.append(value)
            value *= lam / (k + 1)
            if chances[-1] < 1e-7:
                break
        self.spans = torch.distributions.Categorical(torch.tensor(chances))

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((0, 0, index)) % 2**31)
            target = self.documents[index]
            return self._infill(self._permute(target.clone())), target.clone()

    def _permute(self, source: torch.Tensor) -> torch.Tensor:
        stops = self.full_stop[source]
        stops[-2] = True
        ends = (stops[1:] * ~stops[:-1]).nonzero() + 2
        result = source.clone()
        order = torch.randperm(ends.size(0))
        index = 1
        for i in order:
            sentence = source[(ends[i - 1] if i > 0 else 1) : ends[i]]
            result[index : index + sentence.size(0)] = sentence
            index += sentence.size(0)
        return result

    def _infill(self, source: torch.Tensor) -> torch.Tensor:
        starts = self.word_start[source].clone()
        starts[0], starts[-1] = 0, 0
        budget = math.ceil(starts.float().sum() * 0.3)
        lengths = self.spans.sample((budget,))
        while (total := torch.cumsum(lengths, 0))[-1] < budget:
            lengths = torch.cat([lengths, self.spans.sample((budget,))])
        last = 0
        while total[last] < budget:
            last += 1
        lengths[last] = budget - (0 if last == 0 else total[last - 1])
        lengths = lengths[: last + 1]
        inserts = int((lengths == 0).sum())
        lengths = lengths[lengths > 0]
        places = starts.nonzero()
        indices = places[torch.randperm(places.size(0))[: lengths.size(0)]].squeeze(1)
        keep = torch.ones(source.size(0), dtype=torch.bool)
        starts[-1] = 255
        source[indices] = VOCABULARY.mask
        lengths = lengths - 1
        while indices.size(0) > 0:
            lengths = lengths - starts[indices + 1].long()
            going = lengths >= 0
            indices, lengths = indices[going] + 1, lengths[going]
            keep[indices] = 0
        source = source[keep]
        if inserts:
            where = torch.randperm(source.size(0) + inserts - 2)[:inserts] + 1
            noise = torch.zeros(source.size(0) + inserts, dtype=torch.bool)
            noise[where] = 1
            result = torch.full((source.size(0) + inserts,), VOCABULARY.mask)
            result[~noise] = source
            source = result
        return source


def collate(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Padded batches: inputs, targets, and the targets shifted for the decoder."""
    sides = []
    for side in (0, 1):
        longest = max(len(s[side]) for s in samples)
        table = torch.zeros(len(samples), longest, dtype=torch.long)
        for row, sample in zip(table, samples, strict=True):
            row[: len(sample[side])] = sample[side]
        sides.append(table)
    return {"inputs": sides[0], "targets": sides[1], "decoder_inputs": torch.roll(sides[1], 1, 1)}


def documents(count: int, length: int) -> TokenDocuments:
    """Random documents of equal length: a word begins at 70% of the tokens, a sentence at 4%."""
    generator = np.random.default_rng(0)
    ids = generator.integers(11, 31_000, (count, length)).astype(np.uint16)
    marks = (ids % 10 < 7) + 2 * (np.roll(ids, 1, 1) % 25 == 0)
    return TokenDocuments(
        ids.reshape(-1), np.arange(count + 1) * length, flags=marks.astype(np.uint8).reshape(-1),
        boundaries=("words", "sentences"),
    )  # fmt: skip


def contenders(rows: int) -> dict[str, tuple[Callable[[int], int], str | None]]:
    """Name: (a function of the round that makes a batch and says how many raw tokens, whose rival it is)."""
    full = documents(512, RAW)
    table = np.asarray(full.tokens).astype(np.int32).reshape(512, RAW)
    lists = [{"input_ids": row.tolist()} for row in table]
    torch_rows = [torch.from_numpy(np.concatenate([[2], row, [1]]).astype(np.int64)) for row in table]
    ids = torch.arange(VOCABULARY.size)
    fairseq = FairseqDenoising(torch_rows, (ids % 10 < 7).to(torch.uint8), ids % 25 == 0)
    flax = FlaxT5Collator()
    blocks = 512 // rows

    def flax_batch(step: int) -> int:
        flax(lists[step % blocks * rows : (step % blocks + 1) * rows])
        return rows * RAW

    def fairseq_batch(step: int) -> int:
        collate([fairseq[i] for i in range(step % blocks * rows, (step % blocks + 1) * rows)])
        return rows * RAW

    def ours(kind: str, family: str) -> Callable[[int], int]:
        loader = Loader(full, make(ObjectiveSpec(kind=kind), family, VOCABULARY), batch_size=rows, length=512)
        plan = loader._plan(0)
        raw = [sum(int(plan.pieces.length[p]) for r in b for p in plan.rows[int(r)]) for b in plan.batches]
        steps = loader.steps(0)

        def batch(step: int) -> int:
            loader.batch(0, step % steps)
            return raw[step % steps]

        return batch

    t5, bart = "transformers' Flax T5 collator", "fairseq's BART data set"
    return {
        t5: (flax_batch, None),
        "span_corruption, encoder_decoder": (ours("span_corruption", "encoder_decoder"), t5),
        "span_corruption, prefix": (ours("span_corruption", "prefix"), t5),
        "ul2, encoder_decoder": (ours("ul2", "encoder_decoder"), t5),
        bart: (fairseq_batch, None),
        "bart, encoder_decoder": (ours("bart", "encoder_decoder"), bart),
        "glm, prefix": (ours("glm", "prefix"), None),
        "mlm, encoder": (ours("mlm", "encoder"), None),
        "prefix_lm, prefix": (ours("prefix_lm", "prefix"), None),
        "causal_lm, causal": (ours("causal_lm", "causal"), None),
    }


def measure(rows: int = 16, rounds: int = 15) -> dict[str, Any]:
    """Million raw tokens a second of process time, and ratios within rounds: medians with quartiles."""
    torch.set_num_threads(1)
    given = contenders(rows)
    for call, _ in given.values():
        for step in range(3):
            call(step)
    rates: dict[str, list[float]] = {name: [] for name in given}
    for step in range(rounds):
        for name, (call, _) in given.items():
            repeats = 1 if "fairseq" in name else 8
            begin = time.process_time()
            tokens = sum(call(step * repeats + i) for i in range(repeats))
            rates[name].append(tokens / (time.process_time() - begin) / 1e6)
    found: dict[str, Any] = {}
    for name, (_, rival) in given.items():
        low, middle, high = statistics.quantiles(rates[name], n=4)
        found[name] = {"million_tokens_per_second": middle, "low": low, "high": high}
        if rival:
            ratios = [a / b for a, b in zip(rates[name], rates[rival], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found[name]["times"] = {rival: middle, "low": low, "high": high}
    return found


def share_of_a_step(rounds: int = 5, only: tuple[str, ...] = FAMILIES, *, compiled: bool = True) -> dict[str, Any]:
    """What making a batch of 16 x 128 costs, as a share of a training step of 1.3M parameters on it.

    For every objective and family. The smallest model of the suite: larger ones take longer over the same batch.
    """
    from assay.nn import build
    from assay.nn.batch import to_tensors
    from assay.nn.compiling import compile_blocks
    from assay.nn.loss import loss_sum
    from assay.objectives import REGISTRY, families
    from assay.spec.model import ModelSpec
    from assay.spec.training import OptimizerSpec
    from assay.training.optimizer import adamw

    texts, found = documents(512, 300), {}
    for family in only:
        spec = ModelSpec.from_dict(
            {
                "family": family, "vocab_size": VOCABULARY.size, "width": 128, "layers": 6, "context": 128,
                "attention": {"heads": 4}, "feedforward": {"width": 344}, "norm": {"kind": "rmsnorm"},
            }
        )  # fmt: skip
        model = build(spec).train()
        optimizer = adamw(model, OptimizerSpec(learning_rate=1e-4))
        if compiled:
            compile_blocks(model)
        for kind in REGISTRY:
            if family not in families(kind):
                continue
            loader = Loader(
                texts, make(ObjectiveSpec(kind=kind), family, VOCABULARY, axes=1), batch_size=16, length=128
            )
            steps, seen = loader.steps(0), 0
            making: list[float] = []
            training: list[float] = []
            for _ in range(1 + rounds):
                begin = time.process_time()
                group = [loader.batch(0, (seen + i) % steps) for i in range(32)]  # as many as are made at once
                making.append((time.process_time() - begin) / 32)
                seen += 32
                begin = time.process_time()
                loss_sum(model, to_tensors(group[0])).total.backward()
                optimizer.step()
                optimizer.zero_grad()
                training.append(time.process_time() - begin)
            ratios = [a / b for a, b in zip(making[1:], training[1:], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found[f"{kind.value}, {family}"] = {
                "share": middle, "low": low, "high": high, "batch_seconds": statistics.median(making[1:]),
                "step_seconds": statistics.median(training[1:]),
            }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--no-keep", action="store_true", help="leave glibc's memory settings alone")
    parser.add_argument("--step", action="store_true", help="also: the share of a training step")
    args = parser.parse_args()
    if not args.no_keep:
        keep_memory()
    found = measure(args.rows, args.rounds)
    for name, row in found.items():
        rate = f"{row['million_tokens_per_second']:7.2f} M tokens/s ({row['low']:.2f} - {row['high']:.2f})"
        times = ""
        if "times" in row:
            (rival, value), (_, low), (_, high) = row["times"].items()
            times = f"  {value:.1f} [{low:.1f} {high:.1f}] x {rival}"
        print(f"{name:36} {rate}{times}")
    shares = share_of_a_step() if args.step else {}
    for name, row in shares.items():
        print(
            f"{name:36} batch {1e6 * row['batch_seconds']:6.0f} us, step {1e3 * row['step_seconds']:5.0f} ms: "
            f"{100 * row['share']:.3f}% [{100 * row['low']:.3f} {100 * row['high']:.3f}]"
        )
    if args.out:
        facts = {"numpy": np.__version__, "torch": torch.__version__, "python": platform.python_version()}
        args.out.write_text(
            json.dumps({"rows": args.rows, "versions": facts, "results": found, "share_of_a_step": shares}, indent=1)
        )


if __name__ == "__main__":
    main()
