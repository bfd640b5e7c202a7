"""Corpora that are made from a name."""

import pytest

from assay.data.items import GENERATED, part_of
from assay.data.made import MADE, SHEET, made
from assay.data.sources import read
from assay.data.split import split
from assay.data.tokenizer import train_tokenizer
from assay.data.windows import windows
from assay.errors import UserError
from assay.spec.data import TokenizerSpec


@pytest.mark.parametrize("name", list(GENERATED))
def test_documents_are_items_of_the_train_part_as_they_are_asked(name: str) -> None:
    corpus = read(f"made:{name}:items=600")
    single = corpus.documents[:300]
    for document in single:
        prompt, colon, answer = document.removesuffix("\n").rpartition(":")
        assert part_of(prompt + colon) == "train" and answer.startswith(" ") and document.endswith("\n")
    marker = single[0].partition(":")[0] + ":"
    assert sum(document.count(marker) for document in corpus.documents) == 600
    assert all(len(sheet.encode()) >= SHEET for sheet in corpus.documents[300:])


def test_a_name_says_all_of_the_text() -> None:
    assert made("made:addition:items=100").hash == made("made:addition:items=100:seed=0").hash
    others = ("made:addition:items=100:seed=1", "made:addition:items=101", "made:addition:items=100:sizes=5")
    assert len({made(name).hash for name in ("made:addition:items=100", *others)}) == 4
    assert made("made:copy:items=1000").hash == "2292269f501c72ebb16358db55482fd44efd0a3ce6fe1dace46d152f9a7573a6", (
        "text from a name must never change: runs are known by it"
    )


def test_sizes_and_mixtures() -> None:
    corpus = made("made:addition+recall:items=40:sizes=5")
    sums = [d for d in corpus.documents if d.startswith("Add") and d.count("Add") == 1]
    assert len(sums) == 10 and all(len(word) == 5 for word in sums[0].split()[1:4:2])
    assert sum(d.count("Recall") for d in corpus.documents) == 20


def test_held_out_windows_are_there() -> None:
    train, heldout = split(made("made:addition"), 0.1)
    assert not set(train.documents) & set(heldout.documents)
    tokenizer = train_tokenizer(TokenizerSpec(kind="bytes"), train)
    assert len(windows(heldout, tokenizer)) >= 5


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("made:additon", "Did you mean 'addition'"),
        ("made:copy+nothing", "no made corpus 'nothing'"),
        ("made:copy:item=3", "'item=3' is no setting"),
        ("made:copy:items=many", "no whole number"),
        ("made:copy:items=1,2", "not one number"),
        ("made:copy:items=0", "too small"),
        ("made:recall:sizes=6", "Give 1 to 5"),
    ],
)
def test_bad_names_are_told(source: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        read(source)
    assert said in str(error.value) + str(error.value.remedy)


def test_every_task_has_a_corpus() -> None:
    assert GENERATED.keys() <= MADE.keys()
