"""The loss's C kernel against float64: values, the gradient written over the logits, and where torch serves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.nn import loss
from assay.nn.kernels import cross_entropy
from assay.nn.kernels.cross_entropy import nats_at

NEEDS_C = pytest.mark.skipif(
    cross_entropy.NATIVE.load() is None, reason=f"no C kernel here: {cross_entropy.NATIVE.reason}"
)


def exact(logits: Tensor, targets: Tensor, weight: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """(nats, gradient of their weighted sum) by autograd, in float64."""
    l = logits.double().requires_grad_()
    log_z = torch.logsumexp(l, -1)
    nats = log_z - l.gather(1, targets[:, None]).squeeze(1) + z_loss * log_z.square()
    (slope,) = torch.autograd.grad((weight.double() * nats).sum(), l)
    return nats.detach(), slope


def drawn(rows: int, columns: int, seed: int = 0, spread: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, columns, generator=draw) * spread
    return logits, torch.randint(columns, (rows,), generator=draw), torch.rand(rows, generator=draw)


@NEEDS_C
@given(
    rows=st.integers(0, 5), columns=st.sampled_from([1, 2, 15, 16, 17, 31, 48, 1023, 1025, 2064]),
    seed=st.integers(0, 2**20), spread=st.sampled_from([0.0, 1.0, 30.0, 1e4]), z_loss=st.sampled_from([0.0, 1e-4, 0.1]),
    threads=st.sampled_from([1, 2]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_values_and_gradients_equal_float64(
    rows: int, columns: int, seed: int, spread: float, z_loss: float, threads: int
) -> None:
    logits, targets, weight = drawn(rows, columns, seed, spread)
    nats, slope = exact(logits, targets, weight, z_loss)
    torch.set_num_threads(threads)
    before, cross_entropy.native.SHARE = cross_entropy.native.SHARE, 16
    try:
        kept = logits.clone()
        alone = nats_at(logits, targets, None, z_loss)
        assert torch.equal(logits, kept), "without weights the logits stay"
        found = nats_at(logits, targets, weight, z_loss)
    finally:
        cross_entropy.native.SHARE = before
    assert torch.equal(alone, found)
    torch.testing.assert_close(found.double(), nats, rtol=2e-6, atol=1e-6 * max(spread, 1.0))
    torch.testing.assert_close(logits.double(), slope, rtol=1e-5, atol=1e-6)


@NEEDS_C
def test_long_rows_are_summed_exactly() -> None:
    """Fifty thousand terms: as near to float64 as torch's own, which a running sum in float is not."""
    logits, targets, weight = drawn(20, 50_257, spread=1.0)
    nats, slope = exact(logits, targets, weight, 0.0)
    theirs = torch.logsumexp(logits, -1) - logits.gather(1, targets[:, None]).squeeze(1)
    running = logits.exp().numpy().cumsum(1)[:, -1]
    naive = torch.from_numpy(running).log() - logits.gather(1, targets[:, None]).squeeze(1)
    found = nats_at(logits, targets, weight, 0.0)
    assert (found - nats).norm() <= 1.5 * (theirs - nats).norm()
    assert (found - nats).norm() < 0.5 * (naive - nats).norm()
    torch.testing.assert_close(logits.double(), slope, rtol=1e-5, atol=1e-9)


@NEEDS_C
def test_chunk_loss_uses_it_and_torch_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for handle in (cross_entropy.NATIVE.handle, None):
        monkeypatch.setattr(cross_entropy.NATIVE, "handle", handle)
        for wanted in (True, False):
            logits, targets, weight = drawn(7, 40)
            value, slope = loss.chunk_loss(logits, targets, weight, None, 0.1, wanted)
            assert (slope is logits) == wanted
            found.append((value, logits))
    for (a, b), (c, d) in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(a, c, rtol=1e-6, atol=0)
        torch.testing.assert_close(b, d, rtol=1e-5, atol=1e-7)


@NEEDS_C
def test_classic_mistakes_are_caught() -> None:
    """Controls: the target's one left out, and the z-loss in the value alone."""
    logits, targets, weight = drawn(5, 33)
    nats, slope = exact(logits, targets, weight, 0.1)
    plain, without = exact(logits, targets, weight, 0.0)
    nats_at(logits, targets, weight, 0.1)
    close = {"rtol": 1e-3, "atol": 1e-4}
    assert torch.allclose(logits.double(), slope, **close)
    assert not torch.allclose(logits.double(), without, **close) and not torch.allclose(nats, plain, **close)
    assert not torch.allclose(
        logits.double().scatter_add(1, targets[:, None], weight.double()[:, None]), slope, **close
    )


@NEEDS_C
@pytest.mark.parametrize("bad", [-1, 9])
def test_a_target_outside_the_vocabulary_is_an_error(bad: int) -> None:
    logits, targets, weight = drawn(3, 9)
    targets[1] = bad
    with pytest.raises(IndexError, match="where the vocabulary ends"):
        nats_at(logits, targets, weight, 0.0)


@NEEDS_C
def test_hidden_and_broken_logits() -> None:
    logits, targets, weight = drawn(4, 40)
    logits[0, 5:30] = -torch.inf
    logits[1, 3], logits[2, 4] = torch.nan, torch.inf
    targets[:3] = torch.tensor([2, 7, 8])
    nats, slope = exact(logits, targets, weight, 0.0)
    found = nats_at(logits, targets, weight, 0.0)
    torch.testing.assert_close(found[[0, 3]].double(), nats[[0, 3]], rtol=1e-6, atol=1e-6)
    assert (logits[0, 5:30] == 0).all() and logits[1].isnan().any() and logits[2].isnan().any()
    assert not found[1].isfinite() and not found[2].isfinite()
    torch.testing.assert_close(logits[3].double(), slope[3], rtol=1e-5, atol=1e-7)


def test_where_torch_serves() -> None:
    logits, targets, weight = drawn(3, 9)
    assert cross_entropy.why_not(logits.double(), weight.double()) is not None
    assert cross_entropy.why_not(logits.t(), weight) is not None
    assert cross_entropy.why_not(logits.to("meta")) is not None
    value, _ = loss.chunk_loss(logits.double(), targets, weight.double(), None, 0.0, False)
    torch.testing.assert_close(value, (exact(logits, targets, weight, 0.0)[0] * weight.double()).sum())
