"""SmolLM2 through assay's adapter to lm-evaluation-harness, held to the harness's own adapter on transformers."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch

from assay.evaluation.harness import available, harness_model
from assay.generation.model import Model

__all__ = ["harness_agrees"]

QUESTIONS = {
    "The capital of France is": (" Paris", " London", " Rome", " a river"),
    "Water boils at a temperature of": (" 100 degrees Celsius.", " 20 degrees.", " minus one", " the moon"),
    "Question: What is 7 plus 5?\nAnswer:": (" 12", " 13", " 75", " twelve of them"),
    "def add(a, b):\n    return": (" a + b", " a - b", " None", " b"),
    "The opposite of hot is": (" cold", " warm", " hotter", " Tuesday"),
    "She opened the door and": (" walked in.", " flew.", " the", "\n\nwas never seen again"),
    "Einstein published the theory of": (" relativity", " evolution", " general relativity in 1915.", " soup"),
    "A triangle has": (" three sides", " four sides", " 3", " none"),
    "Les chats dorment sur le": (" canapé", " toit", " plafond", " 日本"),
    "1, 1, 2, 3, 5, 8,": (" 13", " 14", " 11", " 13, 21, 34"),
    "The quick brown fox jumps over the lazy": (" dog.", " cat.", " fox", " quick"),
    "": ("The", " of", "Once upon a time, there was a king.", "x"),
    "A very long story. " * 40 + "And in the end they": (" lived happily ever after.", " died.", " were", " ,"),
}
TEXTS = (
    "A transformer reads its input as tokens. Every token looks at the others through attention.",
    "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about a little.",
    "short",
    "The norm keeps the numbers in range, and positions say which token came first. " * 12,
    "import numpy as np\n\ndef mean(x):\n    return np.asarray(x).mean()\n",
    "Zürich, 東京 and São Paulo are cities; π is about 3.14159.",
)
PROMPTS = ("The capital of France is", "Once upon a time", "def fibonacci(n):", "Water is made of", "1, 2, 3, 4,")
WINDOW = 256
"""Tokens of a window: one text is longer, so that it is cut in both."""
CLOSE, WHOLE = 1e-3, 1e-2
"""Largest differences in nats: of an answer's log-likelihood, and of a whole text's, a sum over hundreds of tokens.
Both sides compute in float32."""


def harness_agrees(model: Model, reference: Any) -> bool:
    """Whether both adapters say the same of every request; prints the largest differences.

    Args:
        model: SmolLM2 as `assay.load` gives it.
        reference: transformers' model with the same weights.
    """
    if not available():
        print("  lm-evaluation-harness: not installed, so its adapter was not held to transformers' (assay[eval])")
        return True
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedTokenizerFast

    says = model.tokenizer.specials
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=model.tokenizer.engine.inner, bos_token=says["bos_token"], eos_token=says["eos_token"],
        pad_token=says["eos_token"],
    )  # fmt: skip
    theirs = HFLM(pretrained=reference, tokenizer=tokens, batch_size=8, max_length=WINDOW)
    mine = harness_model(model, batch_size=8, length=WINDOW)
    pairs = [(question, answer) for question, answers in QUESTIONS.items() for answer in answers]
    chosen, wanted = (adapter.loglikelihood(_requests("loglikelihood", pairs)) for adapter in (mine, theirs))
    gaps = [abs(a - b) for (a, _), (b, _) in zip(chosen, wanted, strict=True)]
    likeliest = sum(x != y for (_, x), (_, y) in zip(chosen, wanted, strict=True))
    whole = [
        adapter.loglikelihood_rolling(_requests("loglikelihood_rolling", [(text,) for text in TEXTS]))
        for adapter in (mine, theirs)
    ]
    rolled = [abs(a - b) for a, b in zip(*whole, strict=True)]
    how = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False}
    said = [
        adapter.generate_until(_requests("generate_until", list(product(PROMPTS, [how])))) for adapter in (mine, theirs)
    ]
    same = sum(a == b for a, b in zip(*said, strict=True))
    print(
        f"  lm-evaluation-harness, assay's adapter against its own on transformers:\n"
        f"    {len(gaps)} log-likelihoods differ by at most {max(gaps):.1e} nats, {likeliest} in what is likeliest\n"
        f"    {len(rolled)} rolling log-likelihoods by at most {max(rolled):.1e} of up to {-min(whole[1]):.0f}\n"
        f"    {same} of {len(PROMPTS)} generated texts are the same"
    )
    return max(gaps) < CLOSE and max(rolled) < WHOLE and not likeliest and same == len(PROMPTS)


def _requests(kind: str, arguments: list[Any]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=given, idx=number)  # type: ignore[arg-type]
        for number, given in enumerate(arguments)
    ]


if __name__ == "__main__":
    import sys
    from pathlib import Path

    from real import GGUF, reference_smollm

    import assay

    path = Path(sys.argv[1] if len(sys.argv) > 1 else "build/real") / GGUF
    with torch.no_grad():
        sys.exit(not harness_agrees(assay.load(path), reference_smollm(path)))
