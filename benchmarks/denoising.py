"""Denoising batches in the suite's form: `benchmarks.objectives`' contenders and transformers' own MLM collator.

python -m benchmarks.denoising [--seconds 15] [--long] [--json FILE]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import objectives  # first: it sets the number of threads before torch is loaded
from benchmarks.command import command_line
from benchmarks.result import Check, Result, Row, Spread, pairwise
from benchmarks.rows import cannot

__all__ = ["mlm_collator", "suite"]

GOALS = {
    "span_corruption, encoder_decoder": 5.0,
    "span_corruption, prefix": 5.0,
    "ul2, encoder_decoder": 5.0,
    "bart, encoder_decoder": 10.0,
}
MLM = "transformers' MLM collator"


def mlm_collator(rows: int) -> Callable[[int], int]:
    """DataCollatorForLanguageModeling over lists of 512 ids, as `datasets` hands them out."""
    import numpy as np
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    words = {str(i): i for i in range(objectives.VOCABULARY.size)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")), mask_token="5", pad_token="0", unk_token="0"
    )
    collate = DataCollatorForLanguageModeling(tokenizer)
    table = np.random.default_rng(0).integers(11, 31_000, (512, 512)).tolist()
    lists = [{"input_ids": row} for row in table]
    blocks = len(lists) // rows

    def batch(step: int) -> int:
        collate(lists[step % blocks * rows : (step % blocks + 1) * rows])
        return rows * 512

    return batch


def measure(seconds: float, rows: int) -> tuple[dict[str, list[float]], dict[str, str | None], dict[str, str]]:
    """Million raw tokens a second of process time, interleaved; whose rival each is; what does not run."""
    given, missing = dict(objectives.contenders(rows)), {}
    try:
        given[MLM] = (mlm_collator(rows), None)
        given["mlm, encoder"] = (given["mlm, encoder"][0], MLM)
        given[MLM][0](0)
    except Exception as error:
        given.pop(MLM, None)
        given["mlm, encoder"] = (given["mlm, encoder"][0], None)
        missing[MLM] = f"{type(error).__name__}: {error}"
    for call, _ in given.values():
        for step in range(2):
            call(step)
    rates: dict[str, list[float]] = {name: [] for name in given}
    end, turn = time.perf_counter() + seconds, 0
    while turn < 5 or time.perf_counter() < end:
        for name, (call, _) in given.items():
            repeats = 1 if "fairseq" in name else 8
            begin = time.process_time()
            tokens = sum(call(turn * repeats + i) for i in range(repeats))
            rates[name].append(tokens / (time.process_time() - begin) / 1e6)
        turn += 1
    return rates, {name: rival for name, (_, rival) in given.items()}, missing


def suite(seconds: float, long: bool, *, rows: int = 16, steps: bool = True) -> list[Result]:
    """The row of the suite: rates against collators, and a batch's share of a step.

    The step is an encoder-decoder's, eager; long: every family's, compiled, which takes minutes.
    """
    import torch

    torch.set_num_threads(1)
    objectives.keep_memory()
    rates, rivals, missing = measure(seconds, rows)
    out = Result(
        "denoising", "Making denoising batches", "parts",
        f"{rows} rows of 512, one thread, processor time; assay also fetches, packs and masks",
        "million raw tokens a second",
        more_is_better=True, rounds=len(next(iter(rates.values()))),
    )  # fmt: skip
    peers = {rival for rival in rivals.values() if rival}
    for name, values in rates.items():
        kind = "peer" if name in peers else "assay"
        rival = rivals[name]
        note = f"{statistics.median(values) / statistics.median(rates[rival]):.1f} times {rival}" if rival else ""
        ratio = None
        if kind == "peer":  # against the slowest objective that stands against this one
            against = min((n for n, r in rivals.items() if r == name), key=lambda n: statistics.median(rates[n]))
            ratio, note = pairwise(values, rates[against]), f"against {against}, the slowest that stands against it"
        out.rows.append(Row(name, kind, Spread.of(values), ratio, None, note=note))
    out.rows += cannot(missing | {"lm-eval's Collator": "it orders requests by length, and makes no training batches"})
    for name, goal in GOALS.items():
        rival = rivals[name]
        if rival:
            out.aim(f"times {rival}: {name}", goal, pairwise(rates[rival], rates[name]))
    out.checks = [Check("examples are equal to those made one by one, of a fixed seed", float(not_equal()), 0.0)]
    if steps:
        only = objectives.FAMILIES if long else ("encoder_decoder",)
        shares = objectives.share_of_a_step(4 if long else 2, only, compiled=long)
        dearest = max(shares, key=lambda name: shares[name]["share"])
        most: dict[str, Any] = shares[dearest]
        worst = Spread(most["share"], most["low"], most["high"])
        how = "compiled" if long else "eager"
        out.aim(f"of a step of 1.3M parameters, {how}, the dearest batch ({dearest})", 0.02, worst, at_most=True)
    return [out]


def not_equal() -> int:
    """How many of 64 examples differ when their texts are given one by one: batches must not change them."""
    import numpy as np

    from assay.objectives import Texts, make
    from assay.spec.objective import ObjectiveSpec

    objective = make(ObjectiveSpec(kind="span_corruption"), "encoder_decoder", objectives.VOCABULARY)  # type: ignore[arg-type]
    texts = [np.random.default_rng(i).integers(11, 31_000, 100 + i) for i in range(64)]

    def made(numbers: list[int]) -> Any:
        chosen = [texts[i] for i in numbers]
        lengths = np.array([len(text) for text in chosen])
        whole = np.ones(len(chosen), dtype=bool)
        return objective.examples(Texts(np.concatenate(chosen), lengths, np.array(numbers), whole, seed=0))

    together = made(list(range(64)))
    apart = [made([i])[0] for i in range(64)]
    pairs = [(together[i], apart[i]) for i in range(64)]
    return sum(not (np.array_equal(a.inputs, b.inputs) and np.array_equal(a.targets, b.targets)) for a, b in pairs)


if __name__ == "__main__":
    command_line(__doc__ or "", suite, seconds=15.0)
