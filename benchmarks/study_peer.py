"""Runs of the study as a peer's users do them, in one process: `python -m benchmarks.study_peer trainer ...`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import peers

SIZE = peers.Size("study", 6, 128, 4, 344, 512, 16, 128, 1)
RATES = (5e-4, 1e-3, 2e-3)


def trainer(rows: torch.Tensor, held: torch.Tensor, run: int, steps: int) -> float:
    """Transformers' Trainer with its defaults where they do not matter: no reports, one checkpoint at the end."""
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(run)
    model = peers.build_transformers(SIZE)
    data = [{"input_ids": row[:-1], "labels": row[:-1]} for row in rows]
    unseen = [{"input_ids": row, "labels": row} for row in held]
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=SIZE.batch, per_device_eval_batch_size=SIZE.batch,
            learning_rate=RATES[run % 3], lr_scheduler_type="cosine", warmup_ratio=0.1, adam_beta2=0.95,
            weight_decay=0.1, max_grad_norm=1.0, optim="adamw_torch_fused", logging_steps=1, save_strategy="no",
            eval_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, seed=run, dataloader_num_workers=0,
        )  # fmt: skip
        work = Trainer(model=model, args=settings, train_dataset=data, eval_dataset=unseen)
        work.train()
        work.evaluate()
        work.save_model(folder)
    return [row["loss"] for row in work.state.log_history if "loss" in row][-1]


def loop(peer: str) -> Callable[[torch.Tensor, torch.Tensor, int, int], float]:
    """A plain loop over a compiled model; the same graph serves every run of the process.

    It is evaluated eager: compiling once more would take longer than it saves.
    """

    def train(rows: torch.Tensor, held: torch.Tensor, run: int, steps: int) -> float:
        torch.manual_seed(run)
        model = peers.BUILDERS[peer](SIZE).train()
        forward = torch.compile(model)
        optimizer = torch.optim.AdamW(model.parameters(), RATES[run % 3], (0.9, 0.95), weight_decay=0.1, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATES[run % 3], total_steps=steps + 1, pct_start=0.1)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(run))
        loss = torch.zeros(())
        for step in range(steps):
            chosen = rows[order[torch.arange(step * SIZE.batch, (step + 1) * SIZE.batch) % len(rows)]]
            out = forward(chosen[:, :-1])
            logits = getattr(out, "logits", out)
            loss = F.cross_entropy(logits.reshape(-1, SIZE.vocab_size), chosen[:, 1:].reshape(-1))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        evaluate(model.eval(), held)
        return loss.item()

    return train


@torch.no_grad()
def evaluate(model: torch.nn.Module, held: torch.Tensor) -> float:
    """Nats a token of the held-out rows."""
    total = 0.0
    for rows in held.split(SIZE.batch):
        out = model(rows[:, :-1])
        logits = getattr(out, "logits", out)
        total += F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
    return total / held[:, 1:].numel()


WAYS = {"trainer": trainer, "transformers": loop("transformers"), "litgpt": loop("litgpt")}


def main() -> None:
    """Do the runs and write their last training losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=sorted(WAYS))
    parser.add_argument("--runs", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--held", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows, held = (torch.from_numpy(np.load(path)) for path in (args.rows, args.held))
    losses = [WAYS[args.way](rows, held, int(run), args.steps) for run in args.runs.split(",") if run]
    args.out.write_text(json.dumps(losses), encoding="utf-8")


if __name__ == "__main__":
    main()
