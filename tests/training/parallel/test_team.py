"""A model spread over ranks: gradients of every kind of part, low precision, recomputing, compiling, agreeing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.parallel.crew import Crew
from tests.training.parallel.test_equal import EPS, kind, weights
from tests.training.parallel.test_resume import curve

from assay.errors import UserError
from assay.runs import RunFolder
from assay.training.parallel.heldout import merge
from assay.training.parallel.world import RankLost, World, lost

Described = Callable[..., dict[str, Any]]

#: Parts that a rank could treat differently: scalars, tables, tied and untied heads, parameters that nothing uses,
#: a head that reads its matrix through a function, a second stream, biases, cross-attention.
MODELS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "dyt": ("causal", None, {"norm": "dyt"}),
    "learned positions, untied, biases": (
        "causal", None,
        {"positions": "learned", "context": 1100, "head": {"tied": False}, "feedforward": {"bias": True}},
    ),
    "relative table": ("encoder_decoder", "span_corruption", {"positions": "relative"}),
    "masked-LM head, pooler that nothing reads": (
        "encoder", "mlm",
        {
            "family": "encoder", "head": {"kind": "mlm", "sentence_pair": True, "bias": True},
            "embedding": {"token_types": 2},
        },
    ),
    "blanks": ("prefix", "glm", {}),
    "denoising": ("encoder_decoder", "bart", {}),
    "mixture of denoisers": ("encoder_decoder", "ul2", {}),
    "normalised head": ("causal", None, {"head": {"tied": False, "normalised": True}}),
    "second stream": ("prefix", "prefix_lm", {"placement": "residual"}),
    "grouped heads, gradient shrink": (
        "causal", None, {"attention": {"heads": 4, "kv_heads": 2}, "embedding": {"gradient_shrink": 0.1}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_gradients_of_every_kind_of_part(crew: Crew, described: Described, tmp_path: Path, model: str) -> None:
    """In float64, relative to the largest gradient: a sum of at most 8 x 32 targets in another order."""
    family, objective, fields = MODELS[model]
    run = described(family, objective, model={"dropout": 0.0, **fields}, accumulation=2)
    (one,) = crew.run(1, "first_gradients", run=run, out=str(tmp_path / "one"))
    for number, parallel in enumerate(({"kind": "ddp"}, {"kind": "fsdp"})):
        run["train"]["parallel"] = parallel
        many = crew.run(2, "first_gradients", run=run, out=str(tmp_path / str(number)))
        assert many[0].keys() == one.keys(), "the same parameters have none"
        most = max(float(np.abs(value).max()) for value in one.values())
        for name, value in one.items():
            for answer in many:
                apart = float(np.abs(answer[name] - value).max())
                assert apart <= 4 * 256 * EPS * most, (parallel, name, apart, most)


def test_bfloat16_keeps_float32_weights(crew: Crew, described: Described, tmp_path: Path) -> None:
    """One rank and two differ by what bfloat16 rounds, eps = 2^-8: blocks' norms, too, are gathered in it."""
    run = described(dtype="bfloat16", steps=6)
    (one,) = crew.run(1, "train", run=run, out=str(tmp_path / "one"))
    exact = crew.run(1, "train", run=described(steps=6), out=str(tmp_path / "exact"))[0]
    run["train"]["parallel"] = {"kind": "fsdp"}
    many = crew.run(2, "train", run=run, out=str(tmp_path / "two"))[0]
    losses = [np.array([row["loss"] for row in kind(answer["rows"], "train")]) for answer in (one, many, exact)]
    assert np.abs(losses[0] - losses[1]).max() <= 2.0**-8 * losses[0].max()
    assert np.abs(losses[1] - losses[2]).max() > 1e-6, "it is bfloat16"
    assert {t.dtype for t in weights(tmp_path / "two").values()} == {torch.float32}
    kept = weights(tmp_path / "two")
    assert any((t != t.bfloat16().float()).any() for t in kept.values()), "master weights are no rounded ones"


def test_recomputing_changes_no_bit(crew: Crew, described: Described, tmp_path: Path) -> None:
    run = described(model={"dropout": 0.1}, parallel={"kind": "fsdp"})
    kept = crew.run(2, "train", run=run, out=str(tmp_path / "kept"))[0]
    run["train"]["checkpointing"] = True
    again = crew.run(2, "train", run=run, out=str(tmp_path / "again"))[0]
    assert curve(again["rows"], "train") == curve(kept["rows"], "train")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["fsdp", "ddp"])
