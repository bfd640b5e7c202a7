"""Ranks inside models: collapse and what stops it, masks, both streams, ablations that do what they say."""

import pytest
import torch
from tests.probes.common import assert_untouched, made, spec_of, state

from assay.errors import UserError
from assay.probes.rank import ablated, rank
from assay.spec.model import ModelSpec

IDS = torch.randint(0, 11, (2, 12), generator=torch.Generator().manual_seed(0))


def deep(**fields: object) -> ModelSpec:
    return spec_of(layers=8, width=16, attention={"heads": 2}, positions="none", **fields)


def residuals(spec: ModelSpec, without: tuple[str, ...], seed: int = 0) -> list[float]:
    net = ablated(spec, without, seed=seed, dtype="float64")
    return [layer.residual for layer in rank(net, IDS, without=without).layers]


@pytest.mark.parametrize("family", ["encoder", "causal"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pure_attention_collapses_and_skips_stop_it(family: str, seed: int) -> None:
    """Dong et al. 2021, figure 2; Wu et al. 2024 for the masked kind."""
    spec = deep(family=family)
    pure = residuals(spec, ("skip", "feedforward"), seed)
    whole, skips = residuals(spec, (), seed), residuals(spec, ("feedforward",), seed)
    assert pure[-1] < 0.1 * pure[0] and pure[-1] < 0.3 * whole[-1] and pure[-1] < 0.3 * skips[-1]
    assert whole[-1] > 0.2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bidirectional_pure_attention_collapses_doubly_exponentially_the_causal_kind_slower(seed: int) -> None:
    """Small weights without norms: each residual is under the cube of the one before (Dong et al. 2021, theorem 2.2);
    under the causal mask the first token sees itself alone, and the collapse is slower (Wu et al. 2024)."""
    init = {"kind": "normal", "std": 0.2, "embedding_std": 1.0}
    pure = ("skip", "feedforward", "norm")
    found = residuals(deep(family="encoder", init=init), pure, seed)
    assert found[2] < found[1] ** 3 and found[3] < found[2] ** 3 and found[4] < 1e-12
    causal = residuals(deep(family="causal", init=init), pure, seed)
    assert causal[4] > 1e3 * found[3]


def test_attention_by_mask() -> None:
    for family, triangular in (("causal", True), ("prefix", False), ("encoder", False)):
        report = rank(made(spec_of(family=family)), IDS, prefix_length=5 if family == "prefix" else None)
        assert len(report.heads) == 4 and all(h.size == 12 for h in report.heads)
        assert all((h.diagonal is True) == triangular for h in report.heads)
        if triangular:  # a positive diagonal: full rank, in exact arithmetic and here
            assert all(h.exact == 12 for h in report.heads)
        assert [layer.layer for layer in report.layers] == [0, 1, 2]


def test_measures_are_those_of_the_patterns_themselves() -> None:
    from assay.generation.visibility import self_context
    from assay.nn.hooks import Record
    from assay.probes.spectra import effective_rank

    net = made(spec_of())
    record = Record(lambda name: name.endswith(("pattern", "blocks.1.out")))
    with torch.no_grad():
        net.decode(IDS, self_context(net.spec, IDS, None, None, None).mask, tap=record)
    pattern = record.values["decoder.blocks.1.attention.pattern"]
    expected = effective_rank(torch.linalg.svdvals(pattern)).mean(0)
    report = rank(net, IDS)
    got = [h.effective for h in report.heads if h.layer == 2]
    assert got == pytest.approx(expected.tolist())
    x = record.values["decoder.blocks.1.out"]
    away = [float(torch.linalg.norm(e - e.mean(0)) / torch.linalg.norm(e)) for e in x]
    assert report.layers[-1].residual == pytest.approx(sum(away) / 2)


def test_an_encoder_decoder_shows_both_stacks_and_cross_attention() -> None:
    net = made(spec_of(family="encoder_decoder"))
    report = rank(net, IDS, decoder_input_ids=IDS[:, :7])
    kinds = {(h.stack, h.sublayer, h.size) for h in report.heads}
    assert kinds == {("encoder", "attention", 12), ("decoder", "attention", 7), ("decoder", "cross_attention", 7)}
    assert {layer.stack for layer in report.layers} == {"encoder", "decoder"}
    with pytest.raises(UserError, match="needs them"):
        rank(net, IDS)


def test_the_model_stays_as_it_is_and_attention_can_be_left_out() -> None:
    net = made(spec_of()).train()
    before = state(net)
    report = rank(net, IDS, attention=False)
    assert not report.heads and len(report.layers) == 3 and net.training
    assert_untouched(net, before)


@pytest.mark.parametrize("placement", ["pre", "post", "sandwich", "deepnet", "glm130b", "reordered"])
def test_without_skips_a_block_is_its_sublayers_alone(placement: str) -> None:
    """Zeroed output projections then leave nothing at all, where with skips the stream would pass."""
    spec = spec_of(placement=placement, norm="none")
    outs = []
    for without in ((), ("skip",)):
        net = ablated(spec, without, dtype="float64")
        with torch.no_grad():
            for name, p in net.named_parameters():
                if name.endswith(("attention.o.weight", "feedforward.down.weight")):
                    p.zero_()
        outs.append(rank(net, IDS, without=without).layers[-1])
    assert outs[0].effective > 1 and outs[1].effective == 0


def test_refusals() -> None:
    net = made(spec_of())
    with pytest.raises(UserError, match="2 tokens or more"):
        rank(net, IDS[:, :1])
    with pytest.raises(UserError, match="has one stack"):
        rank(net, IDS, decoder_input_ids=IDS)
    with pytest.raises(UserError, match="--without mlp"):
        ablated(spec_of(), ("mlp",))
    with pytest.raises(UserError):
        ablated(spec_of(placement="residual"), ("norm",))
