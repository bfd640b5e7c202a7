"""The C norms against float64 through every combination of options, and what happens without a compiler."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.nn.kernels import native, norms
from assay.nn.kernels.norms import fused_norm, plain_norm

NEEDS_C = pytest.mark.skipif(norms.NATIVE.load() is None, reason=f"no C kernel here: {norms.NATIVE.reason}")
CASES = list(itertools.product((False, True), (False, True), (False, True), (False, True), ("", "g", "gb")))
SHAPES = [(3, 5), (2, 3, 64), (9, 17), (1, 48), (7, 1024), (7,)]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors too, so that tests stay quick."""
    monkeypatch.setattr(norms, "WORTH", {"cpu": {True: 0, False: 0}})


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(
    norm: Callable[..., tuple[Tensor, Tensor]], shape: tuple[int, ...], dtype: torch.dtype, centre: bool, added: bool,
    scaled: bool, keep: bool, learned: str,
) -> list[Tensor]:  # fmt: skip
    """Outputs and all gradients."""
    x, f = (draw(*shape, seed=seed).to(dtype).requires_grad_() for seed in (1, 2))
    g = draw(shape[-1], seed=3).to(dtype).requires_grad_() if "g" in learned else None
    b = draw(shape[-1], seed=4).to(dtype).requires_grad_() if "b" in learned else None
    alpha = torch.tensor(1.7, dtype=dtype) if scaled else None
    more = {"keep": keep} if norm is fused_norm else {}
    y, total = norm(x, g, b, 1e-5, centre=centre, add=f if added else None, alpha=alpha, **more)
    value = (y * draw(*shape, seed=5).to(dtype)).sum()
    if keep:
        value = value + (total * draw(*shape, seed=6).to(dtype)).sum()
    inputs = [t for t in (x, f if added else None, g, b) if t is not None]
    return [y, *([total] if keep else []), *torch.autograd.grad(value, inputs)]


@NEEDS_C
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_combinations_equal_float64(shape: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "SHARE", 16)
    torch.set_num_threads(threads)
    for case in CASES:
        ours = run(fused_norm, shape, torch.float32, *case)
        exact = run(plain_norm, shape, torch.float64, *case)
        for one, other in zip(ours, exact, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=2e-5, msg=lambda m, c=case: f"{c}: {m}")


