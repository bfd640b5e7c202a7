"""First weights: repeatable by (seed, name), and spread as each rule's paper says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.nn.common import small
from torch import Tensor

from assay.nn import build
from assay.nn.init import initialize
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

WIDE: dict[str, Any] = {"width": 96, "attention": {"heads": 4, "kv_heads": 2}, "feedforward": {"width": 160}}


def wide(**fields: Any) -> ModelSpec:
    return small(**(WIDE | fields))


def weights(spec: ModelSpec, **how: Any) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in build(spec, **how).named_parameters()}


def pooled(all_weights: dict[str, Tensor], *endings: str) -> float:
    """Root mean square over all matrices with such names: the standard deviation around 0."""
    values = torch.cat([w.double().flatten() for name, w in all_weights.items() if name.endswith(endings)])
    assert len(values) > 3000, endings
    return float(values.square().mean().sqrt())


def glorot(w: Tensor) -> float:
    return math.sqrt(2 / sum(w.shape))


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    spec = small()
    first, second, other = weights(spec, seed=3), weights(spec, seed=3), weights(spec, seed=4)
    assert all(torch.equal(first[n], second[n]) for n in first)
    drawn = [n for n in first if n.endswith("weight") and first[n].dim() == 2]
    assert drawn and all(not torch.equal(first[n], other[n]) for n in drawn)
    assert len({tuple(first[n].flatten()[:8].tolist()) for n in drawn}) == len(drawn), "no two share a stream"


def test_a_parameter_depends_on_seed_and_name_alone() -> None:
    """Not on order, not on what else the model has, not on the global generator."""
    spec = small()
    built = weights(spec, seed=7)
    torch.manual_seed(99)
    for info in reversed(list(layout(spec))):
        alone = torch.empty(info.shape)
        initialize(alone, info, spec, 7)
        assert torch.equal(alone, built[info.name]), info.name
    other = weights(small(positions="learned", attention={"qkv_bias": True}), seed=7)
    shared = [n for n in built if n in other]
    assert len(shared) == len(built) and all(torch.equal(built[n], other[n]) for n in shared)


def test_lower_precision_is_the_same_draw_rounded() -> None:
    full, low = weights(small()), weights(small(), dtype="bfloat16")
    assert all(torch.equal(full[n].bfloat16(), low[n]) for n in full)
    assert all(p.is_meta for p in build(small(), device="meta").parameters())


@pytest.mark.parametrize("kind", ["normal", "scaled_residual"])
def test_normal_and_scaled_residual(kind: str) -> None:
    """GPT-2: N(0, 0.02^2); what writes into the stream divided by sqrt(number of sublayers), and nothing else."""
    w = weights(wide(init={"kind": kind, "std": 0.05}, layers=4))
    for name in ("q", "k", "v", "gate", "up", "embedding"):
        assert pooled(w, f"{name}.weight") == pytest.approx(0.05, rel=0.05), name
    outward = 0.05 / (math.sqrt(8) if kind == "scaled_residual" else 1)
    for name in ("attention.o", "feedforward.down"):
        assert pooled(w, f"{name}.weight") == pytest.approx(outward, rel=0.05), name


def test_scaled_residual_counts_three_sublayers_with_cross_attention() -> None:
    w = weights(wide(family="encoder_decoder", layers=4, encoder={"layers": 2}, init={"std": 0.02}))
    assert pooled(w, "cross_attention.o.weight") == pytest.approx(0.02 / math.sqrt(12), rel=0.05)
    encoder = {n: x for n, x in w.items() if n.startswith("encoder")}
    assert pooled(encoder, "feedforward.down.weight") == pytest.approx(0.02 / math.sqrt(4), rel=0.05)


def test_the_standard_deviation_follows_the_width_unless_given() -> None:
    """sqrt(2 / (5 width)): Nguyen & Salazar 2019; GPT-2's 0.02 at width 1,000."""
    spec = wide(init={"kind": "normal"})
    assert pooled(weights(spec), "q.weight") == pytest.approx(math.sqrt(0.4 / spec.width), rel=0.05)
    assert ModelSpec(width=1000, attention={"heads": 10}).init_std == pytest.approx(0.02)


SCALED = ("v", "o", "gate", "up", "down")


def gains(w: dict[str, Tensor], stack: str) -> dict[str, float]:
    """Root mean square over Glorot's, by matrix, in one stack."""
    out = {}
    for letter in ("q", "k", *SCALED):
        chosen = [
            x.double() / glorot(x)
            for n, x in w.items()
            if n.startswith(f"{stack}.") and n.endswith(f".{letter}.weight")
        ]
        values = torch.cat([x.flatten() for x in chosen])
        out[letter] = float(values.square().mean().sqrt())
    return out


@pytest.mark.parametrize(
    "placement, beta",
    [("deepnet", (8 * 6) ** -0.25), ("glm130b", (2 * 6) ** -0.5), ("subln", math.sqrt(math.log(2 * 6)))],
)
def test_beta_reaches_values_outputs_and_feedforward_alone(placement: str, beta: float) -> None:
    """Not queries and keys: a fused projection often misses it on V, or gives it to all three."""
    found = gains(weights(wide(placement=placement, layers=6)), "decoder")
    for letter in ("q", "k"):
        assert found[letter] == pytest.approx(1.0, rel=0.03), letter
    for letter in SCALED:
        assert found[letter] == pytest.approx(beta, rel=0.03), letter


