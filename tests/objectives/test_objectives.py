"""What all objectives keep: no hidden state, the boundary, the promised sizes, and clear refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.objectives import REGISTRY, Key, Lengths, PrefixLM, Vocabulary, families, make, uniforms
from assay.objectives.base import Example, decoder_only, join
from assay.spec.axes import Family
from assay.spec.objective import ObjectiveKind, ObjectiveSpec

VOCABULARY = Vocabulary(size=1000, pad=0, eos=1, bos=2, decoder_start=0, sentinels=tuple(range(999, 799, -1)))
BARE = Vocabulary(size=1000, pad=0)
PAIRS = [(kind, family) for kind in REGISTRY for family in families(kind)]


def build(kind, family, vocabulary=VOCABULARY, **settings):
    return make(ObjectiveSpec(kind=kind, **settings), family, vocabulary)


def arrays(example: Example) -> list:
    return [None if v is None else np.asarray(v).tolist() for v in vars(example).values()]


@pytest.mark.parametrize(("kind", "family"), PAIRS)
@given(length=st.integers(2, 80), seed=st.integers(0, 2**63), ends=st.booleans(), data=st.data())
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


@pytest.mark.parametrize(("kind", "family"), [p for p in PAIRS if p[0] != "causal_lm"])
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
@given(
    raw=st.lists(st.integers(2, 90), min_size=1, max_size=8),
    seed=st.integers(0, 2**40), epoch=st.integers(0, 50), ends=st.booleans(), bare=st.booleans(),
)  # fmt: skip
def test_sizes_are_those_of_the_examples(kind, family, raw, seed, epoch, ends, bare):
    if bare and (family == "encoder_decoder" or kind == "span_corruption"):
        return
    objective = build(kind, family, BARE if bare else VOCABULARY)
    documents = np.arange(len(raw)) + 7
    sizes = objective.sizes(np.array(raw), np.full(len(raw), ends), documents, seed=seed, epoch=epoch)
    for i, length in enumerate(raw):
        example = objective.example(np.arange(11, 11 + length), Key(seed, epoch, 7 + i), ends=ends)
        assert len(example.inputs) == sizes.inputs[i]
        assert len(example.targets) == len(example.weights)
        if sizes.decoder is None:
            assert example.decoder_inputs is None and len(example.targets) == len(example.inputs)
        else:
            assert len(example.decoder_inputs) == len(example.targets) == sizes.decoder[i]


@pytest.mark.parametrize(("kind", "family"), PAIRS)
@given(length=st.integers(6, 200), ends=st.booleans(), seed=st.integers(0, 2**40))
def test_what_raw_length_promises_fits(kind, family, length, ends, seed):
    objective = build(kind, family)
    capacity = Lengths(length, objective.decoder_length(length))
    raw = objective.raw_length(capacity, ends=ends)
    for document in range(10):
        example = objective.example(np.arange(raw), Key(seed, 0, document), ends=ends)
        assert len(example.inputs) <= length
        assert capacity.decoder is None or len(example.targets) <= capacity.decoder


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
    if kind in REGISTRY and family in families(kind):
        assert make(spec, family, VOCABULARY, (64, None)).family == family.value
        return
    with pytest.raises(UserError) as error:
        make(spec, family, VOCABULARY)
    message = str(error.value)
    assert kind.value in message
    assert "not built yet" in message if kind not in REGISTRY else family.value in message


def test_causal_lm_on_an_encoder_decoder_names_prefix_lm():
    with pytest.raises(UserError, match=r"nothing is left for the encoder.*prefix_lm"):
        build("causal_lm", "encoder_decoder")


def test_lengths_that_hold_nothing_are_refused():
    with pytest.raises(UserError, match=r"length = 2 is too short for PrefixLM.*larger"):
        make(ObjectiveSpec(kind="prefix_lm"), "causal", VOCABULARY, (2, None))


def test_a_setting_that_is_not_read_is_refused():
    with pytest.raises(ValueError, match=r"split = 0.5 is read by prefix_lm only.*causal_lm"):
        ObjectiveSpec(kind="causal_lm", split=0.5)
    assert ObjectiveSpec.model_validate("prefix_lm") == ObjectiveSpec(kind="prefix_lm")
