"""Batches: pure functions of (seed, epoch, step), and a packed row equals its documents one by one."""

import ast
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.batch import Batch, assemble
from assay.data.loader import Loader, batches
from assay.data.shards import TokenDocuments
from assay.data.specials import vocabulary
from assay.errors import UserError
from assay.objectives import Key, Lengths, families, make
from assay.objectives.registry import REGISTRY
from assay.spec.masks import Causal, Mask
from assay.spec.objective import ObjectiveSpec

VOCABULARY = vocabulary(1000, 100)
PAIRS = [(kind, family) for kind in REGISTRY for family in families(kind)]


def documents(count=30, seed=0, top=150):
    generator = np.random.default_rng(seed)
    ids = [generator.integers(11, 899, n).astype(np.int32) for n in generator.integers(2, top, count)]
    return TokenDocuments.from_arrays(
        ids,
        words=[generator.random(len(d)) < 0.4 for d in ids],
        sentences=[generator.random(len(d)) < 0.1 for d in ids],
    )


def loader(kind="prefix_lm", family="prefix", docs=None, **settings):
    objective = make(ObjectiveSpec(kind=kind), family, VOCABULARY)
    return Loader(docs or documents(), objective, **({"batch_size": 4, "length": 32} | settings))


def dense(mask: Mask, queries: int, keys: int, rows: int) -> np.ndarray:
    b, q, k = np.ogrid[:rows, :queries, :keys]
    return np.broadcast_to(mask.rule(b, q, k, mask.facts), (rows, queries, keys))


def same(a: Batch, b: Batch) -> bool:
    def equal(x, y):
        if isinstance(x, Mask):
            pairs = zip(vars(x.facts).values(), vars(y.facts).values(), strict=True)
            return x.rule == y.rule and all(equal(p, q) for p, q in pairs)
        return np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y

    return all(equal(getattr(a, name), getattr(b, name)) for name in vars(a))


@pytest.mark.parametrize(("kind", "family"), PAIRS)
def test_a_batch_does_not_depend_on_what_was_drawn_before(kind, family):
    steps = loader(kind, family).steps(0)
    assert steps > 3
    straight = list(itertools.islice(loader(kind, family).iterate(), steps + 3))
    assert [(b.epoch, b.step) for b in straight[-4:]] == [(0, steps - 1), (1, 0), (1, 1), (1, 2)]
    for number in (steps + 2, 0, steps, 2):  # out of order, each from a fresh loader
        assert same(loader(kind, family).batch(0, number), straight[number])
    resumed = itertools.islice(loader(kind, family).iterate((0, steps - 1)), 3)
    assert all(same(a, b) for a, b in zip(resumed, straight[steps - 1 :], strict=False))
    again = next(batches(documents(), make(ObjectiveSpec(kind=kind), family, VOCABULARY),
                         batch_size=4, length=32, start=(1, 1)))  # fmt: skip
    assert same(again, straight[steps + 1])


_WORKER = """
import hashlib, sys
from tests.data.test_loader import PAIRS, loader
kind, family = PAIRS[int(sys.argv[1])]
digest = {}
for step in map(int, sys.argv[2].split(",")):
    batch = loader(kind, family, batch_size=4).batch(0, step)
    digest[step] = hashlib.sha256(batch.input_ids.tobytes() + batch.targets.tobytes()).hexdigest()
print(sorted(digest.items()))
"""


def test_batches_are_the_same_for_any_number_of_workers():
    """Processes of their own, each with its share of the steps in its own order and its own hash seed."""
    pair = PAIRS.index(("bart", "encoder_decoder")) if ("bart", "encoder_decoder") in PAIRS else 0

    def worker(steps: list[int], seed: str) -> str:
        command = [sys.executable, "-c", _WORKER, str(pair), ",".join(map(str, steps))]
        env = os.environ | {"PYTHONHASHSEED": seed}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    one = ast.literal_eval(worker([0, 1, 2, 3], "0"))
    shares = [worker(steps, seed) for steps, seed in (([3, 0], "1"), ([2], "2"), ([1], "3"))]
    assert sorted(item for share in shares for item in ast.literal_eval(share)) == one
    assert len({digest for _, digest in one}) == 4


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_number_of_ranks_shares_a_batch(ranks):
    whole = loader("ul2", "encoder_decoder").batch(1, 0)
    parts = [loader("ul2", "encoder_decoder", rank=r, ranks=ranks).batch(1, 0) for r in range(ranks)]
    for r, part in enumerate(parts):
        assert np.array_equal(part.input_ids, whole.input_ids[r::ranks])
        assert np.array_equal(part.targets, whole.targets[r::ranks])


