"""`assay probe rank`: many models on one text, laid over each other; descriptions also without their parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import UserError
from assay.runs import provenance
from assay.spec.axes import Family
from assay.spec.model import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from assay.generation.model import Model

__all__ = ["FULL", "RankSettings", "Subject", "rank_study", "subjects"]

SCHEMA = 1
FULL = "whole"
"""The label of what nothing was taken out of."""


@dataclass(frozen=True)
class RankSettings:
    """How models are measured."""

    text: str | None = None
    """Words themselves, or a file or folder; None: the running Python's own prose."""
    length: int = 128
    """Tokens of a row, at most."""
    rows: int = 4
    """Rows, at most."""
    seeds: int = 1
    """Of the weights of descriptions: 0, 1, 2 ..."""
    prefix: float = 0.5
    """Share of a row that a prefix decoder's rows all see."""
    dtype: str = "float32"
    """Of weights and patterns; float64 resolves condition numbers up to 1e13, float32 up to 1e4."""
    attention: bool = True
    """Measure attention matrices too."""


@dataclass(frozen=True)
class Subject:
    """One model to measure."""

    name: str
    spec: ModelSpec | None
    """A description, measured with fresh weights; None: a checkpoint."""
    source: str
    without: tuple[str, ...] = ()


def subjects(
    sources: Sequence[str], vary: dict[str, tuple[Any, ...]] | None = None, without: Sequence[tuple[str, ...]] = ()
) -> list[Subject]:
    """Every model that sources, axes and ablations describe.

    Args:
        sources: presets, spec files, or folders with weights.
        vary: axes of the model; all combinations of each description.
        without: ablations, each beside the whole model.

    Raises:
        UserError: a source that is none, or axes and ablations of a checkpoint.
    """
    from assay.published.source import resolve

    found: list[Subject] = []
    for source in sources:
        if _holds_weights(source):
            if vary or without:
                raise UserError(
                    f"{source}: a checkpoint is what it is; --vary and --without describe other models.",
                    "Leave them out, or give a description in place of the checkpoint.",
                )
            found.append(Subject(Path(source).name, None, source))
            continue
        spec, axes = resolve(source), dict(vary or {})
        for values in product(*axes.values()):
            changed = spec.with_(**dict(zip(axes, values, strict=True)))
            told = [str(v) for axis, v in zip(axes, values, strict=True) if len(axes[axis]) > 1]
            own = [spec.name or Path(source).stem] if len(sources) > 1 or not told else []
            for parts in ((), *without):
                words = [*own, *told, *([f"no {', no '.join(parts)}"] if parts else [])]
                found.append(Subject(" · ".join(words), changed, source, parts))
    return found


def rank_study(
    models: Sequence[Subject],
    settings: RankSettings,
    *,
    progress: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Measure every model at every seed.

    Returns:
        Plain data: "settings", "models" (each "name", "without", "spec", "seeds": [{"seed", "heads", "layers"}]),
        "complete", "provenance".
    """
    rows: list[dict[str, Any]] = []
    complete = True
    for subject in models:
        seeds: list[dict[str, Any]] = []
        row: dict[str, Any] = {"name": subject.name, "without": list(subject.without), "seeds": seeds}
        for seed in range(settings.seeds if subject.spec is not None else 1):
            if stop is not None and stop():
                complete = False
                break
            found, spec, tokens = _measure(subject, settings, seed)
            row |= {"spec": spec.to_dict(full=True), "tokens": tokens}
            seeds.append({"seed": seed, **found})
            if progress is not None:
                progress({"name": subject.name, "seed": seed})
        if seeds:
            rows.append(row)
    return {
        "schema_version": SCHEMA,
        "kind": "rank",
        "settings": asdict(settings),
        "models": rows,
        "complete": complete,
        "provenance": provenance(command),
    }


def _measure(subject: Subject, settings: RankSettings, seed: int) -> tuple[dict[str, Any], ModelSpec, list[int]]:
    import torch

    from assay.probes.rank import ablated, rank

    tokenizer: Any
    if subject.spec is None:
        from assay.published.load import load

        held: Model = load(subject.source)
        net, tokenizer = held.transformer.to(getattr(torch, settings.dtype)), held.tokenizer
        if tokenizer is None:
            raise UserError(f"{subject.source}: brings no tokenizer that assay holds, so no text can be read with it.")
    else:
        from assay.data.tokenizer import ByteTokenizer

        tokenizer = ByteTokenizer()
        # Fresh weights know no tokens: bytes will do, and a prompt's own rules have none to act on.
        spec = subject.spec.with_(vocab_size=tokenizer.vocabulary.size, tokens={}, prompt={})
        net = ablated(spec, subject.without, seed=seed, dtype=settings.dtype)
    spec = net.spec
    two = spec.family is Family.encoder_decoder
    ids = _ids(tokenizer, settings, parts=2 if two else 1, context=spec.context)
    prefix = round(settings.prefix * ids.shape[-1]) if spec.family is Family.prefix else None
    report = rank(
        net, ids[0], decoder_input_ids=ids[1] if two else None, prefix_length=prefix, attention=settings.attention,
        without=subject.without,
    )  # fmt: skip
    return (
        {"heads": [asdict(h) for h in report.heads], "layers": [asdict(x) for x in report.layers]},
        spec,
        list(ids.shape[1:]),
    )


def _ids(tokenizer: Any, settings: RankSettings, *, parts: int, context: int) -> Tensor:
    """[parts, rows, length] of consecutive tokens; as many as the text gives."""
    import torch

    from assay.generation.text import encode

    length = min(settings.length, context)
    wanted = parts * settings.rows * length
    ids: list[int] = []
    for document in _documents(settings.text):
        # Eight characters a token are plenty.
        ids += encode(tokenizer, document[: 8 * (wanted - len(ids)) + 64])
        if len(ids) >= wanted:
            break
    length = min(length, len(ids) // parts)
    if length < 2:
        raise UserError(f"--text: gives {len(ids)} tokens, and {2 * parts} are the least.", "Give a longer text.")
    rows = min(len(ids) // (parts * length), settings.rows)
    return torch.tensor(ids[: parts * rows * length]).view(parts, rows, length)


def _documents(text: str | None) -> Sequence[str]:
    from assay.data.sources import read

    if text is None:
        return read("stdlib").documents
    if len(text) < 4096 and "\n" not in text and Path(text).expanduser().exists():
        return read(text).documents
    return [text]


def _holds_weights(source: str) -> bool:
    path = Path(source).expanduser()
    if path.suffix.lower() == ".gguf" and path.is_file():
        return True
    patterns = ("checkpoints/step-*", "*.safetensors", "*.bin", "*.pth")
    return path.is_dir() and any(next(path.glob(pattern), None) for pattern in patterns)