def test_deepnet_of_two_stacks() -> None:
    """Table 1: encoder 0.87 (N^4 M)^(-1/16), decoder (12 M)^(-1/4); 1.15 = 1/0.87 is another library's slip."""
    n, m = 6, 4
    spec = wide(family="encoder_decoder", placement="deepnet", layers=m, encoder={"layers": n})
    w = weights(spec)
    encoder, decoder = gains(w, "encoder"), gains(w, "decoder")
    right = 0.87 * (n**4 * m) ** (-1 / 16)
    for letter in SCALED:
        assert encoder[letter] == pytest.approx(right, rel=0.03)
        assert decoder[letter] == pytest.approx((12 * m) ** -0.25, rel=0.03)
        assert encoder[letter] != pytest.approx(1.15 * (n**4 * m) ** (-1 / 16), rel=0.03), "the control"
    assert encoder["q"] == pytest.approx(1, rel=0.03) and decoder["k"] == pytest.approx(1, rel=0.03)
    cross = [x for name, x in w.items() if "cross_attention.v." in name]
    assert float(torch.stack([x / glorot(x) for x in cross]).square().mean().sqrt()) == pytest.approx(
        (12 * m) ** -0.25, rel=0.05
    )


def test_subln_of_two_stacks() -> None:
    """Foundation Transformers, table 2: encoder sqrt(ln 3M ln 2N / 3), decoder sqrt(ln 3M)."""
    n, m = 6, 4
    w = weights(wide(family="encoder_decoder", placement="subln", layers=m, encoder={"layers": n}))
    expected = math.sqrt(math.log(3 * m) * math.log(2 * n) / 3)
    assert gains(w, "encoder")["up"] == pytest.approx(expected, rel=0.03)
    assert gains(w, "decoder")["up"] == pytest.approx(math.sqrt(math.log(3 * m)), rel=0.03)


@pytest.mark.parametrize("placement", ["deepnet", "subln", "glm130b"])
def test_uniform_or_normal(placement: str) -> None:
    """Glorot's uniform has kurtosis 1.8 and a hard bound; GLM-130B's is normal, kurtosis 3."""
    w = weights(wide(placement=placement))
    x = torch.cat([v.flatten() for n, v in w.items() if n.endswith(".q.weight")]).double()
    kurtosis = float((x**4).mean() / (x**2).mean() ** 2)
    assert kurtosis == pytest.approx(3.0 if placement == "glm130b" else 1.8, abs=0.15)
    if placement != "glm130b":
        assert x.abs().max() <= math.sqrt(6 / 192) * 1.000001


def test_given_beta_and_plain_xavier() -> None:
    w = weights(wide(placement={"kind": "deepnet", "beta": 0.3}))
    assert gains(w, "decoder")["v"] == pytest.approx(0.3, rel=0.03)
    plain = gains(weights(wide(init="xavier", placement="deepnet")), "decoder")
    assert all(gain == pytest.approx(1, rel=0.03) for gain in plain.values())


def test_t5() -> None:
    """transformers' T5: q by (width x head width)^-1/2, others by fan-in, embeddings 1."""
    w = weights(wide(init="t5", positions="relative", head={"tied": False}, family="encoder_decoder"))
    d = 96 // 4
    expected = {"q": (96 * d) ** -0.5, "k": 96**-0.5, "v": 96**-0.5, "o": 96**-0.5, "up": 96**-0.5, "down": 160**-0.5}
    for letter, std in expected.items():
        assert pooled(w, f".{letter}.weight") == pytest.approx(std, rel=0.05), letter
    assert float(w["embedding.weight"].std()) == pytest.approx(1, rel=0.05)
    assert float(w["head.weight"].std()) == pytest.approx(1, rel=0.05)
    assert float(w["encoder.relative.weight"].std()) == pytest.approx(96**-0.5, rel=0.3)


def test_embeddings_of_xavier_rules_and_as_told() -> None:
    assert float(weights(wide(placement="deepnet"))["embedding.weight"].std()) == pytest.approx(96**-0.5, rel=0.05)
    told = weights(wide(init={"embedding_std": 0.3}))["embedding.weight"]
    assert float(told.std()) == pytest.approx(0.3, rel=0.05)


def test_norms_and_biases_begin_neutral() -> None:
    spec = small(
        norm={"kind": "layernorm"}, family="encoder", attention={"qkv_bias": True, "out_bias": True},
        feedforward={"bias": True}, head={"kind": "mlm", "bias": True, "sentence_pair": True},
    )  # fmt: skip
    for info in layout(spec):
        value = weights(spec)[info.name] if info.part == "norm" or info.name.endswith("bias") else None
        if value is not None:
            assert torch.equal(value, torch.full_like(value, float(info.name.endswith("weight")))), info.name
    head = weights(small(family="encoder", norm="layernorm", head={"kind": "mlm"}))
    assert torch.equal(head["head.norm.weight"], torch.ones(32)) and not head["head.norm.bias"].any()
    assert not weights(small(norm={"plus_one": True}))["decoder.final_norm.weight"].any()
    assert float(weights(small(norm={"kind": "dyt", "alpha": 0.8}))["decoder.final_norm.alpha"]) == pytest.approx(0.8)