def test_compiled_blocks(crew: Crew, described: Described, tmp_path: Path, parallel: str) -> None:
    """The same run as uncompiled but for rounding: float32, eps = 1.2e-7, over 6 steps of some 100 sums in a row."""
    run = described(compile=True, parallel={"kind": parallel})
    compiled = crew.run(2, "train", run=run, out=str(tmp_path / "compiled"))[0]
    run["train"]["compile"] = False
    eager = crew.run(2, "train", run=run, out=str(tmp_path / "eager"))[0]
    assert compiled["outcome"]["compiled"] is True
    for x, y in zip(kind(compiled["rows"], "train"), kind(eager["rows"], "train"), strict=True):
        assert abs(x["loss"] - y["loss"]) <= 6 * 100 * 2.0**-23 * y["loss"]


def test_a_batch_is_left_out_by_all_or_by_none(crew: Crew, described: Described, tmp_path: Path) -> None:
    """A gradient that is not finite at one rank is none of the whole batch; what is kept is the whole batch."""
    run = described("prefix", "prefix_lm", on_bad_loss="skip", parallel={"kind": "fsdp"})
    answers = crew.run(2, "bad_gradient", run=run, out=str(tmp_path), rank=1, step=3)
    assert answers[0]["outcome"]["status"] == "done" and answers[0]["outcome"] == answers[1]["outcome"]
    (event,) = [row for row in answers[0]["rows"] if row.get("event") == "skipped"]
    assert event["step"] == 3 and "gradient norm" in event["reason"]
    kept = RunFolder(tmp_path).read_json("bad_batches/step-3.json")
    assert len(kept["row_losses"]) == len(kept["pieces"]) == 8
    assert np.load(tmp_path / event["batch"])["input_ids"].shape == (8, 32)


def test_a_signal_at_one_rank_stops_all(crew: Crew, described: Described, tmp_path: Path) -> None:
    run = described(steps=50)
    answers = crew.run(4, "signalled", run=run, out=str(tmp_path), rank=2, step=3)
    assert {answer["raised"] for answer in answers} == {answers[0]["raised"]}
    # A signal that comes while the ranks are agreeing is heard at the next step's end.
    assert "stopped at step 4" in answers[0]["raised"] and "--resume" in answers[0]["raised"]
    assert [answer["status"] for answer in answers] == [130, 130, 143, 130], "each by the signal that it had"
    assert RunFolder(tmp_path).checkpoint_steps() == [4]


def test_agreeing(crew: Crew) -> None:
    answers = crew.run(4, "agreeing")
    assert all(answer == answers[0] for answer in answers)
    assert answers[0] == {
        "sums": [6.0, 2.0**52 + 4], "any": True, "none": False, "lead": 0, "together": [0, 1, 2, 3],
        "lead error": "a = 1: wrong.", "error of 2": "a = 2: wrong.", "turn": True,
        "same": "data.hash: 'x' on rank 0 and 'y' on rank 3. Give all machines the same files.",
    }  # fmt: skip


def test_one_process_agrees_with_itself() -> None:
    world = World()
    assert world.leads and world.sums(1.5, 2) == [1.5, 2] and world.any(True) and not world.any(False)
    assert world.lead(lambda: 3) == 3 and world.together(lambda: 3) == [3] and world.in_turn(lambda: 3) == 3
    with pytest.raises(UserError, match="wrong"):
        world.lead(wrong)


def wrong() -> None:
    raise UserError("wrong")


def test_what_a_lost_rank_looks_like() -> None:
    assert lost(RuntimeError("[../gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:1"))
    assert lost(RankLost("x"))
    assert not lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) and not lost(ValueError("gloo"))


def test_shares_of_a_measure_come_together() -> None:
    from assay.evaluation.continuation import Continuation

    parts = [
        Continuation(np.array([1.0, 3.0]), np.array([10, 30]), 5, [[0, 0.5, 4], [16, 2.0, 1]]),
        Continuation(np.array([2.0]), np.array([20]), 3, [[0, 1.0, 2], [32, 4.0, 1]]),
        None,
    ]
    with pytest.raises(ValueError):
        merge(parts, 3)  # three ranks would hold one window each
    whole = merge(parts[:2], 3)
    assert whole.nats.tolist() == [1.0, 2.0, 3.0] and whole.bytes.tolist() == [10, 20, 30] and whole.tokens == 8
    assert whole.by_position == [[0, (0.5 * 4 + 1.0 * 2) / 6, 6], [16, 2.0, 1], [32, 4.0, 1]]
    alone = merge([parts[1], None], 1)
    assert alone.nats.tolist() == [2.0]
