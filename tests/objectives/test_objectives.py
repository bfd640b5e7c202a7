"""What all objectives keep: no hidden state, the boundary, the promised sizes, and clear refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objectives.common import BARE, PAIRS, VOCABULARY, build, texts

from assay.errors import UserError
from assay.objectives import REGISTRY, Examples, Key, Lengths, PrefixLM, Texts, Vocabulary, families, make, uniforms
from assay.objectives.base import Example, decoder_only, join
from assay.objectives.registry import least_length
from assay.spec.axes import Family
from assay.spec.objective import READERS, ObjectiveKind, ObjectiveSpec

CHANCE = [p for p in PAIRS if p[0] != "causal_lm"]


def arrays(example: Example) -> list:
    return [None if v is None else np.asarray(v).tolist() for v in vars(example).values()]


@pytest.mark.parametrize(("kind", "family"), PAIRS)
@given(length=st.integers(2, 80), seed=st.integers(0, 2**63), ends=st.booleans(), data=st.data())
@settings(max_examples=25)
def test_an_example_depends_on_its_tokens_and_key_alone(kind, family, length, seed, ends, data):
    tokens = np.random.default_rng(seed).integers(11, 700, length)
    key = Key(seed, data.draw(st.integers(0, 99)), data.draw(st.integers(0, 10**6)))
    objective = build(kind, family)
    first = arrays(objective.example(tokens, key, ends=ends))
    for other in range(3):  # whatever happens in between, NumPy's global state included
        np.random.seed(other)
        objective.example(tokens[::-1], Key(other, other, other))
    before = tokens.copy()
    assert arrays(build(kind, family).example(tokens, key, ends=ends)) == first
    assert np.array_equal(tokens, before)


@pytest.mark.parametrize(("kind", "family"), CHANCE)
def test_every_part_of_the_key_matters(kind, family):
    tokens, objective = np.arange(11, 211), build(kind, family)
    base = Key(1, 1, 10)
    for other in (Key(2, 1, 10), Key(1, 2, 10), Key(1, 1, 12)):
        assert arrays(objective.example(tokens, base)) != arrays(objective.example(tokens, other))


def test_streams_of_keys_do_not_overlap():
    draws = [
        Key(seed, epoch, document).generator().integers(0, 2**63, 50)
        for seed in range(3) for epoch in range(3) for document in range(3)
    ]  # fmt: skip
    assert len(np.unique(np.concatenate(draws))) == 27 * 50


@pytest.mark.parametrize(("kind", "family"), PAIRS)
@given(raw=st.lists(st.integers(2, 90), min_size=1, max_size=6), seed=st.integers(0, 2**40), epoch=st.integers(0, 50))
@settings(max_examples=25)
def test_several_at_once_are_the_same_one_by_one(kind, family, raw, seed, epoch):
    """Whole arrays, and in any company; sizes are what was promised."""
    given_texts = texts(raw, seed=seed, epoch=epoch)
    objective = build(kind, family)
    together = objective.examples(given_texts)
    sizes = objective.sizes(given_texts.lengths, given_texts.ends, given_texts.documents, seed=seed, epoch=epoch)
    assert len(together) == len(raw)
    assert together.input_lengths.tolist() == sizes.inputs.tolist()
    assert (together.target_lengths is None) == (sizes.decoder is None) == (family != "encoder_decoder")
    singles = []
    for i, (begin, end) in enumerate(zip(given_texts.offsets, given_texts.offsets[1:], strict=False)):
        flags = {name: getattr(given_texts, name)[begin:end] for name in objective.needs}
        one = objective.example(given_texts.tokens[begin:end], Key(seed, epoch, i), **flags)
        assert arrays(one) == arrays(together[i])
        assert len(one.targets) == len(one.weights)
        assert len(one.targets) == (len(one.inputs) if sizes.decoder is None else sizes.decoder[i])
        singles.append(one)
    joined = Examples.of(singles)
    assert [arrays(joined[i]) for i in range(len(raw))] == [arrays(e) for e in singles]


@pytest.mark.parametrize(("kind", "family"), PAIRS)
@given(length=st.integers(20, 200), ends=st.booleans(), seed=st.integers(0, 2**40))
@settings(max_examples=25)
def test_what_raw_length_promises_fits(kind, family, length, ends, seed):
    objective = build(kind, family)
    capacity = Lengths(length, objective.decoder_length(length))
    documents = np.arange(64)
    lengths = np.full(64, objective.raw_length(capacity, ends=ends))
    if objective.varies:
        assert objective.fitting(capacity, documents, seed=seed, epoch=0).min() >= least_length(objective, capacity)
        lengths = objective.fitting(capacity, documents, seed=seed, epoch=0)
        lengths -= np.arange(64) % 4  # a shorter piece fits as well
    given_texts = Texts(np.full(lengths.sum(), 20), lengths, documents, np.full(64, ends), seed)
    if not objective.needs:
        examples = objective.examples(given_texts)
        assert examples.input_lengths.max() <= length
        assert capacity.decoder is None or examples.target_lengths.max() <= capacity.decoder
    sizes = objective.sizes(lengths, given_texts.ends, documents, seed=seed, epoch=0)
    assert sizes.inputs.max() <= length and (capacity.decoder is None or sizes.decoder.max() <= capacity.decoder)


@given(length=st.integers(1, 60), ends=st.booleans(), bare=st.booleans())
def test_causal_lm_predicts_every_token(length, ends, bare):
    tokens = np.arange(11, 12 + length)
    example = build("causal_lm", "causal", BARE if bare else VOCABULARY).example(tokens, Key(0), ends=ends)
    expected = tokens[1:].tolist() if bare else tokens.tolist() + [1] * ends
    assert example.targets.tolist() == expected and (example.weights == 1).all() and example.prefix == 0
    assert example.inputs[1:].tolist() == example.targets[:-1].tolist()  # each is the next one's input
    assert example.inputs[0] == (tokens[0] if bare else VOCABULARY.bos)


def boundary_holds(example: Example, tokens: np.ndarray) -> bool:
    """The last prefix token predicts the first target, nothing the prefix shows is predicted, nothing is lost."""
    first = int(np.flatnonzero(example.weights)[0])
    seen = example.inputs[: example.prefix].tolist()
    predicted = example.targets[example.weights > 0].tolist()
    return (
        first == example.prefix - 1
        and not set(seen) & set(predicted)
        and [t for t in seen + predicted if t > 10] == tokens.tolist()
    )


@given(length=st.integers(2, 60), ends=st.booleans(), document=st.integers(0, 1000))
def test_boundary(length, ends, document):
    tokens = np.arange(11, 11 + length)
    example = build("prefix_lm", "prefix").example(tokens, Key(3, 0, document), ends=ends)
    assert boundary_holds(example, tokens)


@pytest.mark.parametrize("shift", [-1, 1])
@given(length=st.integers(4, 60), split=st.integers(2, 58))
def test_the_boundary_test_catches_an_error_of_one(shift, length, split):
    """Control: a loss that begins one too early (it predicts what is seen) or too late (a target is lost)."""
    split = min(split, length - 2)
    tokens = np.arange(11, 11 + length)
    right = decoder_only(join(2, tokens), prefix=split + 1, first=split)
    wrong = decoder_only(join(2, tokens), prefix=split + 1, first=split + shift)
    assert boundary_holds(right, tokens) and not boundary_holds(wrong, tokens)


@given(length=st.integers(2, 60), ends=st.booleans(), document=st.integers(0, 1000), epoch=st.integers(0, 9))
def test_all_families_predict_the_same_suffix(length, ends, document, epoch):
    tokens, key = np.arange(11, 11 + length), Key(5, epoch, document)
    prefix, causal, both = (
        build("prefix_lm", family).example(tokens, key, ends=ends) for family in ("prefix", "causal", "encoder_decoder")
    )
    assert prefix.targets[prefix.weights > 0].tolist() == both.targets.tolist()
    assert prefix.inputs[: prefix.prefix].tolist() == [2, *both.inputs.tolist()]
    assert causal.prefix == 0 and np.array_equal(causal.weights, prefix.weights)
    assert both.decoder_inputs.tolist() == [0, *both.targets[:-1].tolist()]


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("raw", [2, 5, 12])
def test_uniform_splits_are_uniform(raw, parity):
    """Also for the mirrored half of the documents alone; chi-square at about 4 standard deviations."""
    draws = 4000 * (raw - 1)
    documents = 2 * np.arange(draws) + parity
    splits = PrefixLM("prefix", VOCABULARY).splits(np.full(draws, raw), documents, seed=7, epoch=3)
    counts = np.bincount(splits, minlength=raw)[1:]
    assert len(counts) == raw - 1 and counts.sum() == draws
    freedom = raw - 2
    assert ((counts - 4000) ** 2 / 4000).sum() <= freedom + 4 * np.sqrt(2 * freedom) + 4 * (freedom > 0)


def test_fixed_splits():
    objective = build("prefix_lm", "encoder_decoder", split=0.25)
    example = objective.example(np.arange(11, 51), Key(0), ends=False)
    assert len(example.inputs) == 10 and len(example.targets) == 30
    assert objective.decoder_length(32) == 96 and objective.raw_length(Lengths(32, 96)) == 128


def test_uniforms_are_uniform_and_unrelated():
    rows = np.stack([uniforms(seed, epoch, np.arange(20000)) for seed in range(3) for epoch in range(3)])
    assert (rows >= 0).all() and (rows < 1).all()
    assert np.abs(rows.mean(1) - 0.5).max() < 0.01 and np.abs(rows.var(1) - 1 / 12).max() < 0.003
    assert np.abs(np.corrcoef(rows) - np.eye(9)).max() < 0.04  # over seeds and epochs
    assert np.abs(np.corrcoef(rows[0, :-1], rows[0, 1:])[0, 1]) < 0.04  # over neighbours


@pytest.mark.parametrize("kind", ObjectiveKind)
@pytest.mark.parametrize("family", Family)
def test_each_pair_works_or_says_why(kind, family):
    spec = ObjectiveSpec(kind=kind)
    if family in families(kind):
        assert make(spec, family, VOCABULARY, (64, None)).family == family.value
        assert REGISTRY[kind].forms[family.value]
        return
    with pytest.raises(UserError) as error:
        make(spec, family, VOCABULARY)
    message = str(error.value)
    assert kind.value in message and family.value in message and REGISTRY[kind].refused[family.value] in message


def test_causal_lm_on_an_encoder_decoder_names_prefix_lm():
    with pytest.raises(UserError, match=r"nothing is left for the encoder.*prefix_lm"):
        build("causal_lm", "encoder_decoder")


def test_lengths_that_hold_nothing_are_refused():
    with pytest.raises(UserError, match=r"length = 2 is too short for PrefixLM.*larger"):
        make(ObjectiveSpec(kind="prefix_lm"), "causal", VOCABULARY, (2, None))


OTHER = {
    "split": 0.5, "density": 0.2, "mean_span": 4.0, "infilling": 0.2, "masking": 0.1, "deletion": 0.1,
    "permutation": 0.5, "rotation": 0.5, "gmask": 0.5, "axes": 1, "mixture": "upalm", "whole_word": True,
}  # fmt: skip


def test_every_setting_has_readers():
    assert set(READERS) == set(OTHER) == set(ObjectiveSpec.model_fields) - {"kind"}


@pytest.mark.parametrize("kind", ObjectiveKind)
@pytest.mark.parametrize("name", OTHER)
def test_a_setting_that_is_not_read_is_refused(kind, name):
    if kind.value in READERS[name]:
        assert str(getattr(ObjectiveSpec(kind=kind, **{name: OTHER[name]}), name)) == str(OTHER[name])
        return
    with pytest.raises(ValueError, match=f"{name} = .* is read by .* only, and the objective is {kind.value}"):
        ObjectiveSpec(kind=kind, **{name: OTHER[name]})


@pytest.mark.parametrize(("kind", "family"), CHANCE)
def test_a_setting_that_is_read_matters(kind, family):
    given_texts = texts([150] * 24, seed=1)
    plain = [arrays(build(kind, family).examples(given_texts)[i]) for i in range(24)]
    idle = {"encoder": "mean_span"}.get(family, "whole_word") if kind == "mlm" else None
    for name, readers in READERS.items():
        if kind in readers and name != idle:
            other = build(kind, family, **{name: OTHER[name]}).examples(given_texts)
            assert [arrays(other[i]) for i in range(24)] != plain, name


@pytest.mark.parametrize(
    ("settings", "family", "says"),
    [
        ({"kind": "mlm", "mean_span": 4.0}, "encoder", r"mean_span = 4.0 is not read by mlm with family = encoder"),
        ({"kind": "mlm", "whole_word": True}, "prefix", r"whole_word = True is not read by mlm with family = prefix"),
        ({"kind": "glm", "axes": 2}, "prefix", r"objective.axes = 2.*positions.axes = 1"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(settings, family, says):
    with pytest.raises(UserError, match=says):
        make(ObjectiveSpec(**settings), family, VOCABULARY, axes=1)


def test_glm_takes_the_models_rows_of_positions():
    for axes in (1, 2):
        assert make(ObjectiveSpec(kind="glm"), "prefix", VOCABULARY, axes=axes).axes == axes
    assert build("glm", "prefix").axes == 2 and build("glm", "prefix", axes=1).axes == 1


@pytest.mark.parametrize(
    ("kind", "family", "lacks"),
    [("glm", "prefix", r"no \[gMASK\]"), ("ul2", "causal", r"no \[NLU\]"), ("bart", "causal", "no a mask token"),
     ("mlm", "encoder", "no a mask token"), ("prefix_lm", "encoder_decoder", "no decoder start token")],
)  # fmt: skip
def test_a_vocabulary_without_the_special_tokens_is_refused(kind, family, lacks):
    with pytest.raises(UserError, match=lacks.replace("no a", "no a")) as error:
        make(ObjectiveSpec(kind=kind), family, Vocabulary(size=100, pad=0))
    assert error.value.remedy


@pytest.mark.parametrize("kind", ["span_corruption", "mlm", "ul2"])
def test_too_few_sentinels_are_refused(kind):
    with pytest.raises(UserError, match=r"spans, and the vocabulary has 0 sentinels.*or more"):
        make(ObjectiveSpec(kind=kind), "causal", Vocabulary(100, 0, named=VOCABULARY.named), (64, None))


def test_damage_of_nothing_is_refused():
    with pytest.raises(ValueError, match="would learn to copy"):
        ObjectiveSpec(kind="bart", infilling=0, permutation=0)


def test_shorthand():
    assert ObjectiveSpec.model_validate("prefix_lm") == ObjectiveSpec(kind="prefix_lm")