def test_seed_and_epoch_matter():
    first = loader().batch(0, 0)
    assert not same(first, loader(seed=1).batch(0, 0))
    assert not np.array_equal(first.input_ids, loader().batch(1, 0).input_ids)


@pytest.mark.parametrize(("kind", "family"), PAIRS)
def test_ranks_share_a_batch(kind, family):
    whole = loader(kind, family).batch(0, 1)
    parts = [loader(kind, family, rank=rank, ranks=2).batch(0, 1) for rank in range(2)]
    for name in ("input_ids", "targets", "weights", "document_ids", "decoder_input_ids"):
        if getattr(whole, name) is not None:
            for rank in range(2):
                assert np.array_equal(getattr(whole, name)[rank::2], getattr(parts[rank], name))


@pytest.mark.parametrize(("kind", "family"), PAIRS)
@pytest.mark.parametrize("epoch", [0, 1])
def test_pieces_cover_all_text_in_every_epoch(kind, family, epoch):
    docs = documents()
    one = loader(kind, family, docs)
    pieces = one.pieces(epoch)
    covered = np.zeros(docs.total, dtype=int)
    for document, start, length in zip(pieces.document, pieces.start, pieces.length, strict=True):
        covered[docs.offsets[document] + start : docs.offsets[document] + start + length] += 1
    assert (covered == 1).all()
    assert (pieces.ends == (pieces.start + pieces.length == docs.lengths[pieces.document])).all()
    assert len(np.unique(pieces.number)) == len(pieces) and (pieces.length >= one.objective.shortest).all()
    if one.objective.varies:  # every piece within a document is as long as it may be
        full = one.objective.fitting(one.lengths, pieces.number, seed=0, epoch=epoch)
        rest = docs.lengths[pieces.document] - pieces.start - pieces.length
        if family != "encoder_decoder":  # whose decoder is fitted afterwards
            assert (pieces.length <= full).all()
            assert (pieces.length == full)[rest > one.objective.shortest].all()


@pytest.mark.parametrize(("kind", "family"), PAIRS)
def test_a_batch_is_its_pieces_examples(kind, family):
    docs = documents()
    one = loader(kind, family, docs)
    batch, plan = one.batch(1, 2), one._plan(1)
    marks = {"words": 1, "sentences": 2}
    rows = []
    for row in plan.batches[2]:
        examples = []
        for piece in plan.rows[int(row)]:
            p = plan.pieces
            begin = docs.offsets[p.document[piece]] + p.start[piece]
            where = slice(begin, begin + p.length[piece])
            flags = {name: (docs.flags[where] & marks[name]) > 0 for name in one.objective.needs}
            key = Key(0, 1, int(p.number[piece]))
            examples.append(one.objective.example(docs.tokens[where], key, ends=bool(p.ends[piece]), **flags))
        rows.append(examples)
    assert same(batch, assemble(rows, one.lengths, family, VOCABULARY, epoch=1, step=2))


@pytest.mark.parametrize(("kind", "needs"), [("bart", "sentences"), ("mlm", "words")])
def test_boundaries_that_are_missing_are_told(kind, needs):
    bare = TokenDocuments.from_arrays([np.arange(11, 99)])
    spec = ObjectiveSpec(kind=kind, **({"whole_word": True} if kind == "mlm" else {}))
    objective = make(spec, "encoder" if kind == "mlm" else "encoder_decoder", VOCABULARY)
    with pytest.raises(UserError, match=f"where {needs} begin.*bare tokens"):
        Loader(bare, objective, batch_size=1, length=32)
    without = make(ObjectiveSpec(kind="bart", permutation=0), "encoder_decoder", VOCABULARY)
    assert Loader(bare, without, batch_size=1, length=32).batch(0, 0).target_count


@pytest.mark.parametrize(("kind", "family"), PAIRS)
def test_an_epoch_visits_every_piece_once(kind, family):
    one = loader(kind, family, batch_size=1)
    seen = []
    for step in range(one.steps(0)):
        plan = one._plan(0)
        seen += [piece for row in plan.batches[step] for piece in plan.rows[int(row)]]
    assert sorted(seen) == list(range(len(one.pieces(0))))


def test_all_tokens_are_targets_once_an_epoch():
    docs = documents()
    one = loader("causal_lm", "causal", docs, batch_size=1)
    counts = np.zeros(1000, dtype=int)
    for step in range(one.steps(0)):
        batch = one.batch(0, step)
        counts += np.bincount(batch.targets[batch.weights > 0], minlength=1000)
    expected = np.bincount(docs.tokens, minlength=1000)
    expected[VOCABULARY.eos] = len(docs)  # each document ends once
    assert np.array_equal(counts, expected)


