"""Made tasks against their own arithmetic, labelled files, templates, and bad input."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.tasks_common import FAMILIES, tiny
from tests.training.conftest import sample_text

from assay.data.items import TABLES
from assay.errors import UserError
from assay.evaluation.evaluate import evaluate_task
from assay.evaluation.generated import GENERATED, continuation_task, generated_task
from assay.evaluation.labelled import labelled_task, read_table
from assay.evaluation.pairs import Codec, score
from assay.evaluation.tasks import Item, Task, part_of, three_parts
from assay.evaluation.templates import Template


def solve(name: str, prompt: str) -> str:
    """The answer, worked out from the prompt's text alone."""
    first = prompt.splitlines()[0].partition(": ")[2]
    if name == "copy":
        return first
    if name == "reverse":
        return " ".join(reversed(first.split()))
    if name == "addition":
        a, b = first.split(" + ")
        return str(int(a) + int(b))
    if name == "recall":
        return " ".join(TABLES[place][letter] for place, letter in enumerate(first.split()))
    table = dict(entry.split() for entry in first.split(", "))
    asked = prompt.splitlines()[1].removesuffix(":").partition(" of ")[2].split()
    return " ".join(table[key] for key in asked)


@pytest.mark.parametrize("name", list(GENERATED))
def test_made_items_are_right(name: str) -> None:
    task = generated_task(name, 120, seed=3)
    assert len(task) > 100
    for item in task.items:
        assert item.answer == " " + solve(name, item.prompt)
        assert item.choices.count(item.answer) == 1 and len(set(item.choices)) == len(item.choices) > 1
        assert item.choices[item.gold] == item.answer
    assert generated_task(name, 120, seed=3) == task != generated_task(name, 120, seed=4)
    places = Counter(item.gold for item in task.items)
    assert len(places) == 4 and max(places.values()) < 60, "the right answer has no place of its own"


@pytest.mark.parametrize("name", list(GENERATED))
def test_whoever_does_not_read_the_prompt_is_right_a_quarter_of_the_time(name: str) -> None:
    """Scorers of the choice alone: by a random weight for each word, by length, by the order of the alphabet."""
    items = generated_task(name, 1600, part="train").items
    items = tuple(i for i in items if i.group != "1 digit")  # sums under 3 have no room below them
    weight = {w: hash_of(w) for i in items for c in i.choices for w in c.split()}

    def words(choice: str) -> float:
        return sum(weight[w] for w in choice.split())

    scorers = {"words": words, "letters": lambda c: sum(hash_of(x) for x in c), "alphabet": lambda c: c}
    for what, scorer in scorers.items():
        right = sum(max(item.choices, key=scorer) == item.answer for item in items) / len(items)
        assert abs(right - 0.25) < 4.5 * (0.25 * 0.75 / len(items)) ** 0.5, (what, right)


def hash_of(word: str) -> float:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") / 2**32


@pytest.mark.parametrize("name", list(GENERATED))
def test_parts_share_no_prompt(name: str) -> None:
    parts = [{i.prompt for i in generated_task(name, 300, part=p).items} for p in ("train", "valid", "test")]
    assert all(parts) and not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_tables_to_be_known_are_balanced_and_differ() -> None:
    assert len({tuple(table.values()) for table in TABLES}) == 5
    assert all(sorted(table.values()) == list("0123456789") for table in TABLES)


def test_groups_count_what_they_say() -> None:
    for item in generated_task("addition", 200).items:
        digits = int(item.group.split()[0])
        a, b = solve("copy", item.prompt).split(" + ")
        assert len(a) == len(b) == digits
    for item in generated_task("compose", 200).items:
        assert len(item.answer.split()) == int(item.group.split()[0])
    with pytest.raises(UserError, match="Did you mean 'copy'"):
        generated_task("copie", 10)


def test_continuations_come_from_the_text() -> None:
    text = sample_text(20_000)
    task = continuation_task([text], 20, prompt_bytes=64, answer_bytes=24)
    for item in task.items:
        assert item.prompt + item.answer in text and item.answer in item.choices and len(item.choices) == 4
        assert all(choice in text for choice in item.choices)
    with pytest.raises(UserError, match="Give more text"):
        continuation_task(["too short"], 5)


@given(st.text(min_size=1))
def test_a_prompt_has_one_part(prompt: str) -> None:
    assert part_of(prompt) == part_of(prompt) and part_of(prompt, valid=0, test=1) == "test"


