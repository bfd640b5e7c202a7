"""The classic mistakes around DeepNorm, each made here on purpose and caught (or shown to be out of reach).

Where the others are held: alpha on the branch, test_block.test_alpha_on_the_branch_is_caught; the encoder's beta of
1.15, test_init.test_deepnet_of_two_stacks; beta reaching V and not Q and K, test_init.test_beta_reaches_values_...
"""

import math
from pathlib import Path

import pytest
import torch
from tests.nn.common import close, filled, small

import assay
from assay.nn import build
from assay.nn.stack import Stack
from assay.spec.masks import Causal, Mask
from assay.spec.model import ModelSpec

BETA = 0.3


def gain(weight: torch.Tensor) -> float:
    """Root mean square over Glorot's for a square matrix."""
    return float(weight.detach().double().square().mean().sqrt() / math.sqrt(2 / sum(weight.shape)))


def test_a_fused_projection_initialised_whole_is_caught() -> None:
    """Glorot of one [3 d, d] matrix: no beta on V, and a fan of 4 d that makes all three too small by sqrt(2)."""
    spec = small(width=256, layers=3, placement={"kind": "deepnet", "beta": BETA}, attention={"heads": 4})
    own = build(spec).decoder.blocks[0].attention
    assert [round(gain(m.weight), 2) for m in (own.q, own.k, own.v)] == [1.0, 1.0, BETA]
    fused = torch.nn.init.xavier_uniform_(torch.empty(3 * 256, 256))
    for wrong in fused.chunk(3):
        assert gain(wrong) == pytest.approx(2**-0.5, rel=0.02)
        assert gain(wrong) != pytest.approx(1.0, rel=0.1) and gain(wrong) != pytest.approx(BETA, rel=0.1)


def test_beta_on_v_survives_a_fused_file(tmp_path: Path) -> None:
    """BLOOM's file interleaves Q, K and V head by head in one matrix: what beta made of V comes back to V alone."""
    fields = assay.preset("bloom-560m").to_dict() | {"width": 64, "layers": 2, "vocab_size": 97}
    fields |= {"attention": {"heads": 4, "qkv_bias": True, "out_bias": True}, "init": "deepnet"}
    fields |= {"placement": {"kind": "pre", "embedding_norm": True, "beta": BETA}}
    model = assay.build(ModelSpec.from_dict(fields))
    model.save(tmp_path, format="hf")
    from safetensors.torch import load_file

    (fused,) = [
        t
        for n, t in load_file(tmp_path / "model.safetensors").items()
        if n.endswith("h.0.self_attention.query_key_value.weight")
    ]
    thirds = [gain(part) for part in fused.chunk(3)]
    assert thirds[2] > 0.6 * thirds[0], "the control: cut into thirds, as if not interleaved, V cannot be told"
    back = assay.load(tmp_path).transformer.decoder.blocks[0].attention
    for name, expected in (("q", 1.0), ("k", 1.0), ("v", BETA)):
        weight = getattr(back, name).weight
        assert torch.equal(weight, getattr(model.transformer.decoder.blocks[0].attention, name).weight)
        assert gain(weight) == pytest.approx(expected, rel=0.05)


def test_reading_chatglms_block_as_pre_norm_is_caught() -> None:
    """h = LN(x); x' = alpha h + f(h) is Post-LN moved to the next entry: with x in the skip it is another function."""
    alpha = 1.7
    base = {"norm": "layernorm", "positions": "none", "feedforward": {"width": 48}}
    normed = filled(Stack(small(placement={"kind": "glm130b", "alpha": alpha}, **base), "decoder"))
    stream = filled(Stack(small(placement={"kind": "glm130b", "alpha": alpha, "skip": "stream"}, **base), "decoder"))
    stream.load_state_dict(normed.state_dict())
    x = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = normed(x, Mask(Causal())).hidden
    # What tells the two apart: the scale of x never reaches past the normed skip.
    close(normed(1000 * x, Mask(Causal())).hidden, out, 1e-3)
    with pytest.raises(AssertionError):
        close(stream(1000 * x, Mask(Causal())).hidden, stream(x, Mask(Causal())).hidden, 1e-1)
    with pytest.raises(AssertionError):
        close(stream(x, Mask(Causal())).hidden, out, 1e-2)
