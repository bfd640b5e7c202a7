"""`assay probe stability`: the instruments on many models and seeds, before training and, where asked for, after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import UserError
from assay.runs import provenance
from assay.spec.model import ModelSpec
from assay.spec.study import RunSpec, StudySpec, Value

if TYPE_CHECKING:
    import torch

    from assay.data.batch import Batch
    from assay.data.loader import Loader
    from assay.nn.transformer import Transformer

__all__ = ["SCHEMA", "Settings", "Subject", "measure", "stability_study", "subjects"]

SCHEMA = 1
RANDOM = "random"
"""The data that needs no text: ids drawn uniformly."""


@dataclass(frozen=True)
class Settings:
    """How the instruments are used; all of it goes into the results."""

    data: str = "stdlib"
    """Text, or `random`: ids drawn uniformly from the vocabulary."""
    tokenizer: str = "bpe"
    """bpe or bytes, for descriptions; a checkpoint brings its own."""
    batch_size: int = 8
    """Examples."""
    length: int = 64
    """Tokens of an example."""
    seeds: int = 3
    """Seeds 0, 1, 2 ...: of weights and batches (of batches alone, for a checkpoint)."""
    optimizer: str = "adamw"
    """Of the step whose update is measured, and of training: adamw or sgd."""
    learning_rate: float = 1e-3
    """Of that step, and the peak of training."""
    clip: float = 1.0
    """Largest gradient norm; 0: no clipping."""
    steps: int = 0
    """Training steps before a second measurement; 0: none."""
    warmup: int = 0
    """Steps of linear warmup."""
    sharpness: bool = False
    """Whether the Hessian's largest eigenvalue is measured too."""


@dataclass(frozen=True)
class Subject:
    """One model to measure."""

    name: str
    run: RunSpec
    """Its model, data and objective; the training fields give batch and length."""
    checkpoint: str | None = None
    """The folder whose weights it has; None: fresh weights of each seed."""
    labels: dict[str, str] = field(default_factory=dict)


def subjects(
    sources: Sequence[str], vary: dict[str, tuple[Value, ...]], settings: Settings, objective: str | None = None
) -> list[Subject]:
    """Every model that sources and axes describe.

    Args:
        sources: presets, spec files, or folders with weights.
        vary: axes of the model; all combinations of each source.
        settings: data, batch and length.
        objective: what the loss is; None: the family's default.

    Raises:
        UserError: a source or combination that cannot be, or axes on a checkpoint.
    """
    found: list[Subject] = []
    for source in sources:
        checkpoint = _holds_weights(source)
        if checkpoint and vary:
            raise UserError(
                f"{source}: a checkpoint is what it is, and --vary or --depth would describe another model.",
                "Leave them out, or give a spec in place of the checkpoint.",
            )
        study = StudySpec.from_dict(
            {
                "model": _spec_of(source, checkpoint).to_dict(),
                "train": {
                    "steps": max(settings.steps, 1),
                    "batch_size": settings.batch_size,
                    "length": settings.length,
                },
                "objective": objective,
                "data": {
                    "source": "stdlib" if settings.data == RANDOM else settings.data,
                    "tokenizer": settings.tokenizer,
                },
                "vary": vary,
                "seeds": 1,
            },
            source="assay probe stability",
        )
        for run in study.runs():
            told = [value for axis, value in run.labels.items() if len(vary[axis]) > 1]
            own = [run.model.name or Path(source).name] if len(sources) > 1 or not told else []
            name = " · ".join([*own, *told])
            found.append(Subject(name, run, source if checkpoint else None, run.labels))
    names = [subject.name for subject in found]
    return [
        replace(s, name=f"{s.name} ({names[: i + 1].count(s.name)})") if names.count(s.name) > 1 else s
        for i, s in enumerate(found)
    ]


