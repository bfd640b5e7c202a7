"""The loop: exact resume, budgets, evaluation points, divergence, stopping, a full disk."""

import math
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.training import loop, readying
from assay.training.loop import train_run
from assay.training.signals import Terminated
from assay.training.step import StepResult

Tiny = Callable[..., RunSpec]


def stop_after(steps: int) -> Callable[[], bool]:
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= steps


def curve(folder: RunFolder, kind: str = "train") -> list[tuple[Any, ...]]:
    fields = ("step", "loss", "lr", "grad_norm", "tokens", "flops", "bits_per_byte", "by_position")
    return [tuple(row.get(f) for f in fields) for row in folder.metrics() if row["kind"] == kind]


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.checkpoint(folder.checkpoint_steps()[-1]) / "model.safetensors")


@pytest.mark.parametrize(
    ("family", "objective"),
    [("causal", None), ("prefix", None), ("encoder_decoder", "span_corruption")],
)
def test_an_interrupted_run_ends_bit_for_bit_as_one_that_was_not(
    tiny: Tiny, tmp_path: Path, family: str, objective: str | None
) -> None:
    run = tiny(family, objective, steps=8, checkpoints=1)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    assert train_run(run, whole)["status"] == "done"
    for _ in range(2):  # twice: a resumed run can be interrupted too
        assert train_run(run, broken, stop=stop_after(3))["status"] == "stopped"
        assert not broken.done
    assert train_run(run, broken)["status"] == "done"
    assert curve(broken) == curve(whole)
    assert curve(broken, "eval") == curve(whole, "eval")
    a, b = weights(whole), weights(broken)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    same = ("bits_per_byte", "flops", "supervised_tokens", "input_tokens", "padding_share", "steps")
    assert all(whole.result[name] == broken.result[name] for name in same)


def test_rows_after_the_checkpoint_of_a_killed_run_are_written_once(tiny: Tiny, tmp_path: Path) -> None:
    run, folder = tiny(steps=6), RunFolder(tmp_path)
    train_run(run, folder, stop=stop_after(2))
    folder.append_metrics({"kind": "train", "step": 3, "loss": 9.0})  # as from a process killed later
    folder.close()
    train_run(run, folder)
    assert [row["step"] for row in folder.metrics() if row["kind"] == "train"] == list(range(1, 7))


def test_a_run_learns_and_its_folder_says_everything(tiny: Tiny, tmp_path: Path) -> None:
    run = tiny(steps=30, batch_size=8, optimizer={"learning_rate": 1e-2}, model={"dropout": 0.0, "init": {"std": 0.02}})
    rows: list[dict[str, Any]] = []
    result = train_run(run, RunFolder(tmp_path), progress=rows.append)
    folder = RunFolder.open(tmp_path)
    assert folder.metrics() == rows
    evaluations = [row for row in rows if row["kind"] == "eval"]
    assert [row["step"] for row in evaluations] == [0, 15, 30]
    # Before training every token is about equally likely.
    assert evaluations[0]["bits_per_byte"] == pytest.approx(math.log2(299), rel=0.05)
    assert evaluations[-1]["bits_per_byte"] < 0.75 * evaluations[0]["bits_per_byte"]
    train = [row for row in rows if row["kind"] == "train"]
    assert train[-1]["loss"] < train[0]["loss"] - 1
    assert train[-1]["lr"] == pytest.approx(0.1 * 1e-2) and train[-1]["progress"] == 1
    for done in (folder.result, result):
        assert done["steps"] == 30
        assert done["flops"] == train[-1]["flops"] and done["supervised_tokens"] == train[-1]["tokens"]
        assert done["parameters_total"] == sum(done["parameters"].values()) == 13056
        assert done["peak_bytes"] > 16 * done["parameters_total"], "weights, gradients, two moments, activations"
        assert done["compiled"] == "compile = false"
        assert 0 <= done["padding_share"] < 0.2
    about = folder.read_json("run.json")
    assert about["seed"] == 0 and about["data"]["vocab_size"] == 299 and about["data"]["hash"]
    assert about["provenance"]["versions"]["torch"] and about["command"]
    spec = folder.read_json("spec.json")
    assert spec["vocab_size"] == 299 and spec["tokens"]["eos"] == [1]
    assert folder.checkpoint_steps() == [30]
    assert {p.name for p in folder.checkpoint(30).iterdir()} == {"checksums.json", "model.safetensors", "state.json"}


