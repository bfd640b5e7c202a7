"""Position encodings against their papers' formulas, transformers' tables, and the properties they exist for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.common import close, made, small, tokens
from torch import Tensor

from assay.nn.hooks import Record
from assay.nn.positions import alibi_slopes, relative_buckets, rope_frequencies, rotary, rotate, sinusoids
from assay.spec.masks import Bidirectional, Causal, Mask
from assay.spec.parts import PositionSpec

SCALINGS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    "default": (None, None),
    "linear": ({"kind": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    "dynamic": (
        {"kind": "dynamic", "factor": 2.0, "original_length": 64},
        {"rope_type": "dynamic", "factor": 2.0},
    ),
    "llama3": (
        {"kind": "llama3", "factor": 8.0, "original_length": 64, "low_frequency": 1.0, "high_frequency": 4.0},
        {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64,
         "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ),
    "yarn": (
        {"kind": "yarn", "factor": 4.0, "original_length": 64},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    ),
    "yarn of deepseek": (
        {"kind": "yarn", "factor": 40.0, "original_length": 64, "mscale": 0.707, "mscale_all_dim": 1.0,
         "beta_fast": 16.0, "beta_slow": 2.0},
        {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 64, "mscale": 0.707,
         "mscale_all_dim": 1.0, "beta_fast": 16.0, "beta_slow": 2.0},
    ),
    "yarn untruncated": (
        {"kind": "yarn", "factor": 4.0, "original_length": 64, "truncate": False, "attention_factor": 1.25},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "truncate": False,
         "attention_factor": 1.25},
    ),
}  # fmt: skip


@pytest.mark.parametrize("length", [40, 150])
@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_rope_tables_are_transformers_tables(scaling: str, theta: float, length: int) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    ours, theirs = SCALINGS[scaling]
    config = LlamaConfig(
        hidden_size=128, num_attention_heads=4, max_position_embeddings=64, rope_theta=theta, rope_scaling=theirs
    )
    ids = torch.arange(length)[None]
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), ids)
    table = rotary(PositionSpec.model_validate({"theta": theta, "scaling": ours}), 32, ids, length)
    close(table.q_cos, cos, 5e-5)
    close(table.q_sin, sin, 5e-5)
    assert table.k_cos is table.q_cos
    if scaling != "default" and (scaling != "dynamic" or length > 64):
        plain = rotary(PositionSpec(theta=theta), 32, ids, length)
        assert not torch.allclose(plain.q_cos, cos, atol=1e-2), "the control: a stretch shows"


def complex_rope(x: Tensor, position: Tensor, theta: float) -> Tensor:
    """RoFormer, equation 12: each interleaved pair of features as a complex number, times exp(i m theta_i)."""
    d = x.shape[-1]
    angle = position[:, None].double() * theta ** (-torch.arange(0, d, 2).double() / d)
    turned = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous()) * torch.polar(
        torch.ones_like(angle), angle
    )
    return torch.view_as_real(turned).flatten(-2)


@given(seed=st.integers(0, 2**20), half=st.integers(1, 16), start=st.integers(0, 200))
@settings(max_examples=25)
def test_interleaved_rope_is_a_complex_rotation_and_half_its_permutation(seed: int, half: int, start: int) -> None:
    d = 2 * half
    x = torch.randn(2, 3, 5, d, generator=torch.Generator().manual_seed(seed))
    ids = torch.arange(start, start + 5)
    paper = complex_rope(x, ids, 10_000.0)

    def turn(x: Tensor, pairing: str) -> Tensor:
        table = rotary(PositionSpec(pairing=pairing), d, ids[None])
        return rotate(x, table.q_cos, table.q_sin, interleaved=pairing == "interleaved", axes=1)

    close(turn(x, "interleaved"), paper, 5e-5)
    # Feature 2i of the paper is feature i of the half form, 2i + 1 is i + d/2.
    order = torch.cat([torch.arange(0, d, 2), torch.arange(1, d, 2)])
    close(turn(x[..., order], "half"), paper[..., order], 5e-5)
    if half > 1 and start:
        with pytest.raises(AssertionError):
            close(turn(x, "half"), paper, 1e-3)


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"pairing": "interleaved"}, {"fraction": 0.5}, {"fraction": 0.5, "pairing": "interleaved"},
        {"theta": 5e5}, {"half_frequencies": True}, {"xpos": True}, {"xpos": True, "pairing": "interleaved"},
        {"scaling": {"kind": "yarn", "factor": 4, "original_length": 16}},
        {"scaling": {"kind": "llama3", "factor": 4, "original_length": 16}},
    ],
    ids=str,
)  # fmt: skip
def test_scores_depend_on_distance_alone(fields: dict[str, Any]) -> None:
    """q at m and k at n score as q at m + s and k at n + s."""
    say, d = PositionSpec.model_validate(fields), 16
    rotated = int(d * say.fraction)
    q, k = torch.randn(1, 1, 1, d), torch.randn(1, 1, 1, d)

    def score(m: int, n: int) -> float:
        ids = torch.tensor([[m, n]])
        table = rotary(say, rotated, ids, 64)
        interleaved = say.pairing == "interleaved"
        a = rotate(q, table.q_cos[:, :1], table.q_sin[:, :1], interleaved=interleaved, axes=1)
        b = rotate(k, table.k_cos[:, 1:], table.k_sin[:, 1:], interleaved=interleaved, axes=1)
        return float((a * b).sum())

    for distance in (0, 1, 7):
        near = score(distance, 0)
        assert score(distance + 3, 3) == pytest.approx(near, abs=1e-4)
        assert score(distance + 40, 40) == pytest.approx(near, abs=1e-4)
    assert abs(score(9, 0) - score(0, 0)) > 1e-3, "and on distance it does depend"


def test_two_axes_turn_a_half_each() -> None:
    """ChatGLM-6B: the first half of a head by the first row of positions, the second by the second."""
    say, x = PositionSpec(axes=2), torch.randn(1, 2, 4, 16)
    rows = torch.tensor([[[0, 1, 2, 2], [0, 0, 0, 1]]])
    table = rotary(say, 16, rows)
    ours = rotate(x, table.q_cos, table.q_sin, interleaved=False, axes=2)
    for part, ids in ((slice(0, 8), rows[:, 0]), (slice(8, 16), rows[:, 1])):
        alone = rotary(PositionSpec(), 8, ids)
        close(ours[..., part], rotate(x[..., part], alone.q_cos, alone.q_sin, interleaved=False, axes=1), 1e-6)


def test_half_frequencies_round_to_float16() -> None:
    plain, _ = rope_frequencies(PositionSpec(), 64)
    rounded, _ = rope_frequencies(PositionSpec(half_frequencies=True), 64)
    assert torch.equal(rounded, plain.half().float()) and not torch.equal(rounded, plain)


def test_xpos_is_its_formula() -> None:
    """Sun et al. 2022: queries times zeta^p, keys times zeta^-p, zeta_i = (i/(d/2) + 0.4) / 1.4, p in units of 512."""
    d, ids = 8, torch.arange(10)[None]
    table = rotary(PositionSpec(xpos=True), d, ids, centre=4)
    plain = rotary(PositionSpec(), d, ids)
    zeta = (np.arange(0, d, 2) / d + 0.4) / 1.4
    power = torch.from_numpy(zeta ** ((np.arange(10)[:, None] - 4) / 512))
    power = torch.cat([power, power], -1)[None]
    close(table.q_cos, plain.q_cos * power, 1e-6)
    close(table.k_sin, plain.k_sin / power, 1e-6)


def test_xpos_of_a_token_does_not_change_as_the_text_grows() -> None:
    """Cached keys keep their scale: the first tokens' outputs are the same in a longer text."""
    model = made(small(positions={"xpos": True, "xpos_base": 16}))
    ids = tokens(1, 12)
    whole = model.decode(ids, Mask(Causal())).hidden
    close(model.decode(ids[:, :5], Mask(Causal())).hidden, whole[:, :5], 1e-5)
    seen = {}
    for n in (5, 12):
        record = Record(lambda name: name == "decoder.blocks.0.attention.k")
        model.decode(ids[:, :n], Mask(Causal()), tap=record)
        seen[n] = record.values["decoder.blocks.0.attention.k"]
    close(seen[5], seen[12][:, :, :5], 1e-6)


