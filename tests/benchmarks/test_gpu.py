"""Peers that need a GPU: what is said without one, and that the GPU's comparison works where it can be tried."""

import sys

import pytest
import torch
from benchmarks.result import Result

from benchmarks import gpu, norms, peers

SIZE = peers.Size("tiny", 1, 32, 2, 48, 64, 2, 16, 1)


def test_the_reason_is_true_on_either_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "available", lambda: False)
    assert gpu.why_not("x") == "needs a GPU, and this machine has none"
    monkeypatch.setattr(gpu, "available", lambda: True)
    assert gpu.why_not("training on the GPU").endswith("times the CPU; it is in: training on the GPU")
    assert "has none" not in gpu.why_not()


def test_nothing_is_tried_without_a_gpu_and_a_failure_keeps_the_other_results(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Result:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(gpu, "available", lambda: False)
    assert gpu.guarded("x-gpu", "x", broken) == []
    monkeypatch.setattr(gpu, "available", lambda: True)
    (result,) = gpu.guarded("x-gpu", "x", broken)
    assert result.failed == "RuntimeError: no kernel"


def without_liger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel", None)


def test_the_training_comparison_works_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without_liger(monkeypatch)
    only = ("assay/eager", "transformers/eager", "transformers/Liger-Kernel")
    result = gpu.training(SIZE, 0.01, device="cpu", only=only)
    assert [row.who for row in result.rows if row.value] == ["assay/eager", "transformers/eager"]
    reason = result.row("transformers/Liger-Kernel")
    assert reason is not None and gpu.LIGER in reason.cannot
    assert all(check.passed and check.error < 1e-5 for check in result.checks) and len(result.checks) == 2
    assert result.rounds >= 5


def test_other_weights_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(peers.build_transformers(SIZE))
    monkeypatch.setattr(kind, "load_state_dict", lambda self, state: self.lm_head.weight.data.mul_(50))
    with pytest.raises(RuntimeError, match="differs"):
        gpu.training(SIZE, 0.01, device="cpu", only=("assay/eager", "transformers/eager"))


def test_norms_say_why_liger_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_liger(monkeypatch)
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    results = norms.suite(0.1, False, rows=8, width=16, rounds=1, device="cpu", keep=False)
    assert all(result.row("Liger-Kernel").cannot == gpu.why_not() for result in results)  # type: ignore[union-attr]
    with pytest.raises(ImportError):
        norms.liger("rmsnorm")