def test_a_run_that_goes_on_is_no_longer_failed(tiny: Tiny, tmp_path: Path) -> None:
    run, folder = tiny(steps=4), RunFolder(tmp_path)
    train_run(run, folder, stop=stop_after(1))
    folder.mark_failed("the worker was ended by SIGKILL")
    train_run(run, folder, stop=stop_after(1))
    assert folder.failure is None and not folder.done


def test_a_finished_run_is_not_done_again(tiny: Tiny, tmp_path: Path) -> None:
    run, folder = tiny(steps=2), RunFolder(tmp_path)
    first = train_run(run, folder)
    before = (tmp_path / "metrics.jsonl").stat().st_mtime_ns
    assert train_run(run, folder) == first
    assert (tmp_path / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_budget_ends_with_the_step_that_reaches_it(tiny: Tiny, tmp_path: Path) -> None:
    one = train_run(tiny(steps=1), RunFolder(tmp_path / "one"))["flops"]
    result = train_run(tiny(budget=3.5 * one), RunFolder(tmp_path / "budget"))
    assert result["steps"] == 4
    assert 3.5 * one <= result["flops"] < 5 * one


def test_a_budget_too_small_for_one_step_names_the_least_that_works(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="budget = 1000 FLOPs") as error:
        train_run(tiny(budget=1000.0), RunFolder(tmp_path / "a"))
    assert not (tmp_path / "a" / "run.json").exists()
    least = float(str(error.value).split("Give budget = ")[1].split()[0])
    assert train_run(tiny(budget=least), RunFolder(tmp_path / "b"))["steps"] in (1, 2)  # rounded up


def test_a_diverging_run_is_marked_and_told(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Sizes that overflow float32 in the first update.
    run = tiny(steps=20, optimizer={"learning_rate": 1e30}, schedule={"kind": "constant", "warmup": 0})
    folder = RunFolder(tmp_path)
    result = train_run(run, folder)
    assert result["status"] == "diverged"
    assert folder.failure is not None and folder.failure.startswith("diverged at step ")
    assert not folder.done
    assert folder.metrics()[-1] == {
        "kind": "event", "event": "diverged", "step": result["steps"], "reason": folder.failure,
    }  # fmt: skip


def test_a_gradient_that_is_not_finite_is_not_applied(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.take_step
    monkeypatch.setattr(loop, "take_step", lambda *a, **k: StepResult(real(*a, **k).loss, math.inf))
    result = train_run(tiny(steps=3), RunFolder(tmp_path))
    assert result["failed"] == "diverged at step 1: the gradient norm is inf"


def test_ctrl_c_waits_for_a_checkpoint_and_says_how_to_go_on(tiny: Tiny, tmp_path: Path) -> None:
    run, folder = tiny(steps=8), RunFolder(tmp_path)

    def press(row: dict[str, Any]) -> None:
        if row["kind"] == "train" and row["step"] == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped at step 3.*--resume"):
        train_run(run, folder, progress=press)
    assert folder.checkpoint_steps() == [3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert train_run(run, folder)["steps"] == 8


def test_sigterm_waits_for_a_checkpoint_too_and_leaves_a_handler_alone(tiny: Tiny, tmp_path: Path) -> None:
    run, folder = tiny(steps=8), RunFolder(tmp_path)

    def ask(row: dict[str, Any]) -> None:
        if row["kind"] == "train" and row["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated, match="stopped at step 3.*--resume") as ended:
        train_run(run, folder, progress=ask)
    assert ended.value.status == 143 and folder.checkpoint_steps() == [3]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        assert train_run(run, RunFolder(tmp_path / "other"), progress=ask)["steps"] == 8
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == [signal.SIGTERM]


def test_a_damaged_checkpoint_is_refused_and_its_remedy_works(tiny: Tiny, tmp_path: Path) -> None:
    run, whole, folder = tiny(steps=6), RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    train_run(run, whole)
    train_run(run, folder, stop=stop_after(4))
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        file = folder.checkpoint(4) / name
        content = file.read_bytes()
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])  # one bit
        with pytest.raises(UserError, match=rf"{name}: its content has changed.*delete the folder"):
            train_run(run, folder)
        file.unlink()
        with pytest.raises(UserError, match=rf"{name}: it was written and is gone"):
            train_run(run, folder)
        file.write_bytes(content)
    file.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"state\.json: its content has changed"):
        train_run(run, folder)
    shutil.rmtree(folder.checkpoint(4))
    assert train_run(run, folder)["steps"] == 6
    assert all(torch.equal(weights(whole)[name], value) for name, value in weights(folder).items())


def test_it_works_outside_the_main_thread(tiny: Tiny, tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(train_run(tiny(steps=1), RunFolder(tmp_path))))
    thread.start()
    thread.join()
    assert found[0]["status"] == "done"


def test_the_callers_random_numbers_are_left_alone(tiny: Tiny, tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train_run(tiny(steps=2), RunFolder(tmp_path))
    assert torch.equal(torch.rand(3), wanted)


def test_a_folder_of_another_run_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    train_run(tiny(steps=2), RunFolder(tmp_path), stop=lambda: True)
    with pytest.raises(UserError, match="holds another run"):
        train_run(tiny(steps=3), RunFolder(tmp_path))


def test_learned_positions_have_to_reach(tiny: Tiny, tmp_path: Path) -> None:
    run = tiny(model={"positions": "learned", "context": 64})
    with pytest.raises(UserError, match=r"context = 64: windows have \d+ tokens.*Give context"):
        train_run(run, RunFolder(tmp_path))


def test_a_full_disk_is_one_clear_message_and_keeps_what_was_written(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from assay.training import checkpoint

    folder = RunFolder(tmp_path)
    train_run(tiny(steps=6), folder, stop=stop_after(1))

    def full(*args: Any, **fields: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="disk is full"):
        train_run(tiny(steps=6), folder)
    assert folder.checkpoint_steps() == [1], "the earlier checkpoint is kept"
    monkeypatch.undo()
    assert train_run(tiny(steps=6), folder)["steps"] == 6


def test_where_compiling_fails_the_run_is_eager_and_says_why(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any) -> None:
        def stumble(*args: Any, **fields: Any) -> None:
            raise RuntimeError("the compiler stumbled\nand more")

        for block in model.decoder.blocks:
            block._compiled_call_impl = stumble

    monkeypatch.setattr(readying, "compile_blocks", broken)
    folder = RunFolder(tmp_path / "broken")
    result = train_run(tiny(steps=3, compile=True), folder)
    assert result["compiled"] == "compiling failed: RuntimeError: the compiler stumbled"
    assert [row["reason"] for row in folder.metrics() if row["kind"] == "event"] == [result["compiled"]]
    eager = train_run(tiny(steps=3, compile=False), RunFolder(tmp_path / "eager"))
    assert result["bits_per_byte"] == eager["bits_per_byte"]


@pytest.mark.slow
def test_a_compiled_run_measures_what_an_eager_one_does_and_resumes(tiny: Tiny, tmp_path: Path) -> None:
    from assay.nn.compiling import cannot_compile

    if reason := cannot_compile():
        pytest.skip(reason)
    run = tiny("prefix", steps=4, compile=True, model={"dropout": 0.0})
    result = train_run(run, RunFolder(tmp_path / "compiled"))
    assert result["compiled"] is True
    eager = train_run(tiny("prefix", steps=4, model={"dropout": 0.0}), RunFolder(tmp_path / "eager"))
    assert result["bits_per_byte"] == pytest.approx(eager["bits_per_byte"], rel=1e-4)
    assert result["peak_bytes"] > 0
    train_run(run, RunFolder(tmp_path / "resumed"), stop=stop_after(2))
    assert train_run(run, RunFolder(tmp_path / "resumed"))["bits_per_byte"] == result["bits_per_byte"]