def stability_study(
    models: Sequence[Subject],
    settings: Settings,
    *,
    progress: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Measure every model at every seed.

    Args:
        models: which.
        settings: how.
        progress: called with {"name", "seed", "done", "total", "step", "loss"}.
        stop: asked between steps; True ends the study with the measurements that are complete.
        command: recorded as what does this again; None: this process's own.

    Returns:
        Plain data: "settings", "models" (each with "name", "labels", "spec", "seeds": a list of `measure`'s results),
        "rules" in words, "complete", "provenance".
    """
    from assay.probes.spiking import SpikeRule

    asked = stop or (lambda: False)
    rows: list[dict[str, Any]] = []
    total, done = len(models) * settings.seeds, 0
    for subject in models:
        seeds: list[dict[str, Any]] = []
        row = {"name": subject.name, "labels": subject.labels, "checkpoint": subject.checkpoint, "seeds": seeds}
        for seed in range(settings.seeds):
            if asked():
                break
            event = {"name": subject.name, "seed": seed, "done": done, "total": total}
            tell = None if progress is None else (lambda more, event=event: progress({**event, **more}))  # type: ignore[misc]
            result, spec = measure(subject, settings, seed, tell=tell, stop=asked)
            if result is None:
                break
            seeds.append(result)
            row["spec"] = spec.to_dict(full=True)
            done += 1
        if seeds:
            rows.append(row)
    return {
        "schema_version": SCHEMA,
        "kind": "stability",
        "settings": asdict(settings),
        "models": rows,
        "rules": {"spikes": str(SpikeRule()), "failure": FAILURE},
        "complete": done == total,
        "provenance": provenance(command),
    }


LEARNED = 0.05
"""Nats under the unigram model from which on a run has learned something."""
FAILURE = (
    "a run failed where a loss or gradient was not finite, or where the mean loss of its last tenth is not "
    f"{LEARNED:g} nats under what the unigram frequencies of its text give on the same targets"
)


def measure(
    subject: Subject,
    settings: Settings,
    seed: int,
    *,
    tell: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[dict[str, Any] | None, ModelSpec]:
    """One model at one seed.

    Returns:
        Plain data, None where it was stopped before the end; and the model with its vocabulary set. The data:
        "seed", "at" ("start" and, after training, "end": `probes.Stability` as a dict, each perhaps with "sharpness"),
        "losses" of training, "floors" (what unigram frequencies give on the same targets), "spikes", "failed" (the
        reason, or None), "unigram" (their entropy, nats).
    """
    import torch

    from assay.probes import sharpness, spikes, stability

    with torch.random.fork_rng(devices=[]):
        model, loader = _prepare(subject, settings, seed)
        optimizer = _optimizer(model, settings)
        batch = loader.batch(0, 0)
        unigram, costs = _unigram(loader, model.spec.vocab_size)

        def look() -> dict[str, Any]:
            fresh = _optimizer(model, settings) if not losses else optimizer
            found = asdict(
                stability(model, batch, lambda: _step(model, fresh, batch, settings.learning_rate, settings))
            )
            if settings.sharpness:
                found["sharpness"] = asdict(sharpness(model, batch))
            return found

        losses: list[float] = []
        floors: list[float] = []
        failed: str | None = None
        at = {"start": look()}
        for step in range(settings.steps):
            if stop is not None and stop():
                return None, model.spec
            rate = settings.learning_rate * min(1.0, (step + 1) / settings.warmup if settings.warmup else 1.0)
            now = loader.batch(0, step)
            loss, norm = _step(model, optimizer, now, rate, settings)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                failed = f"the loss or gradient is not finite at step {step + 1}"
                break
            losses.append(loss)
            # A few batches' targets are easier or harder than the text: the comparison is on the same targets.
            floors.append(float((costs[now.targets] * now.weights).sum() / now.weights.sum()))
            if tell is not None:
                tell({"step": step + 1, "steps": settings.steps, "loss": loss})
        if settings.steps and failed is None:
            last = max(len(losses) // 10, 1)
            tail, floor = sum(losses[-last:]) / last, sum(floors[-last:]) / last
            if tail > floor - LEARNED:
                failed = f"the loss ends at {tail:.3f}, unigram frequencies give {floor:.3f} on the same targets"
            at["end"] = look()
    if tell is not None:
        tell({"finished": True})
    return {
        "seed": seed,
        "at": at,
        "losses": losses,
        "floors": floors,
        "spikes": [asdict(spike) for spike in spikes(losses)],
        "failed": failed,
        "unigram": unigram,
        "batch_hash": _hash(batch),
    }, model.spec


def _prepare(subject: Subject, settings: Settings, seed: int) -> tuple[Transformer, Loader]:
    from assay.nn import build
    from assay.training.setup import make_loader
    from assay.training.text import load_text, resolve

    run = subject.run.model_copy(update={"seed": seed})
    if subject.checkpoint is not None:
        from assay.published.load import load

        held = load(subject.checkpoint)
        return held.transformer, _loader(held.spec, run, _ids(held.spec, held.tokenizer, settings, seed), seed, subject)
    if settings.data == RANDOM:
        return build(run.model, seed=seed), _loader(
            run.model, run, _ids(run.model, None, settings, seed), seed, subject
        )
    run = resolve(run)
    return build(run.model, seed=seed), make_loader(run, load_text(run.data))


def _ids(spec: ModelSpec, tokenizer: Any, settings: Settings, seed: int) -> list[Any]:
    """Documents of token ids: the text's by the checkpoint's own tokenizer, or random ones."""
    import numpy as np

    if settings.data == RANDOM:
        draw = np.random.default_rng(seed)
        rows = settings.batch_size * max(settings.steps, 1)
        # An encoder-decoder's example takes more tokens than its encoder's row.
        return [draw.integers(0, spec.vocab_size, 2 * settings.length).astype(np.int32) for _ in range(rows)]
    if tokenizer is None:
        raise UserError(
            "this checkpoint brings no tokenizer that assay holds, so no text can be read with it.",
            "Give --data random: ids drawn uniformly.",
        )
    from assay.data.sources import read
    from assay.generation.text import encode

    wanted, found, have = settings.batch_size * settings.length * max(settings.steps, 1) * 2, [], 0
    for document in read(settings.data).documents:
        ids = np.asarray(encode(tokenizer, document[: 64 * wanted]), dtype=np.int32)
        found.append(ids)
        have += len(ids)
        if have >= wanted:
            break
    return found


def _loader(spec: ModelSpec, run: RunSpec, documents: list[Any], seed: int, subject: Subject) -> Loader:
    from assay.data.loader import Loader
    from assay.data.shards import TokenDocuments
    from assay.objectives.base import Vocabulary
    from assay.objectives.registry import make

    tokens = spec.tokens
    vocabulary = Vocabulary(
        size=spec.vocab_size,
        pad=tokens.pad or 0,
        bos=tokens.bos if tokens.bos is not None else 0,
        eos=tokens.eos[0] if tokens.eos else 0,
        decoder_start=tokens.decoder_start if tokens.decoder_start is not None else tokens.pad or 0,
        mask=tokens.mask if tokens.mask is not None else 0,
    )
    objective = make(run.objective, spec.family.value, vocabulary, axes=spec.positions.axes)
    train = run.train
    return Loader(
        TokenDocuments.from_arrays(documents), objective, batch_size=train.batch_size, length=train.length, seed=seed
    )


def _optimizer(model: Transformer, settings: Settings) -> torch.optim.Optimizer:
    import torch

    from assay.spec.training import OptimizerSpec
    from assay.training.optimizer import adamw

    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=settings.learning_rate)
    if settings.optimizer != "adamw":
        raise UserError(f"optimizer = {settings.optimizer}: not known.", "Use adamw or sgd.")
    return adamw(model, OptimizerSpec(learning_rate=settings.learning_rate))


def _step(
    model: Transformer, optimizer: torch.optim.Optimizer, batch: Batch, rate: float, settings: Settings
) -> tuple[float, float]:
    from assay.training.step import take_step

    found = take_step(
        model, optimizer, batch, weight=float(batch.weights.sum()), parts=1, learning_rate=rate,
        most=settings.clip, z_loss=0.0, dtype="float32",
    )  # fmt: skip
    return found.loss, found.grad_norm


def _unigram(loader: Loader, size: int) -> tuple[float, Any]:
    """What a model without context reaches: the entropy of the training tokens' frequencies, and every id's -log.

    Ids that the text lacks (special tokens of an objective) count as seen once.
    """
    import numpy as np

    counts = np.bincount(np.asarray(loader.documents.tokens), minlength=size).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum()), -np.log(np.maximum(counts, 1) / counts.sum())


def _hash(batch: Batch) -> str:
    from assay.runs import content_hash

    return content_hash(batch.input_ids)


def _holds_weights(source: str) -> bool:
    """Whether a source is a folder with weights, rather than a description."""
    path = Path(source).expanduser()
    if not path.is_dir():
        return False
    return any(path.glob("checkpoints/step-*")) or any(
        next(path.glob(pattern), None) for pattern in ("*.safetensors", "*.bin", "*.pth")
    )


def _spec_of(source: str, checkpoint: bool) -> ModelSpec:
    from assay.published.source import resolve

    if checkpoint:
        from assay.published.describe import spec_of

        return spec_of(source)
    return resolve(source)
