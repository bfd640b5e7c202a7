"""The share of the mean, where it is known; and float16's limits, where they are passed."""

import pytest
import torch
from tests.probes.common import assert_untouched, batch_of, made, spec_of, state

from assay.probes.half import in_float16, overflows
from assay.probes.mean_component import mean_shares, share_of_mean


def test_shares_that_are_known() -> None:
    x = torch.randn(50, 64, dtype=torch.float64)
    assert share_of_mean(torch.full((3, 8), 2.0)) == pytest.approx(1.0)
    assert share_of_mean(x - x.mean(-1, keepdim=True)) == pytest.approx(0.0, abs=1e-12)
    assert share_of_mean(x) == pytest.approx(1 / 64, rel=0.5)
    assert share_of_mean(torch.tensor([[3.0, 1.0]])) == pytest.approx(0.8)  # 2 * 2^2 / (9 + 1)


@pytest.mark.parametrize("family", ["causal", "encoder_decoder"])
def test_every_layer_of_every_stack_without_padding(family: str) -> None:
    model = made(spec_of(family=family, placement="pre"))
    before = state(model)
    plain, padded = (mean_shares(model, batch_of(family, room=room)) for room in (None, 9))
    assert set(plain) == ({"encoder", "decoder"} if family == "encoder_decoder" else {"decoder"})
    assert all(len(layers) == 2 and all(0 < share < 1 for share in layers) for layers in plain.values())
    for stack, layers in plain.items():
        assert padded[stack] == pytest.approx(layers, rel=1e-9)
    assert_untouched(model, before)


def test_a_post_layernorm_stream_without_gains_has_no_mean() -> None:
    norm = {"kind": "layernorm", "weight": False}
    assert mean_shares(made(spec_of(placement="post", norm=norm)), batch_of())["decoder"] == pytest.approx(
        [0, 0], abs=1e-9
    )


def test_float16_overflows_where_float32_does_not() -> None:
    model = made(spec_of(placement="pre"), dtype="float32")
    before = state(model)
    assert overflows(in_float16(model, batch_of())) == []
    with torch.no_grad():
        model.decoder.blocks[1].feedforward.down.weight.mul_(1e6)  # type: ignore[union-attr, operator]
        before = state(model)
    lost = overflows(in_float16(model, batch_of()))
    assert lost[0] == "decoder.blocks.1.feedforward.out"
    assert "decoder.blocks.0.out" not in lost
    assert_untouched(model, before)