ROWS = [{"text": f"text {i}, said", "label": "good" if i % 3 else "bad"} for i in range(60)]


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        pl.DataFrame(rows).write_csv(path)
    elif path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_the_three_kinds_of_file_give_one_task(tmp_path: Path) -> None:
    tasks = [labelled_task(read_table(write(tmp_path / f"t.{kind}", ROWS))) for kind in ("csv", "jsonl", "parquet")]
    for task in tasks:
        assert [(i.prompt, i.answer, i.choices) for i in task.items] == [
            (f"{row['text']}\nLabel:", f" {row['label']}", (" bad", " good")) for row in ROWS
        ]
        assert task.labels == (" bad", " good") and task.chance == 0.5 and not task.written
    parts = three_parts(tasks[0])
    assert sum(map(len, (parts.train, parts.valid, parts.test))) == 60
    assert parts.train.labels == tasks[0].labels


def test_packed_files_and_numbers(tmp_path: Path) -> None:
    import bz2

    path = tmp_path / "t.csv.bz2"
    path.write_bytes(bz2.compress(b"text,label\na,0\nb,1\nc,1\n"))
    task = labelled_task(read_table(path), template=Template("{text} ->", " {label}", {"0": "no", "1": "yes"}))
    assert [i.answer for i in task.items] == [" no", " yes", " yes"]
    numbers = write(tmp_path / "n.jsonl", [{"text": "a", "label": 0}, {"text": "b", "label": 1}])
    assert labelled_task(read_table(numbers)).labels == (" 0", " 1")


def test_prompts_and_answers_are_written(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}:", "answer": f" {i}"} for i in range(20)]
    task = labelled_task(read_table(write(tmp_path / "p.csv", rows)))
    assert task.written and not task.labels and task.items[3] == Item("Say 3:", " 3", where=f"{tmp_path}/p.csv, row 4")


@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        (
            [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}],
            {},
            r"same answer, 'x'\. Give examples of at least",
        ),
        ([{"txt": "a", "label": "x"}], {}, r"no column 'text'; there are: txt, label\. Did you mean 'txt'.*--text"),
        ([{"text": "a", "lab": "x"}], {"label": "kind"}, "no column 'kind'.*--label"),
        ([{"text": "a", "label": None}, {"text": "b", "label": "x"}], {}, "row 1: column 'label' is empty"),
        (ROWS, {"template": Template("{texts}", "{label}")}, "has no column 'texts'. Did you mean 'text'"),
        (ROWS, {"template": Template("Say it:", "{label}")}, "names no field.*such as {text}"),
        (ROWS, {"template": Template("{text", "{label}")}, "template prompt = '{text'.*for braces that are text"),
        (ROWS, {"template": Template("{0}", "{label}")}, "names no column"),
    ],
)
def test_bad_tables_get_one_message_with_the_remedy(tmp_path: Path, rows: list, how: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        labelled_task(read_table(write(tmp_path / "t.jsonl", rows)), **how)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file.*CSV"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "t.xlsx").write_bytes(b"x")
    with pytest.raises(UserError, match="unknown kind"):
        read_table(tmp_path / "t.xlsx")
    (tmp_path / "t.jsonl").write_text('{"text": 1}\n{broken')
    with pytest.raises(UserError, match="line 2: not valid JSON"):
        read_table(tmp_path / "t.jsonl")
    (tmp_path / "e.csv").write_text("text,label\n")
    with pytest.raises(UserError, match="holds no rows"):
        read_table(tmp_path / "e.csv")
    with pytest.raises(UserError, match="too few"):
        three_parts(Task("t", (Item("a", "b"),)))


@pytest.mark.parametrize("family", FAMILIES)
def test_results_are_what_the_scores_say(family: str) -> None:
    codec = Codec(tiny(family))
    labels = (" a", " bc")
    items = tuple(Item(f"q {i}", labels[i % 2], labels) for i in range(12))
    row = evaluate_task(codec, Task("t", items, labels=labels))
    right = []
    for item in items:
        nats = score(codec, [codec.pair(item.prompt, choice) for choice in labels]).nats
        right.append(int(nats.argmin()) == item.gold)
    assert row["accuracy"]["value"] == pytest.approx(sum(right) / 12)
    assert row["chance"] == 0.5 and row["majority"] == 0.5 and set(row["f1"]) == {"a", "bc"}
    assert row["macro_f1"]["value"] == pytest.approx(sum(row["f1"].values()) / 2)
    assert sum(b["count"] for b in row["reliability"]) == 12


def test_groups_average_to_the_whole() -> None:
    row = evaluate_task(Codec(tiny()), generated_task("copy", 30))
    for name in ("accuracy", "exact_match", "part_accuracy", "nats_per_token"):
        total = sum(group["items"] * group[name]["value"] for group in row["groups"])
        assert total / row["items"] == pytest.approx(row[name]["value"])
