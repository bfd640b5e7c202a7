"""Tuning with a head of its own for a task: a linear layer on the prompt's last hidden state, all weights tuned.

    p(class | prompt) = softmax(W h + b),   h: the last layer's output at the prompt's last token

So classifiers are made of language models where tasks are not put as text (Radford et al. 2018, section 3.2). The form
to compare with is `tuning.tune`, where one model answers every task in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.errors import UserError
from assay.evaluation.pairs import Codec
from assay.evaluation.tasks import Task
from assay.generation.model import Model
from assay.objectives.base import Key
from assay.spec.axes import Family
from assay.training.optimizer import adamw
from assay.training.schedule import factor, warmup_share
from assay.training.tuning import Part
from assay.training.tuning_spec import TuneSpec

__all__ = ["Headed", "tune_head"]


@dataclass(frozen=True, eq=False)
class Headed:
    """A model with a head for one task."""

    net: nn.ModuleDict
    """"model" and "head"."""
    codec: Codec
    labels: tuple[str, ...]
    best_step: int
    best_loss: float
    """Held-out nats an item at that step."""

    @torch.no_grad()
    def accuracy(self, task: Task) -> float:
        """Share of items whose likeliest class is right."""
        right = [logits.argmax(-1) == gold for logits, gold in _logits(self, task, 64)]
        return float(torch.cat(right).double().mean())


def tune_head(model: Model, part: Part, spec: TuneSpec, *, seed: int = 0) -> Headed:
    """Tune a model and a fresh head on one task; both end with the weights of their lowest held-out loss.

    Args:
        model: a decoder with its tokenizer; it is changed in place.
        part: the task, with classes.
        spec: how; `rank` is not read: all weights are tuned.
        seed: of the head's first weights and the order of examples.

    Raises:
        UserError: no classes, or a family of two stacks or that writes nothing.
    """
    if model.spec.family not in (Family.causal, Family.prefix):
        raise UserError(
            f"family = {model.spec.family}: a head reads the last token of a decoder.", "Take causal or prefix."
        )
    labels = part.train.labels
    if not labels:
        raise UserError(f"{part.train.name}: has no classes, and a head tells classes apart.", "Give labels.")
    codec = Codec(model, length=spec.length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(model.spec.width, len(labels)).to(model.device)
    net = nn.ModuleDict({"model": model.transformer, "head": head})
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    optimizer = adamw(net, spec.optimizer)
    warmup = warmup_share(spec.schedule, 1 / spec.steps)
    found = Headed(net, codec, labels, 0, math.inf)
    prompts, gold = _given(found, part.train)
    valid = Task(part.valid.name, part.valid.items[: spec.heldout], labels=labels)
    best: dict[str, Tensor] = {}
    least, at, waited = math.inf, 0, 0
    for step in range(spec.steps):
        net.train()
        chosen = _chosen(len(prompts), spec.batch_size, seed, step)
        logits = _forward(found, [prompts[i] for i in chosen])
        loss = F.cross_entropy(logits, gold[torch.from_numpy(chosen)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if spec.optimizer.clip:
            nn.utils.clip_grad_norm_(net.parameters(), spec.optimizer.clip)
        for group in optimizer.param_groups:
            group["lr"] = spec.optimizer.learning_rate * factor(spec.schedule, (step + 1) / spec.steps, warmup)
        optimizer.step()
        if (step + 1) * spec.evaluations // spec.steps > step * spec.evaluations // spec.steps:
            held = _loss(found, valid)
            waited = 0 if held < least else waited + 1
            if held < least:
                least, at = held, step + 1
                best = {name: p.detach().clone() for name, p in net.named_parameters()}
            if spec.patience and waited >= spec.patience:
                break
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name in best:
                parameter.copy_(best[name])
    net.eval()
    return Headed(net, codec, labels, at, least)


def _chosen(count: int, size: int, seed: int, step: int) -> np.ndarray:
    """Items of a step: epoch by epoch in random order."""
    places = np.arange(step * size, (step + 1) * size)
    orders = {e: Key(seed, 1 + int(e), 0).generator().permutation(count) for e in np.unique(places // count)}
    return np.array([orders[place // count][place % count] for place in places])


def _given(found: Headed, task: Task) -> tuple[list[list[int]], Tensor]:
    """Prompts as tokens, their ends kept where they are too long, and the places of the right classes."""
    prompts = [found.codec.prompt(item.prompt)[-found.codec.length :] for item in task.items]
    gold = torch.tensor([found.labels.index(item.answer) for item in task.items], device=found.codec.model.device)
    return prompts, gold


def _forward(found: Headed, prompts: Sequence[Sequence[int]]) -> Tensor:
    """[b, classes] logits."""
    model, pad = found.codec.model, found.codec.vocabulary.pad
    sizes = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    width = int(sizes.max())
    ids = torch.tensor([[*prompt, *[pad] * (width - len(prompt))] for prompt in prompts], device=model.device)
    real = (torch.arange(width, device=model.device)[None] < sizes[:, None]).long()
    prefix = sizes if model.spec.family is Family.prefix else None
    hidden = model(ids, attention_mask=real, prefix_length=prefix).last_hidden_state
    last: Tensor = hidden[torch.arange(len(prompts)), sizes - 1]
    logits: Tensor = found.net["head"](last)
    return logits


def _logits(found: Headed, task: Task, size: int) -> list[tuple[Tensor, Tensor]]:
    found.net.eval()
    prompts, gold = _given(found, task)
    starts = range(0, len(prompts), size)
    return [(_forward(found, prompts[i : i + size]), gold[i : i + size]) for i in starts]


@torch.no_grad()
def _loss(found: Headed, task: Task) -> float:
    losses = [F.cross_entropy(logits, gold, reduction="none") for logits, gold in _logits(found, task, 64)]
    return float(torch.cat(losses).mean())
