import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.loader import Loader
from assay.data.packing import cut, cut_to_fit, pack
from assay.data.shards import TokenDocuments
from assay.data.specials import vocabulary
from assay.objectives import REGISTRY, Lengths, Sizes, families, make
from assay.spec.objective import ObjectiveSpec

VOCABULARY = vocabulary(1000, 200)


@given(
    lengths=st.lists(st.integers(0, 200), max_size=20),
    shortest=st.integers(1, 3), less=st.integers(0, 2), full=st.integers(8, 50),
)  # fmt: skip
def test_pieces_cover_their_documents(lengths, shortest, less, full):
    last = full - less
    pieces = cut(np.array(lengths, dtype=int), full=full, last=last, shortest=shortest)
    assert (pieces.length >= shortest).all() and (pieces.length <= np.where(pieces.ends, last, full)).all()
    isfull = pieces.length == full
    assert (np.diff(isfull.astype(int)) <= 0).all()  # full pieces come first
    for document, length in enumerate(lengths):
        mine = np.flatnonzero(pieces.document == document)
        if length < shortest:
            assert not len(mine)
            continue
        mine = mine[np.argsort(pieces.start[mine])]
        stops = pieces.start[mine] + pieces.length[mine]
        assert pieces.start[mine[0]] == 0 and stops[-1] == length
        assert (pieces.start[mine[1:]] == stops[:-1]).all()
        assert pieces.ends[mine].tolist() == [False] * (len(mine) - 1) + [True]
        # as few as possible: all but the last two are full
        assert (pieces.length[mine[:-2]] == full).all()


@given(
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 12)), max_size=60),
    seed=st.integers(0, 1000), one=st.booleans(),
)  # fmt: skip
def test_every_piece_lies_in_one_row_that_holds_it(sizes, seed, one):
    table = np.array(sizes, dtype=int).reshape(-1, 2)
    given_sizes = Sizes(table[:, 0], None if one else table[:, 1])
    order = np.random.default_rng(seed).permutation(len(table))
    rows = pack(given_sizes, Lengths(20, None if one else 12), order)
    assert sorted(rows.pieces.tolist()) == list(range(len(table)))
    for row in range(len(rows)):
        assert len(rows[row])
        assert table[rows[row], 0].sum() <= 20
        assert one or table[rows[row], 1].sum() <= 12
    assert rows.single.tolist() == [len(rows[row]) == 1 for row in range(len(rows))]


def test_order_decides_among_equals_only():
    sizes = Sizes(np.array([5, 5, 5, 5, 10, 10]))
    a = pack(sizes, Lengths(15), np.array([0, 1, 2, 3, 4, 5]))
    b = pack(sizes, Lengths(15), np.array([3, 2, 5, 1, 0, 4]))
    assert a.offsets.tolist() == b.offsets.tolist()
    assert sizes.inputs[a.pieces].tolist() == sizes.inputs[b.pieces].tolist()
    assert a.pieces.tolist() != b.pieces.tolist()


def realistic():
    generator = np.random.default_rng(0)
    return {
        "long": np.maximum(1, generator.lognormal(6.5, 1.2, 400).astype(int)),
        "medium": generator.lognormal(4.7, 0.8, 3000).astype(int) + 1,
        "short": generator.lognormal(3.5, 0.7, 8000).astype(int) + 1,
    }


def corpus(kind: str) -> TokenDocuments:
    lengths = realistic()[kind]
    total = int(lengths.sum())
    return TokenDocuments(
        np.full(total, 50, np.uint16), np.concatenate([[0], np.cumsum(lengths)]),
        flags=np.zeros(total, np.uint8), boundaries=("words", "sentences"),
    )  # fmt: skip


@pytest.mark.parametrize("length", [64, 128, 256])
@pytest.mark.parametrize("documents", ["long", "medium", "short"])
@pytest.mark.parametrize(
    ("kind", "family"), [(kind.value, family) for kind in REGISTRY for family in families(kind) if family != "causal"]
)
def test_padding_is_under_5_percent(kind, family, documents, length):
    """With decoder lengths that fit the documents; causal decoders have the sizes of prefix decoders."""
    objective = make(ObjectiveSpec(kind=kind), family, VOCABULARY)
    loader = Loader(corpus(documents), objective, batch_size=8, length=length)
    assert loader.padding(0) < 0.05


def test_the_decoder_length_of_full_pieces_is_kept_where_it_fits():
    objective = make(ObjectiveSpec(kind="span_corruption"), "encoder_decoder", VOCABULARY)
    fitted = {kind: Loader(corpus(kind), objective, batch_size=8, length=128).lengths.decoder for kind in realistic()}
    assert fitted["long"] == objective.decoder_length(128) < fitted["short"]
    assert Loader(corpus("short"), objective, batch_size=8, length=128, decoder_length=29).lengths.decoder == 29


@given(
    lengths=st.lists(st.integers(0, 300), max_size=20),
    shortest=st.integers(1, 3), least=st.integers(6, 20), seed=st.integers(0, 100),
)  # fmt: skip
def test_pieces_that_fit_cover_their_documents(lengths, shortest, least, seed):
    def fitting(numbers):
        return least + (numbers * 2654435761 + seed) % 17

    pieces = cut_to_fit(np.array(lengths, dtype=int), least=least, shortest=shortest, fitting=fitting)
    assert (pieces.length >= shortest).all() and (pieces.length <= fitting(pieces.number)).all()
    assert len(np.unique(pieces.number)) == len(pieces)
    for document, length in enumerate(lengths):
        mine = np.flatnonzero(pieces.document == document)
        if length < shortest:
            assert not len(mine)
            continue
        mine = mine[np.argsort(pieces.start[mine])]
        stops = pieces.start[mine] + pieces.length[mine]
        assert pieces.start[mine[0]] == 0 and stops[-1] == length
        assert (pieces.start[mine[1:]] == stops[:-1]).all()
        assert pieces.ends[mine].tolist() == [False] * (len(mine) - 1) + [True]
        assert (pieces.length[mine] == fitting(pieces.number[mine]))[:-2].all()


def test_packing_does_not_grow_with_the_number_of_pieces():
    sizes = Sizes(np.random.default_rng(0).integers(1, 129, 1_000_000))
    rows = pack(sizes, Lengths(128), np.arange(1_000_000))
    assert 1 - sizes.inputs.sum() / (len(rows) * 128) < 0.01
