"""Decoding more than one row, float32, CPU: batch 16 of a decoder, an encoder-decoder and a prefix decoder; 4 beams.

    python -m benchmarks.batch_decode [--seconds 40] [--json FILE]
    python -m benchmarks.batch_decode --busy [--cases batch-16,beams-4] [--rounds 5]

The decoders have SmolLM2-135M's shape, the encoder-decoder is T5-like (8 + 8 layers, 640 wide, 113M). A call makes 1
or 17 tokens after a prompt of 16 (64 in the encoder), greedily or with 4 beams; the difference is what one more token
of every row costs, as in `decode`, and whole calls are told too. transformers has no decoder with a visible prefix:
there its LLaMA reads the prompt under a dense mask and goes on one token at a time, in a loop that costs less than its
own `generate`. llama.cpp, through its server's continuous batching, decodes the rows of the decoders. The same tokens
come out of all before anything is timed.

`--busy` is for machines that others use too: one thread, its own processor time, and besides whole calls what one
more token of every row costs, from calls of two lengths, so that the prompt cancels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise as neighbours
from typing import Any

import torch
from torch import Tensor

from assay.generation.build import build
from assay.generation.model import Model
from assay.spec.model import ModelSpec
from benchmarks import llama, measure
from benchmarks.command import command_line
from benchmarks.decode import SHAPES, reference, weight_bytes
from benchmarks.result import Check, Result, pairwise
from benchmarks.rows import cannot, of_times

__all__ = ["CASES", "Case", "suite"]

Way = Callable[[int], Tensor]
PROMPT, CHECKED, GOAL = 16, 8, 3.0


def prompt(rows: int, length: int, vocabulary: int) -> Tensor:
    """Random ids that are no special tokens."""
    return torch.randint(11, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))


def their_generate(other: Any, ids: Tensor, **how: Any) -> Way:
    """Transformers' own search, which may not stop early."""
    every = torch.ones_like(ids)

    def run(new: int) -> Tensor:
        return other.generate(
            ids, attention_mask=every, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0, **how
        )

    return run


def batch(shape: dict[str, Any], rows: int, beams: int = 1) -> tuple[Model, Way, Way]:
    """A decoder: (model, assay's way, transformers')."""
    model = build(ModelSpec.from_dict(shape))
    ids = prompt(rows, PROMPT, model.spec.vocab_size)

    def ours(new: int) -> Tensor:
        return model.generate(ids, max_new_tokens=new, ignore_eos=True, num_beams=beams)

    return model, ours, their_generate(reference(model), ids, num_beams=beams)


def prefix(shape: dict[str, Any], rows: int) -> tuple[Model, Way, Way]:
    """A decoder whose prompt sees itself whole."""
    from transformers import DynamicCache

    model = build(ModelSpec.from_dict({**shape, "family": "prefix"}))
    other, ids = reference(model), prompt(rows, PROMPT, model.spec.vocab_size)

    def ours(new: int) -> Tensor:
        return model.generate(ids, max_new_tokens=new, ignore_eos=True)

    @torch.inference_mode()
    def theirs(new: int) -> Tensor:
        cache, text = DynamicCache(), ids
        seen = torch.zeros(rows, 1, ids.shape[1], ids.shape[1])  # an added mask: zero is visible
        out = other(input_ids=ids, attention_mask=seen, past_key_values=cache, use_cache=True, logits_to_keep=1)
        for step in range(new):
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            text = torch.cat((text, token), 1)
            if step < new - 1:
                out = other(input_ids=token, past_key_values=cache, use_cache=True)
        return text

    return model, ours, theirs


