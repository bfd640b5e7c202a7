"""FLOPs counted from the description against enumeration, and against 6 N D."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spec.strategies import specs

from assay.spec.axes import Family
from assay.spec.flops import visible_pairs
from assay.spec.masks import Bidirectional, Causal, MaskFacts, Prefix, Rule, Window
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout
from assay.spec.published import preset


@given(
    length=st.integers(1, 40),
    causal=st.booleans(),
    prefix=st.integers(0, 50),
    window=st.none() | st.integers(1, 50),
)
@settings(max_examples=300)
def test_visible_pairs_are_what_the_rule_leaves_open(
    length: int, causal: bool, prefix: int, window: int | None
) -> None:
    rule: Rule = Causal() | Prefix() if causal else Bidirectional()
    if window is not None:
        rule = rule & Window(window)
    q, k = np.arange(length)[:, None], np.arange(length)[None, :]
    seen = rule(0, q, k, MaskFacts(prefix=(np.arange(length) < prefix)[None]))
    counted = visible_pairs(length, causal=causal, prefix=prefix if causal else 0, window=window)
    assert counted == np.broadcast_to(seen, (length, length)).sum()


def by_hand(spec: ModelSpec, length: int, decoder_length: int, targets: int, prefix: int) -> float:
    """Every matrix product of the forward pass, from the shapes of the parameters; attention pair by pair."""
    lengths = {"encoder": length, "decoder": decoder_length if len(spec.stacks) == 2 else length}
    total = 0.0
    for parameter in layout(spec):
        if parameter.part not in ("attention", "cross_attention", "feedforward") or len(parameter.shape) != 2:
            continue
        stack = parameter.name.split(".")[0]
        tokens = lengths[stack]
        if parameter.part == "cross_attention" and parameter.name.split(".")[-2] in ("k", "v"):
            tokens = lengths["encoder"]
        experts = spec.feedforward.experts
        share = experts.active / experts.count if experts and ".experts." in parameter.name else 1
        total += 2 * parameter.size * tokens * share
    for stack in spec.stacks:
        n = lengths[stack]
        for layer in range(spec.depth(stack)):
            window = spec.window(layer)
            for q in range(n):
                for k in range(n):
                    seen = stack == "encoder" or k <= q or (spec.family is Family.prefix and k < prefix)
                    near = window is None or abs(q - k) < window
                    # scores and mixing: 2 products of head_width, 2 FLOPs each
                    total += 4 * spec.heads(stack) * spec.head_width(stack) * (seen and near)
    if len(spec.stacks) == 2:
        pairs = lengths["encoder"] * lengths["decoder"]
        total += spec.depth("decoder") * 4 * spec.heads("decoder") * spec.head_width("decoder") * pairs
    if spec.head.kind != "none":
        total += 2 * spec.vocab_size * spec.width * targets
    if spec.head.kind == "mlm":
        total += 2 * spec.width**2 * targets
    return total


@given(specs(), st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
@settings(max_examples=150)
def test_a_forward_pass_is_the_sum_of_its_products(
    spec: ModelSpec, length: int, decoder_length: int, targets: int
) -> None:
    prefix = length // 2
    counted = spec.flops(length, decoder_length=decoder_length, targets=targets, prefix=prefix)
    assert counted == pytest.approx(by_hand(spec, length, decoder_length, targets, prefix), rel=1e-9, abs=1e-3)


@given(specs(), st.integers(1, 32))
@settings(max_examples=50)
def test_training_is_three_times_forward_and_parts_sum_up(spec: ModelSpec, length: int) -> None:
    forward, training = spec.flops(length), spec.flops(length, training=True)
    assert training == pytest.approx(3 * forward)
    assert sum(training.parts.values()) == pytest.approx(training)
    assert forward.per_token == pytest.approx(forward / (length * len(spec.stacks)))


def test_six_n_d() -> None:
    # 6 N D leaves out attention over pairs and counts embeddings that do no arithmetic: close at GPT-3's size.
    spec = preset("gpt3")
    tokens = 300e9
    counted = spec.flops(2048, training=True).per_token * tokens
    assert counted == pytest.approx(6 * spec.parameters() * tokens, rel=0.03)
    assert 6 * spec.parameters() * tokens == pytest.approx(3.14e23, rel=0.002)


def test_an_encoder_decoder_passes_each_token_through_one_half() -> None:
    spec = preset("t5-11b")
    counted = spec.flops(512, decoder_length=114, training=True)
    simple = 6 * spec.parameters() * (512 + 114)
    assert 1.8 < simple / counted < 2.2


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"attention.window": 4}, {"pairs"}),
        ({"vocab_size": 4096}, {"head"}),
        ({"feedforward.width": 999}, {"feedforward"}),
        ({"attention.kv_heads": 1}, {"attention"}),
        ({"norm": "layernorm"}, set()),
        ({"head.tied": False}, set()),
    ],
)
def test_a_change_touches_its_own_part(change: dict[str, Any], parts: set[str]) -> None:
    before, after = ModelSpec().flops(64).parts, ModelSpec().with_(**change).flops(64).parts
    assert {part for part in before if before[part] != after[part]} == parts


def test_a_mixture_counts_active_experts() -> None:
    spec = preset("mixtral")
    forward = spec.flops(1, targets=0)
    active = 12.88e9 - 2 * 32000 * 4096  # embeddings do no arithmetic here
    assert forward == pytest.approx(2 * active, rel=0.001)
