"""The whole model: parameters as the description counts them, families, heads, hook points."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.common import close, made, small, tokens
from torch import Tensor

from assay.errors import UserError
from assay.nn import Transformer, build
from assay.nn.hooks import Record
from assay.nn.masks import to_device
from assay.spec.axes import Family, Parallel, Placement, PositionKind, QKNorm
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Prefix
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

FIELDS = st.fixed_dictionaries(
    {
        "family": st.sampled_from(sorted(Family)),
        "placement": st.fixed_dictionaries(
            {"kind": st.sampled_from(sorted(Placement))},
            optional={"embedding_norm": st.booleans(), "final_norm": st.booleans()},
        ),
        "parallel": st.sampled_from(sorted(Parallel)),
        "norm": st.fixed_dictionaries(
            {"kind": st.sampled_from(["layernorm", "rmsnorm", "dyt", "none"]), "weight": st.booleans()}
        ),
        "positions": st.fixed_dictionaries(
            {"kind": st.sampled_from(sorted(PositionKind))},
            optional={"per_layer": st.booleans(), "offset": st.integers(0, 2), "axes": st.integers(1, 2)},
        ),
        "attention": st.fixed_dictionaries(
            {"heads": st.just(4)},
            optional={
                "kv_heads": st.sampled_from([1, 2, 4]), "head_width": st.sampled_from([4, 8, 16]),
                "qkv_bias": st.booleans(), "out_bias": st.booleans(), "qk_norm": st.sampled_from(sorted(QKNorm)),
                "window": st.integers(1, 9), "softcap": st.just(20.0), "scale_by_layer": st.booleans(),
            },
        ),
        "feedforward": st.fixed_dictionaries(
            {"gated": st.booleans(), "bias": st.booleans()},
            optional={"width": st.just(24), "experts": st.just({"count": 3, "active": 2})},
        ),
        "embedding": st.fixed_dictionaries({"token_types": st.integers(0, 2)}),
        "head": st.fixed_dictionaries(
            {"tied": st.booleans(), "bias": st.booleans()},
            optional={"kind": st.sampled_from(["lm", "mlm", "none"]), "sentence_pair": st.booleans()},
        ),
    },
    optional={"encoder": st.fixed_dictionaries({"layers": st.integers(1, 3)}, optional={"heads": st.just(2)})},
)  # fmt: skip


def spec_or_none(fields: dict[str, Any]) -> ModelSpec | None:
    """The description, or None where it is refused (which `tests/spec` looks into)."""
    base = {"vocab_size": 37, "width": 32, "layers": 2, "context": 16}
    try:
        return ModelSpec.from_dict(base | fields)
    except UserError:
        return None


@given(fields=FIELDS)
@settings(max_examples=150)
def test_parameters_are_those_of_the_layout(fields: dict[str, Any]) -> None:
    spec = spec_or_none(fields)
    if spec is None:
        return
    built = {name: tuple(p.shape) for name, p in build(spec, device="meta").named_parameters()}
    expected = {info.name: info.shape for info in layout(spec)}
    assert built == expected
    assert sum(torch.Size(shape).numel() for shape in built.values()) == spec.parameters()
    assert sum(spec.parameters().parts.values()) == spec.parameters()


@given(fields=FIELDS)
@settings(max_examples=60)
def test_every_accepted_description_runs_and_learns(fields: dict[str, Any]) -> None:
    """Forward and backward are finite, and the gradient reaches every parameter that the loss can reach."""
    spec = spec_or_none(fields)
    if spec is None:
        return
    model = made(spec)
    hidden = run(model, tokens(2, 7))
    assert hidden.shape == (2, 7, 32) and torch.isfinite(hidden).all()
    hidden.square().sum().backward()
    for name, p in model.named_parameters():
        reachable = not name.startswith("head.") and "experts" not in name
        if reachable and p.numel() and "embedding.weight" not in name:
            assert p.grad is not None and torch.isfinite(p.grad).all(), name


def run(model: Transformer, ids: Tensor, **more: Any) -> Tensor:
    """Hidden states of the output stack, every family as it is meant."""
    everything = Mask(Bidirectional())
    if model.decoder is None:
        return model.encode(ids, everything, **more).hidden
    if model.encoder is None:
        return model.decode(ids, Mask(Causal()), **more).hidden
    memory = model.encode(ids.flip(1), everything, **more).hidden
    return model.decode(ids, Mask(Causal()), memory=memory, memory_mask=everything, **more).hidden


def test_families_have_their_stacks() -> None:
    for family, encoder, decoder in (
        ("causal", False, True), ("prefix", False, True), ("encoder", True, False), ("encoder_decoder", True, True)
    ):  # fmt: skip
        model = build(small(family=family))
        assert (model.encoder is not None, model.decoder is not None) == (encoder, decoder)
        assert model.two_stacks == (encoder and decoder)
    two = build(small(family="encoder_decoder", layers=3, encoder={"layers": 1, "heads": 2, "feedforward_width": 20}))
    assert two.encoder is not None and two.decoder is not None
    assert len(two.encoder.blocks) == 1 and len(two.decoder.blocks) == 3
    assert two.encoder.blocks[0].attention.heads == 2 and two.encoder.blocks[0].feedforward.up.out_features == 20
    assert not hasattr(two.encoder.blocks[0], "cross_attention") and hasattr(two.decoder.blocks[0], "cross_attention")


def test_families_differ_by_their_masks_alone() -> None:
    """K2, exactly: one set of weights, a whole prefix makes the causal decoder an encoder."""
    causal, encoder = made(small()), made(small(family="encoder"))
    encoder.load_state_dict({n.replace("decoder.", "encoder."): p for n, p in causal.state_dict().items()})
    ids = tokens(2, 7)
    whole = to_device(Mask(Causal() | Prefix(), MaskFacts(prefix=torch.ones(2, 7, dtype=torch.bool))), "cpu")
    close(causal.decode(ids, whole).hidden, encoder.encode(ids, Mask(Bidirectional())).hidden, 1e-5)


@pytest.mark.parametrize(
    "head", [{}, {"tied": False}, {"bias": True, "softcap": 3.0}, {"normalised": True, "scale": 2.0}]
)
def test_logits_where_asked_are_those_of_all(head: dict[str, Any]) -> None:
    model = made(small(head=head), dtype="float64")
    hidden = run(model, tokens(2, 7))
    where = torch.tensor([0, 5, 8, 13])
    close(model.logits(hidden.flatten(0, 1)[where]), model.logits(hidden).flatten(0, 1)[where])
    h, matrix = hidden, model.embedding.weight if model.head.weight is None else model.head.weight
    if head.get("normalised"):
        matrix = matrix / matrix.norm(dim=1, keepdim=True)
    expected = torch.einsum("bsw,vw->bsv", h * head.get("scale", 1.0), matrix)
    if head.get("bias"):
        assert model.head.bias is not None and model.head.bias.any()
        expected = expected + model.head.bias
    if cap := head.get("softcap"):
        expected = cap * torch.tanh(expected / cap)
    close(model.logits(hidden), expected, 1e-10)


def test_a_tied_matrix_is_one_parameter_and_gets_both_gradients() -> None:
    tied, untied = made(small(head={"tied": True}), dtype="float64"), made(small(head={"tied": False}), dtype="float64")
    assert "head.weight" not in tied.state_dict()
    weights = tied.state_dict()
    untied.load_state_dict(weights | {"head.weight": weights["embedding.weight"]})
    for model in (tied, untied):
        F.cross_entropy(model.logits(run(model, tokens(2, 7))).flatten(0, 1), tokens(14, seed=3)).backward()
    assert untied.head.weight is not None
    close(tied.embedding.weight.grad, untied.embedding.weight.grad + untied.head.weight.grad, 1e-10)


def test_masked_lm_head_is_berts() -> None:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLMPredictionHead

    model = made(small(family="encoder", norm={"kind": "layernorm", "eps": 1e-12}, head={"kind": "mlm", "bias": True}))
    theirs = BertLMPredictionHead(BertConfig(hidden_size=32, vocab_size=37, hidden_act="gelu"))
    ours = model.head
    assert ours.dense is not None and ours.norm is not None and ours.bias is not None
    with torch.no_grad():
        theirs.transform.dense.load_state_dict(ours.dense.state_dict())
        theirs.transform.LayerNorm.load_state_dict(ours.norm.state_dict())
        theirs.decoder.weight.copy_(model.embedding.weight)
        theirs.decoder.bias.copy_(ours.bias)
    hidden = torch.randn(2, 5, 32)
    close(model.logits(hidden), theirs(hidden), 1e-5)


def test_sentence_pair_reads_the_first_token() -> None:
    model = made(small(family="encoder", head={"sentence_pair": True}))
    hidden = torch.randn(3, 5, 32)
    out = model.head.sentence_pair(hidden)
    assert out is not None and out.shape == (3, 2)
    assert torch.equal(out, model.head.sentence_pair(torch.cat([hidden[:, :1], torch.randn(3, 4, 32)], 1)))
    assert made(small()).head.sentence_pair(hidden) is None


def test_gradient_shrink_changes_the_embeddings_gradient_alone() -> None:
    """GLM-130B: e a + stopgrad(e) (1 - a). Untied, so that the output matrix adds nothing."""
    fields: dict[str, Any] = {"head": {"tied": False}, "positions": "learned"}
    plain = made(small(**fields), dtype="float64")
    shrunk = made(small(**fields, embedding={"gradient_shrink": 0.1}), dtype="float64")
    ids = tokens(2, 7)
    for model in (plain, shrunk):
        run(model, ids).square().mul(torch.linspace(0, 1, 32)).sum().backward()
    close(run(shrunk, ids), run(plain, ids), 1e-12)
    for (name, p), q in zip(plain.named_parameters(), shrunk.parameters(), strict=True):
        if p.grad is None:
            assert name.startswith("head.") and q.grad is None
        else:
            assert q.grad is not None
            close(q.grad, p.grad * (0.1 if name == "embedding.weight" else 1.0), 1e-9)


def test_embedding_scale_and_token_types() -> None:
    model = made(small(embedding={"scale": 32**0.5, "token_types": 2}, family="encoder"))
    ids, types = tokens(2, 7), tokens(2, 7, vocab=2)
    record = Record(lambda name: name == "encoder.embedding")
    model.encode(ids, Mask(Bidirectional()), token_type_ids=types, tap=record)
    assert model.encoder is not None and model.encoder.token_types is not None
    expected = model.embedding.weight[ids] * 32**0.5 + model.encoder.token_types.weight[types]
    close(record.values["encoder.embedding"], expected, 1e-6)
    model.encode(ids, Mask(Bidirectional()), tap=record)
    close(
        record.values["encoder.embedding"] - model.embed(ids),
        model.encoder.token_types.weight[0].expand(2, 7, 32),
        1e-5,
    )


def test_token_types_beside_two_rows_of_positions() -> None:
    model = made(small(positions={"kind": "learned", "axes": 2}, embedding={"token_types": 1}))
    assert run(model, tokens(2, 7)).shape == (2, 7, 32)


def test_states_are_embeddings_then_every_layer_and_the_norm_last() -> None:
    model, ids = made(small(layers=3)), tokens(2, 7)
    record = Record(lambda name: name.endswith((".in", ".out", "embedding", "final")) and name.count(".") < 4)
    out = model.decode(ids, Mask(Causal()), states=True, tap=record)
    assert out.states is not None and len(out.states) == 4 and torch.equal(out.states[-1], out.hidden)
    assert torch.equal(out.states[0], record.values["decoder.embedding"])
    for layer in range(2):
        assert torch.equal(out.states[layer + 1], record.values[f"decoder.blocks.{layer}.out"])
        assert torch.equal(out.states[layer + 1], record.values[f"decoder.blocks.{layer + 1}.in"])
    assert model.decode(ids, Mask(Causal())).states is None


def names_of(stack: str, layers: int, cross: bool) -> set[str]:
    """The names that `nn/hooks.py` documents."""
    inside = {"in", "out", "feedforward.inner", "feedforward.out"}
    for kind in ("attention", "cross_attention") if cross else ("attention",):
        inside |= {f"{kind}.{point}" for point in ("q", "k", "v", "scores", "pattern", "out")}
    blocks = {f"{stack}.blocks.{i}.{name}" for i in range(layers) for name in inside}
    return blocks | {f"{stack}.embedding", f"{stack}.final"}


@pytest.mark.parametrize("placement", ["pre", "post", "residual", "subln"])
@pytest.mark.parametrize("family", sorted(Family))
def test_taps_see_every_name_and_change_nothing(family: str, placement: str) -> None:
    model = made(small(family=family, placement=placement))
    everything, quiet = Record(lambda name: True), Record(lambda name: not name.endswith(("scores", "pattern")))
    ids = tokens(2, 7)
    plain = model.logits(run(model, ids))
    with_quiet = model.logits(run(model, ids, tap=quiet), tap=quiet)
    assert torch.equal(with_quiet, plain), "bit for bit, on the fused path"
    explicit = model.logits(run(model, ids, tap=everything), tap=everything)
    close(explicit, plain, 1e-4)
    again = Record(lambda name: name.endswith("scores"))
    assert torch.equal(model.logits(run(model, ids, tap=again)), explicit), "and on the explicit one"
    expected = {"logits"}
    for stack in model.spec.stacks:
        expected |= names_of(stack, 2, cross=model.two_stacks and stack == "decoder")
    assert set(everything.values) == expected
    for name, value in everything.values.items():
        assert not value.requires_grad
        lead = (2, 2) if placement == "residual" and name.endswith((".in", "blocks.0.out", "blocks.1.out")) else (2,)
        assert value.shape[: len(lead)] == lead, name
        if name.endswith("pattern"):
            close(value.sum(-1), torch.ones(value.shape[:-1]), 1e-5)
        if name.endswith("inner"):
            assert value.shape[-1] == 48


def test_a_recording_tap_can_keep_gradients() -> None:
    model = made(small())
    record = Record(lambda name: name.endswith("attention.out"), grad=True)
    run(model, tokens(2, 7), tap=record).square().sum().backward()
    assert len(record.values) == 2
    assert all(value.grad is not None and value.grad.any() for value in record.values.values())


def test_a_tap_may_change_what_goes_on() -> None:
    """Ablation: attention's output set to zero in every layer is a model without attention."""

    class Ablate:
        def wants(self, name: str) -> bool:
            return name.endswith("attention.out")

        def __call__(self, name: str, value: Tensor) -> Tensor:
            return torch.zeros_like(value)

    model, ids = made(small(positions="none")), tokens(1, 7)
    out = run(model, ids, tap=Ablate())
    shuffled = torch.randperm(7)
    close(run(model, ids[:, shuffled], tap=Ablate()), out[:, shuffled], 1e-6)
    assert not torch.allclose(run(model, ids), out, atol=1e-3)


def test_dropout_acts_in_training_alone() -> None:
    model, ids = made(small(dropout=0.3, embedding={"dropout": 0.1})), tokens(2, 7)
    assert torch.equal(run(model, ids), run(model, ids))
    model.train()
    assert not torch.equal(run(model, ids), run(model, ids))


def test_low_precision_runs_in_low_precision() -> None:
    model = build(small(placement="deepnet", attention={"scale_by_layer": True}), dtype="bfloat16")
    assert model.logits(run(model, tokens(2, 7))).dtype == torch.bfloat16
