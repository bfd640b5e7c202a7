"""UL2's mixture of denoisers: its shares, each denoiser's counts, and what short texts leave of long spans."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objectives.common import NAMED, SENTINELS, VOCABULARY, agrees, build, equally, many, text
from tests.objectives.test_span_corruption import restore

from assay.objectives import MIXTURES, UL2, Key, SpanCorruption, Texts
from assay.objectives.span_corruption import noise_counts

FAMILIES = ("causal", "prefix", "encoder_decoder")
keys = st.builds(Key, st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 2**40))
mixtures = st.sampled_from(sorted(MIXTURES))


def of_kind(objective: UL2, kind: int, length: int, count: int) -> list[tuple[list[int], list[int]]]:
    """(inputs without mode and end, targets without end) of `count` texts that one denoiser gets."""
    numbers = np.arange(40 * count)
    numbers = numbers[objective.modes(numbers, seed=0, epoch=0) == kind][:count]
    assert len(numbers) == count
    examples = objective.examples(
        Texts(np.tile(text(length), count), np.full(count, length), numbers, np.ones(count, bool), 0)
    )
    return [(examples[i].inputs[1:-1].tolist(), examples[i].targets[:-1].tolist()) for i in range(count)]


def test_the_published_settings():
    seven = {(d.mode, d.density, d.mean_span) for d in MIXTURES["ul2"]}
    assert seven == {
        ("[NLU]", 0.15, 3), ("[NLU]", 0.15, 8), ("[NLG]", 0.5, 3), ("[NLG]", 0.5, 8),
        ("[NLG]", 0.15, 64), ("[NLG]", 0.5, 64), ("[S2S]", 0.25, None),
    }  # fmt: skip
    assert Counter(d.mode for d in MIXTURES["ul2"]) == {"[NLU]": 2, "[NLG]": 4, "[S2S]": 1}
    assert {d.mode: d.share for d in MIXTURES["upalm"]} == {"[S2S]": 0.5, "[NLU]": 0.25, "[NLG]": 0.25}
    assert all(sum(d.share for d in m) == pytest.approx(1) for m in MIXTURES.values())


@pytest.mark.parametrize("mixture", MIXTURES)
def test_texts_are_shared_out_as_the_mixture_says(mixture):
    kinds = build("ul2", "prefix", mixture=mixture).modes(np.arange(20000), seed=1, epoch=2)
    assert agrees(Counter(kinds.tolist()), {i: d.share for i, d in enumerate(MIXTURES[mixture])})


@given(length=st.integers(2, 300), key=keys, mixture=mixtures)
@settings(max_examples=200)
def test_inputs_and_targets_restore_the_text(length, key, mixture):
    objective = build("ul2", "encoder_decoder", mixture=mixture)
    example = objective.example(text(length), key)
    kind = int(objective.modes(np.array([key.document]), seed=key.seed, epoch=key.epoch)[0])
    denoiser = objective.denoisers[kind]
    assert example.inputs[0] == NAMED[denoiser.mode]
    assert example.inputs[-1] == example.targets[-1] == VOCABULARY.eos
    inputs, targets = example.inputs[1:-1], example.targets[:-1]
    if denoiser.mean_span is None:  # prefix LM: no sentinels
        assert np.concatenate([inputs, targets]).tolist() == text(length).tolist()
        quarter = max(round(0.25 * length), 1)
        assert 1 <= len(targets) <= max(2 * quarter - 1, 1)
        return
    assert restore(inputs, targets) == text(length).tolist()
    noise, spans = noise_counts(length, denoiser.density, denoiser.mean_span)
    used = [t for t in inputs.tolist() if t in SENTINELS]
    assert used == [t for t in targets.tolist() if t in SENTINELS] == list(SENTINELS[:spans])
    assert len(targets) == noise + spans


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_denoisers_with_several_spans_cut_as_t5_does(kind):
    """All cuttings of a short text are equally likely, as for span corruption with the same settings."""
    denoiser = MIXTURES["ul2"][kind]
    length = {0: 40, 1: 107, 2: 10}[kind]  # 2 spans
    assert noise_counts(length, denoiser.density, denoiser.mean_span)[1] == 2
    firsts = Counter(
        inputs.index(SENTINELS[0]) for inputs, _ in of_kind(build("ul2", "encoder_decoder"), kind, length, 1500)
    )
    examples = SpanCorruption("encoder_decoder", VOCABULARY, denoiser.density, denoiser.mean_span)
    noise = int(noise_counts(length, denoiser.density, denoiser.mean_span)[0])
    assert agrees(firsts, equally(list(range(1, length - noise))))
    other = examples.examples(many(length, 500))
    assert {int(np.flatnonzero(other[i].inputs == SENTINELS[0])[0]) for i in range(500)} <= set(
        range(1, length - noise)
    )


def test_the_only_span_of_a_short_text_lies_anywhere():
    """64-token spans: 20 tokens at 15% have one span of 3; it may lie behind any token but be not at the front."""
    found = of_kind(build("ul2", "encoder_decoder"), 4, 20, 3000)
    assert {len(targets) for _, targets in found} == {4}
    assert agrees(Counter(inputs.index(SENTINELS[0]) for inputs, _ in found), equally(list(range(1, 18))))


def test_prefix_lm_asks_for_a_quarter_on_average():
    sizes = [len(targets) for _, targets in of_kind(build("ul2", "encoder_decoder", mixture="upalm"), 2, 40, 3000)]
    assert agrees(Counter(sizes), equally(list(range(1, 20))))
    assert np.mean(sizes) == pytest.approx(10, abs=0.5)


def test_means_out_of_reach_are_told():
    objective = build("ul2", "prefix")
    assert objective.notes(256) == (
        "[NLG] with mean span 64 and density 0.15: 256 tokens have one span of 38.",
    )  # fmt: skip
    assert len(objective.notes(100)) == 2 and objective.notes(1024) == ()


@given(length=st.integers(2, 120), key=keys, mixture=mixtures)
def test_decoders_read_the_inputs_then_predict_the_targets(length, key, mixture):
    causal, prefix, both = (build("ul2", family, mixture=mixture).example(text(length), key) for family in FAMILIES)
    sequence = [VOCABULARY.bos, *both.inputs, *both.targets]
    assert prefix.inputs.tolist() == causal.inputs.tolist() == sequence[:-1]
    assert prefix.prefix == 1 + len(both.inputs) and causal.prefix == 0
    assert np.flatnonzero(prefix.weights)[0] == prefix.prefix - 1  # the last prefix token predicts the first target
    assert prefix.targets[prefix.weights > 0].tolist() == both.targets.tolist()
