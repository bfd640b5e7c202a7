"""Sizes, entropy and scores of one forward pass, against what can be known beforehand."""

import math

import pytest
import torch
from tests.probes.common import assert_untouched, batch_of, made, spec_of, state

from assay.nn.batch import to_tensors
from assay.nn.hooks import Record
from assay.probes import observe
from assay.probes.activations import Point
from assay.probes.looking import forward


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder", "encoder"])
@pytest.mark.parametrize("placement", ["post", "sandwich", "residual"])
def test_points_are_measured_over_real_positions(family: str, placement: str) -> None:
    model, batch = made(spec_of(family=family, placement=placement)).eval(), batch_of(family, room=9)
    found, record = observe(model, batch), Record(lambda name: True)
    with torch.no_grad():
        forward(model, to_tensors(batch), record)
    assert found.points.keys() == {n for n in record.values if not n.endswith(("scores", "pattern"))}
    for name, point in found.points.items():
        value = record.values[name]
        if name != "logits":  # six of nine positions are real
            value = value[..., :6, :]
        assert point.maximum == pytest.approx(float(value.abs().max()), rel=1e-12), name
        assert point.mean_square == pytest.approx(float(value.square().mean()), rel=1e-9), name


def test_padding_is_left_out() -> None:
    """The control: enormous padding would be the maximum of every point."""
    model, batch = made(spec_of(placement="pre")), batch_of(room=9)
    plain = observe(model, batch)
    with torch.no_grad():
        model.embedding.weight[0] = 1e6
    loud = observe(model, batch)
    assert loud.points["decoder.embedding"] == plain.points["decoder.embedding"]
    assert observe(model, batch_of(room=9, seed=0)).points["logits"].maximum > 1e4, "the pad token's own logit is real"


def without_queries(spec_fields: dict) -> torch.nn.Module:
    model = made(spec_of(**spec_fields))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".q.weight" in name:
                p.zero_()
    return model


def test_entropy_of_equal_weights_is_the_logarithm() -> None:
    encoder = observe(without_queries({"family": "encoder"}), batch_of("encoder", length=7)).attention
    for facts in encoder.values():
        assert facts.entropy == pytest.approx(math.log(7), rel=1e-12)
        assert facts.uniform == pytest.approx(math.log(7), rel=1e-12)
        assert facts.largest_logit == 0 and len(facts.by_head) == 2
    causal = observe(without_queries({}), batch_of("causal", length=7, room=10)).attention
    expected = sum(math.log(n) for n in range(1, 8)) / 7
    for facts in causal.values():
        assert facts.entropy == pytest.approx(expected, rel=1e-12)
    crossed = observe(without_queries({"family": "encoder_decoder"}), batch_of("encoder_decoder", length=5)).attention
    assert crossed["decoder.blocks.0.cross_attention"].entropy == pytest.approx(math.log(5), rel=1e-12)


def test_entropy_falls_as_scores_grow_and_the_largest_is_found() -> None:
    model, batch = made(spec_of(placement="pre")).eval(), batch_of(length=8)
    mild = observe(model, batch).attention["decoder.blocks.0.attention"]
    record = Record(lambda name: name.endswith(".scores"))
    with torch.no_grad():
        forward(model, to_tensors(batch), record)
    lower = torch.ones(8, 8, dtype=torch.bool).tril()
    scores = record.values["decoder.blocks.0.attention.scores"]
    assert mild.largest_logit == pytest.approx(float(scores[..., lower].max()), rel=1e-12)
    hidden = float(scores[..., ~lower].max())
    assert hidden != mild.largest_logit
    with torch.no_grad():
        model.decoder.blocks[0].attention.q.weight.mul_(1e4)
    sharp = observe(model, batch).attention["decoder.blocks.0.attention"]
    assert sharp.entropy < 0.01 < 0.1 < mild.entropy < mild.uniform
    assert sharp.largest_logit == pytest.approx(1e4 * mild.largest_logit, rel=1e-9)


def test_a_hidden_score_is_not_the_largest() -> None:
    """The control: the maximum over all pairs, hidden ones too, is another number for some seed."""
    differs = 0
    for seed in range(8):
        model, batch = made(spec_of(), seed).eval(), batch_of(length=8, seed=seed)
        record = Record(lambda name: name.endswith(".scores"))
        with torch.no_grad():
            forward(model, to_tensors(batch), record)
        whole = float(record.values["decoder.blocks.0.attention.scores"].max())
        differs += observe(model, batch).attention["decoder.blocks.0.attention"].largest_logit < whole
    assert differs >= 2


def test_headroom() -> None:
    assert Point(1.0, 65504.0).headroom == 1.0
    assert Point(1.0, 655.04).headroom == pytest.approx(100)
    assert Point(0.0, 0.0).headroom == math.inf
    assert Point(1.0, math.inf).headroom == 0.0


def test_float16_values_do_not_overflow_the_instrument() -> None:
    spec = spec_of(placement="post", embedding={"scale": 3000.0}, norm="layernorm")
    point = observe(made(spec, dtype="float16"), batch_of()).points["decoder.embedding"]
    wide = observe(made(spec, dtype="float32"), batch_of()).points["decoder.embedding"]
    assert wide.maximum**2 > 65504 > wide.maximum
    assert point.rms == pytest.approx(wide.rms, rel=2e-3)


def test_the_signal_grows_under_pre_and_not_under_post() -> None:
    batch = batch_of(length=12, rows=8)
    size = {"width": 32, "layers": 12, "feedforward": {"width": 32}}
    growth = {}
    for placement in ("post", "pre"):
        seen = observe(made(spec_of(placement=placement, norm="layernorm", **size)), batch)
        signal = [seen.points[f"decoder.blocks.{layer}.out"].mean_square for layer in range(12)]
        growth[placement] = signal[-1] / signal[0]
    assert growth["pre"] > 3 * growth["post"]


def test_nothing_changes_and_nothing_is_computed_otherwise() -> None:
    model, batch = made(spec_of(dropout=0.3)), batch_of()
    model.train()
    model.decoder.blocks[0].eval()
    before = state(model)
    assert observe(model, batch) == observe(model, batch)
    assert_untouched(model, before)
    assert model.training and not model.decoder.blocks[0].training
    fused = observe(model, batch, attention=False)
    assert not fused.attention
    for name, point in fused.points.items():
        assert point.rms == pytest.approx(observe(model, batch).points[name].rms, rel=1e-9)