@pytest.mark.parametrize("heads", range(1, 21))
def test_alibi_slopes_are_blooms(heads: int) -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    close(alibi_slopes(heads), theirs, 1e-6)


@given(
    buckets=st.integers(2, 16).map(lambda n: 4 * n),
    spread=st.integers(2, 20),
    bidirectional=st.booleans(),
    length=st.integers(2, 200),
)
@settings(max_examples=60)
def test_buckets_are_t5s(buckets: int, spread: int, bidirectional: bool, length: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    farthest = buckets * spread
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    ours = relative_buckets(distance, bidirectional=bidirectional, buckets=buckets, max_distance=farthest)
    theirs = T5Attention._relative_position_bucket(distance, bidirectional, buckets, farthest)
    assert torch.equal(ours, theirs)
    assert ours.min() >= 0 and ours.max() < buckets


@given(width=st.integers(1, 32).map(lambda n: 2 * n), theta=st.floats(100, 1e5), start=st.integers(0, 100))
@settings(max_examples=25)
def test_sinusoids_are_the_papers(width: int, theta: float, start: int) -> None:
    ids = torch.arange(start, start + 6)
    angle = ids.numpy()[:, None] / theta ** (np.arange(0, width, 2) / width)
    paper = np.empty((6, width))
    paper[:, 0::2], paper[:, 1::2] = np.sin(angle), np.cos(angle)
    ours = sinusoids(ids[None], width, theta)[0]
    close(ours, torch.from_numpy(paper), 1e-4)
    if width > 2:  # the control: tensor2tensor's halves in place of pairs
        with pytest.raises(AssertionError):
            close(ours, torch.from_numpy(np.concatenate([np.sin(angle), np.cos(angle)], -1)), 1e-3)


def watch(model: Any, stack: str, mask: Mask, ids: Tensor) -> dict[str, Tensor]:
    record = Record(lambda name: name.endswith(("scores", "pattern")))
    (model.encode if stack == "encoder" else model.decode)(ids, mask, tap=record)
    return record.values


@pytest.mark.parametrize("heads", [4, 6])
def test_alibi_adds_slope_times_distance(heads: int) -> None:
    spec = small(width=24, positions={"kind": "alibi"}, attention={"heads": heads})
    values = watch(made(spec), "decoder", Mask(Causal()), tokens(2, 9))
    q, k = np.arange(9)[:, None], np.arange(9)[None]
    bias = torch.from_numpy(np.where(k <= q, -(q - k), -np.inf))
    expected = torch.softmax(
        values["decoder.blocks.1.attention.scores"] + alibi_slopes(heads)[:, None, None] * bias, -1
    )
    close(values["decoder.blocks.1.attention.pattern"], expected, 1e-5)


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("family", ["causal", "encoder"])
def test_relative_bias_is_t5s(family: str, per_layer: bool) -> None:
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    stack = "encoder" if family == "encoder" else "decoder"
    spec = small(
        family=family, positions={"kind": "relative", "buckets": 8, "max_distance": 12, "per_layer": per_layer}
    )
    model, n = made(spec), 14
    mask = Mask(Bidirectional() if stack == "encoder" else Causal())
    values = watch(model, stack, mask, tokens(1, n))
    for layer in (0, 1):
        block = getattr(model, stack).blocks[layer]
        table = block.attention.relative if per_layer else getattr(model, stack).relative
        config = T5Config(
            num_heads=4, relative_attention_num_buckets=8, relative_attention_max_distance=12,
            is_decoder=stack == "decoder",
        )  # fmt: skip
        theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
        theirs.relative_attention_bias.load_state_dict(table.state_dict())
        scores = values[f"{stack}.blocks.{layer}.attention.scores"] + theirs.compute_bias(n, n)
        if stack == "decoder":
            scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
        close(values[f"{stack}.blocks.{layer}.attention.pattern"], torch.softmax(scores, -1), 1e-5)


@pytest.mark.parametrize("offset", [0, 2])
def test_learned_tables_add_their_row(offset: int) -> None:
    model, ids = made(small(positions={"kind": "learned", "offset": offset})), tokens(2, 6)
    record = Record(lambda name: name.endswith("embedding"))
    where = torch.tensor([[3, 4, 5, 0, 1, 2]])
    model.decode(ids, Mask(Causal()), position_ids=where, tap=record)
    assert model.decoder is not None and model.decoder.positions is not None
    expected = model.embedding.weight[ids] + model.decoder.positions.weight[where + offset]
    assert torch.equal(record.values["decoder.embedding"], expected)


@pytest.mark.parametrize("heads", [2, 8])
def test_an_encoder_with_other_heads_turns_all_of_their_features(heads: int) -> None:
    model = made(small(family="encoder_decoder", encoder={"heads": heads}))
    record = Record(lambda name: name.endswith(("attention.q", "attention.k")))
    ids = tokens(1, 6)
    model.encode(ids, Mask(Bidirectional()), tap=record)
    assert model.encoder is not None
    turned = record.values["encoder.blocks.0.attention.q"]
    block = model.encoder.blocks[0]
    h = block.attention_before(model.embed(ids))
    flat = block.attention.q(h).unflatten(-1, (heads, 32 // heads)).transpose(1, 2)
    d = 32 // heads
    order = torch.cat([torch.arange(0, d, 2), torch.arange(1, d, 2)])
    back = torch.empty_like(flat)
    back[..., order] = flat  # half form to the paper's
    close(turned, complex_rope(back, torch.arange(6), 10_000.0)[..., order], 1e-4)