@pytest.mark.parametrize(("kind", "family"), PAIRS)
@given(seed=st.integers(0, 500))
@settings(max_examples=15)
def test_a_packed_row_is_its_documents_one_by_one(kind, family, seed):
    """Ids, targets, weights, positions; and in every mask a document sees what it sees alone, and nothing else."""
    objective = make(ObjectiveSpec(kind=kind), family, VOCABULARY)
    generator = np.random.default_rng(seed)
    examples = [
        objective.example(generator.integers(11, 700, n), Key(seed, 0, i))
        for i, n in enumerate(generator.integers(2, 12, 3))
    ]
    two = family == "encoder_decoder"
    room = Lengths(80, 40 if two else None)
    packed = assemble([examples, examples[:2]], room, family, VOCABULARY)
    assert not packed.single_document
    alone = [assemble([[e]], room, family, VOCABULARY) for e in examples]
    masks = {"mask": (80, 80)} | ({"decoder_mask": (40, 40), "cross_mask": (40, 80)} if two else {})
    tables = {name: dense(getattr(packed, name), *shape, 2) for name, shape in masks.items()}
    inside = {name: np.zeros(shape, dtype=bool) for name, shape in masks.items()}
    main = other = 0
    for number, (example, single) in enumerate(zip(examples, alone, strict=True)):
        assert single.single_document and single.counted == packed.counted == (example.positions is None)
        n, m = len(example.inputs), len(example.targets)
        here, there = slice(main, main + n), slice(other, other + m) if two else slice(main, main + n)
        spans = {"mask": (here, here), "decoder_mask": (there, there), "cross_mask": (there, here)}
        for name, size, where in [
            ("input_ids", n, here), ("position_ids", n, here),
            ("targets", m, there), ("weights", m, there),
            ("decoder_input_ids", m, there), ("decoder_position_ids", m, there),
        ]:  # fmt: skip
            if getattr(packed, name) is not None:
                assert np.array_equal(getattr(packed, name)[0, ..., where], getattr(single, name)[0, ..., :size]), name
        assert (packed.document_ids[0, here] == number + 1).all()
        for name, shape in masks.items():
            rows, columns = spans[name]
            mine = dense(getattr(single, name), *shape, 1)[0]
            mine = mine[: rows.stop - rows.start, : columns.stop - columns.start]
            assert np.array_equal(tables[name][0, rows, columns], mine), name
            inside[name][rows, columns] = True
        main, other = main + n, other + m
    for name in masks:
        assert not tables[name][0][~inside[name]].any(), f"{name}: documents or padding see each other"
    assert (packed.document_ids[0, main:] == 0).all() and (packed.input_ids[0, main:] == VOCABULARY.pad).all()
    assert packed.target_count == packed.weights.sum()
    assert np.array_equal(packed.targets.reshape(-1)[packed.target_positions], packed.targets[packed.weights > 0])
    if two:
        assert (packed.weights[0, other:] == 0).all() and (packed.decoder_document_ids[0, other:] == 0).all()


@pytest.mark.parametrize("family", ["causal", "prefix"])
def test_single_document_batches_need_no_document_mask(family):
    kind = "causal_lm" if family == "causal" else "prefix_lm"
    one = loader(kind, family, documents(top=2000), batch_size=4)
    found = [one.batch(0, step) for step in range(one.steps(0))]
    singles = [b for b in found if b.single_document]
    assert len(singles) > 0.8 * len(found)
    for batch in singles:
        assert batch.mask.facts.document_ids is None
        assert (batch.mask.rule == Causal()) == (family == "causal")
        # what real tokens see is the same as under the full rule
        table = dense(batch.mask, 32, 32, 4)
        real = batch.document_ids > 0
        assert not (table & real[:, :, None] & ~real[:, None, :]).any()


def test_padding_counts():
    one = loader("prefix_lm", "encoder_decoder", documents(300), batch_size=1)
    shares = [one.batch(0, step).padding for step in range(one.steps(0))]
    assert np.isclose(np.mean(shares), one.padding(0)) and one.padding(0) < 0.05


def test_fewer_rows_than_a_batch():
    one = loader("causal_lm", "causal", documents(2, top=20), batch_size=8)
    assert one.steps(0) == 1 and one.batch(0, 0).input_ids.shape == (8, 32)
    assert (one.batch(0, 0).weights.sum(1) > 0).all()


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 5, "ranks": 2}, "multiple of 2"),
        ({"length": 2}, "length = 2"),
        ({"docs": TokenDocuments.from_arrays([np.array([11])])}, "none of the 1 documents has the 2 tokens"),
    ],
)
def test_what_cannot_work_is_told(settings_, says):
    with pytest.raises(UserError, match=says):
        loader(**settings_)