@NEEDS_C
@pytest.mark.parametrize("centre", [False, True])
def test_streaming_changes_nothing(centre: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    case = (centre, True, True, True, "gb")
    before = run(fused_norm, (6, 32), torch.float32, *case)
    monkeypatch.setattr(norms, "STREAM_FROM", 0)
    for one, other in zip(run(fused_norm, (6, 32), torch.float32, *case), before, strict=True):
        assert torch.equal(one, other)


@NEEDS_C
def test_the_kernel_is_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of this file: float32 goes to C and nothing else does."""
    calls: list[str] = []
    for name in ("_forward", "_backward"):
        real = getattr(norms, name)
        monkeypatch.setattr(norms, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    run(fused_norm, (4, 8), torch.float32, True, True, True, False, "gb")
    assert calls == ["_forward", "_backward"]
    run(fused_norm, (4, 8), torch.float64, True, True, True, False, "gb")
    run(fused_norm, (4, 8), torch.bfloat16, True, True, False, False, "gb")
    assert len(calls) == 2


@NEEDS_C
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("centre", [False, True])
def test_second_derivatives(centre: bool, keep: bool) -> None:
    def second(norm: Callable[..., tuple[Tensor, Tensor]], dtype: torch.dtype, **more: Any) -> list[Tensor]:
        x, f, g = (draw(*shape, seed=n).to(dtype).requires_grad_() for n, shape in enumerate([(3, 8), (3, 8), (8,)]))
        y, total = norm(x, g, None, 1e-5, centre=centre, add=f, alpha=torch.tensor(1.3, dtype=dtype), **more)
        value = y.sin().sum() + (total.square().sum() if keep else 0)
        first = torch.autograd.grad(value, (x, f, g), create_graph=True)
        return list(torch.autograd.grad(sum(d.square().sum() for d in first), (x, f, g)))

    ours = second(fused_norm, torch.float32, keep=keep)
    for one, other in zip(ours, second(plain_norm, torch.float64), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4)


@NEEDS_C
def test_strided_inputs_and_expanded_gradients() -> None:
    x, f = draw(8, 6).float().t().requires_grad_(), draw(6, 16)[:, ::2].float().requires_grad_()
    y, _ = fused_norm(x, None, None, 1e-5, centre=True, add=f)
    ours = torch.autograd.grad(y.sum() + y[:, 0].sum(), (x, f))
    plain, _ = plain_norm(x, None, None, 1e-5, centre=True, add=f, alpha=None)
    for one, other in zip(ours, torch.autograd.grad(plain.sum() + plain[:, 0].sum(), (x, f)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_vmap_goes_through_torch() -> None:
    x, g = draw(3, 4, 8).float(), draw(3, 8, seed=1).float()
    many = torch.vmap(lambda x, g: fused_norm(x, g, None, 1e-5, centre=False)[0])(x, g)
    for row, one, gain in zip(many, x, g, strict=True):
        torch.testing.assert_close(row, plain_norm(one, gain, None, 1e-5, centre=False, add=None, alpha=None)[0])


def test_nan_is_seen() -> None:
    x = draw(4, 32).float()
    x[1, 3] = torch.nan
    y, _ = fused_norm(x, None, None, 1e-5, centre=True)
    assert y[1].isnan().all() and not y[[0, 2, 3]].isnan().any()


def library(check: Callable[[Any], None] = lambda handle: None) -> native.Library:
    made = native.Library("norms.c", check)
    native._LIBRARIES["norms.c"] = norms.NATIVE
    return made


@pytest.mark.parametrize("why", ["switch", "none", "broken"])
def test_without_a_compiler_torch_serves(why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    if why == "switch":
        monkeypatch.setenv("ASSAY_NATIVE", "0")
    elif why == "none":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        (tmp_path / "cc").write_text("#!/bin/sh\necho cannot >&2\nexit 1\n")
        (tmp_path / "cc").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
    missing = library()
    assert missing.load() is None and missing.reason
    monkeypatch.setattr(norms, "NATIVE", missing)
    y, _ = fused_norm(draw(2, 8).float(), None, None, 1e-5, centre=True)
    torch.testing.assert_close(y, torch.nn.functional.layer_norm(draw(2, 8).float(), (8,)))


@NEEDS_C
def test_a_kernel_that_computes_something_else_is_not_used() -> None:
    def wrong(handle: Any) -> None:
        raise ValueError("norms.c computes something else than torch")

    refused = library(wrong)
    assert refused.load() is None and "something else" in refused.reason


@NEEDS_C
def test_a_corrupt_cache_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    assert library().load() is not None
    (entry,) = (tmp_path / "native").iterdir()
    good = entry.read_bytes()
    entry.write_bytes(good[: len(good) // 2])
    assert library().load() is not None
    assert len(entry.read_bytes()) > len(good) // 2, "the damaged file was replaced"


@NEEDS_C
def test_one_pool_of_threads() -> None:
    """The kernel runs on the OpenMP runtime that torch loaded, not on a second one.

    In a process of its own: other packages in this one bring runtimes along.
    """
    if not Path("/proc/self/maps").exists() or not norms.NATIVE.threads:
        pytest.skip("no /proc or no OpenMP")
    code = (
        "from assay.nn.kernels import native, norms\nassert norms.NATIVE.load() is not None\n"
        "lines = open('/proc/self/maps').read().splitlines()\n"
        "print(len({line.split()[-1] for line in lines if 'libgomp' in line}), native.status()['norms.c'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "ok"], done.stderr
