"""`python -m assay.objectives` prints `docs/objectives.md`: which objective goes with which family, from the code."""

from __future__ import annotations

from assay.objectives.registry import FAMILIES, REGISTRY
from assay.objectives.ul2 import MIXTURES
from assay.spec.objective import READERS, ObjectiveSpec

__all__ = ["page"]

_HEAD = """# Objectives

Made from the code by `python -m assay.objectives > docs/objectives.md`; a test holds this page to it.

An objective is a pure function of a text and a key (seed, epoch, piece). Several texts are packed in a row, each with
its own mask and positions.

## Which objective goes with which family

"""

_RECIPE = """
## U-PaLM as a recipe

Continue a causal decoder for a few steps (U-PaLM: 0.16% of the compute) with half S, a quarter R and a quarter X
denoising. The causal decoder stays causal: mode token, damaged text and targets stand in one row. The rate warms up
anew, to a small peak.

    assay train tiny --out runs/first --steps 300
    assay train --init runs/first --objective ul2 --set objective.mixture=upalm --steps 30 --lr 3e-4 --out runs/upalm

`--init` begins from the weights, and with the tokenizer, of a finished run, of a model that assay saved, or of a
published one; in Python `assay.train(None, data, init=..., objective={"kind": "ul2", "mixture": "upalm"})`, in a
description `RunSpec.init`. What it began from, a run's hash or one over the weights, is part of the new run's hash. A
SOURCE beside `--init` may change what has no weights, such as the mask (`--set family=prefix`: a language model becomes
a prefix decoder). Weights of another shape are refused, and so are objectives whose tokens the vocabulary lacks: runs
of assay reserve mode tokens, sentinels and blanks from the start, published vocabularies mostly have none. A published
tokenizer has to be byte-level, as GPT-2's and LLaMA 3's are.

## What is not here

- GLM-130B's 5% of multitask instruction data: labelled tasks are tuning, not an objective on text.
- fairseq's overlapping spans: here BART's spans never overlap, so exactly ceil(share n) tokens are covered.
- A mean span of 64 in short texts (`UL2.notes(length)` says what is left): 256 tokens at 15% have one span of 38.
"""


def page() -> str:
    """The whole page in Markdown."""
    lines = ["| objective | " + " | ".join(FAMILIES) + " | source |", "| --- " * (len(FAMILIES) + 2) + "|"]
    for kind, row in REGISTRY.items():
        cells = [row.forms.get(family) or f"no: {row.refused[family]}" for family in FAMILIES]
        lines.append(f"| `{kind.value}` | " + " | ".join(cells) + f" | {row.source} |")
    lines += ["", "## Settings", "", "| setting | read by | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in ObjectiveSpec.model_fields.items():
        if name != "kind":
            readers = ", ".join(f"`{reader}`" for reader in READERS[name])
            default = getattr(field.default, "value", field.default)
            lines.append(f"| `{name}` | {readers} | {default} | {field.description} |")
    lines += ["", "## Mixtures of denoisers", "", "| mixture | mode token | density | mean span | share |"]
    lines.append("| --- " * 5 + "|")
    for name, denoisers in MIXTURES.items():
        for d in denoisers:
            span = "the text's end" if d.mean_span is None else f"{d.mean_span:g}"
            lines.append(f"| `{name}` | {d.mode} | {d.density:g} | {span} | {d.share:.3g} |")
    return _HEAD + "\n".join(lines) + "\n" + _RECIPE


if __name__ == "__main__":
    print(page(), end="")