def encoder_decoder(shape: dict[str, Any], rows: int) -> tuple[Model, Way, Way]:
    """T5 as transformers builds it, opened by assay from its folder."""
    from transformers import T5Config, T5ForConditionalGeneration

    import assay

    small = shape["layers"] < 8
    width, heads, layers, vocabulary = (64, 2, 2, 512) if small else (640, 10, 8, 32_128)
    config = T5Config(
        vocab_size=vocabulary, d_model=width, d_kv=width // heads, d_ff=4 * width, num_layers=layers,
        num_decoder_layers=layers, num_heads=heads, dropout_rate=0.0, pad_token_id=0, eos_token_id=1,
        decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    other = T5ForConditionalGeneration(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        other.save_pretrained(folder)
        model = assay.load(folder)
        net = model.transformer  # weights of their own: the file goes
        net.load_state_dict({name: tensor.clone() for name, tensor in net.state_dict().items()}, assign=True)
    ids = prompt(rows, 4 * PROMPT, vocabulary)

    def ours(new: int) -> Tensor:
        return model.generate(ids, max_new_tokens=new, ignore_eos=True)

    return model, ours, their_generate(other, ids)


NO_BEAMS = "llama.cpp has no beam search: it was taken out of the library in June 2024"
NO_ENCODER = (
    "its server, which is all that xllamacpp has of it, never runs an encoder (llama_encode): it hands every prompt to "
    "the decoder"
)


@dataclass(frozen=True)
class Case:
    """Something to decode."""

    title: str
    make: Callable[[dict[str, Any]], tuple[Model, Way, Way]]
    """(model, assay's way, transformers' way) of a shape."""
    rows: int = 16
    causal: bool = True
    """Whether a token of the prompt sees only what is before it."""
    no_llama: str = ""
    """Why llama.cpp cannot do it."""


CASES = {
    "batch-16": Case("Decoding, batch 16, decoder", lambda shape: batch(shape, 16)),
    "prefix-16": Case("Decoding, batch 16, prefix decoder", lambda shape: prefix(shape, 16), causal=False),
    "encoder-decoder-16": Case(
        "Decoding, batch 16, encoder-decoder", lambda shape: encoder_decoder(shape, 16), no_llama=NO_ENCODER
    ),
    "beams-4": Case("Beam search, 4 beams, decoder", lambda shape: batch(shape, 1, 4), 1, no_llama=NO_BEAMS),
}


def by_llama(case: Case, model: Model, new: int) -> Way:
    """llama.cpp's way, for calls of up to `new` tokens a row."""
    ids = prompt(case.rows, PROMPT, model.spec.vocab_size)
    peer = llama.LlamaCpp(
        model, torch.get_num_threads(), case.rows, context=PROMPT + max(new, CHECKED) + 8, causal=case.causal
    )
    return lambda new: peer.generate(ids, new)


def suite(seconds: float, long: bool, *, shape: dict[str, Any] | None = None, new: int = 17) -> list[Result]:
    """The rows of the suite; `seconds` are shared by the cases. Long: 64 tokens a call."""
    warnings.simplefilter("ignore")
    measure_new = 64 if long else new
    return [one(name, shape or SHAPES["135m"], seconds / len(CASES), measure_new) for name in CASES]


def one(name: str, shape: dict[str, Any], seconds: float, new: int) -> Result:
    """Check and time one case."""
    case = CASES[name]
    model, ours, theirs = case.make(shape)
    parameters = sum(p.numel() for p in model.parameters())
    out = Result(
        f"decode-{name}", f"{case.title}, {parameters / 1e6:.0f}M parameters", "decoding",
        f"{case.rows} row{'s' * (case.rows > 1)} at once, greedy or beams, float32, {torch.get_num_threads()} threads; "
        f"from calls of 1 and of {new} tokens; weights {weight_bytes(model) / 1e6:.0f} MB",
        "ms a token more of every row",
    )  # fmt: skip
    ways, mine = {"assay": ours, "transformers": theirs}, ours(CHECKED)
    missing = {"llama.cpp": case.no_llama} if case.no_llama else {}

    def check(who: str, way: Way) -> int:
        differ = mine != way(CHECKED)
        out.checks.append(Check(f"{who}: the same {CHECKED} tokens of every row", float(differ.float().mean()), 0.0))
        return int(differ.any(1).sum())

    check("transformers", theirs)
    if not missing:
        try:
            way = by_llama(case, model, new)
            if wrong := check("llama.cpp", way):  # what it cannot do right is not timed, and no check of ours failed
                out.checks.pop()
                raise RuntimeError(f"other tokens than assay's and transformers' in {wrong} of {case.rows} rows")
            ways["llama.cpp"] = way
        except Exception as error:  # it is not installed, or not this version: the others are still compared
            missing["llama.cpp"] = f"{type(error).__name__}: {error}"
    calls = {(who, count): (lambda way=way, count=count: way(count)) for who, way in ways.items() for count in (1, new)}
    times = measure.interleave(calls, seconds, 0, 3)
    long = {who: times[who, new] for who in ways}
    token = {
        who: [(a - b) / (new - 1) for a, b in zip(long[who], times[who, 1], strict=True)] for who in ways
    }  # what a call costs besides, the prompt included, cancels
    out.rounds = len(long["assay"])
    out.rows = of_times(token, "assay") + cannot(missing)
    whole = pairwise(long["assay"], long["transformers"])
    out.notes.append(
        f"Whole calls, the prompt of {PROMPT} tokens a row included: {statistics.median(long['assay']):.2f} s, "
        f"{whole.median:.2f} [{whole.low:.2f} {whole.high:.2f}] times transformers."
    )
    out.aim_at("transformers", GOAL)
    return out


def busy(name: str, rounds: int, shape: dict[str, Any] | None = None, new: int = 24) -> dict[str, Any]:
    """One case in processor time: seconds of a call and of one more token, medians, and assay's ratios to it.

    Args:
        name: a case.
        rounds: turns, in which both take calls of 8 and of `new` tokens.
        shape: of the model; None: 135M.
        new: tokens of the longer call, above 8.
    """
    _, ours, theirs = CASES[name].make(shape or SHAPES["135m"])
    ways = {"assay": ours, "transformers": theirs}
    same = torch.equal(ours(8), theirs(8))
    spent: dict[str, list[tuple[float, float]]] = {who: [] for who in ways}
    for turn in range(rounds):
        for who in list(ways)[:: 1 - 2 * (turn % 2)]:
            marks = [time.process_time()]
            for count in (8, new):
                ways[who](count)
                marks.append(time.process_time())
            short, long = (end - begin for begin, end in neighbours(marks))
            spent[who].append((long, (long - short) / (new - 8)))
    call, token = (
        {who: statistics.median(pair[place] for pair in pairs) for who, pairs in spent.items()} for place in (0, 1)
    )
    return {
        "case": name, "same": same, "call": call, "token": token, "spent": spent,
        "call_ratio": call["transformers"] / call["assay"], "token_ratio": token["transformers"] / token["assay"],
    }  # fmt: skip


def main() -> None:
    """Processor time of one thread, a line a case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in args.cases.split(","):
        found = busy(name, args.rounds)
        said = [
            f"{what} {1e3 * found[what]['assay']:.1f} ms, transformers {1e3 * found[what]['transformers']:.1f} ms, "
            f"{found[f'{what}_ratio']:.2f} times"
            for what in ("call", "token")
        ]
        print(f"{name}: same ids {found['same']}; {'; '.join(said)}", flush=True)


if __name__ == "__main__":
    if "--busy" in sys.argv:
        main()
    else:
        command_line(__doc__ or "", suite, seconds=40.0)
