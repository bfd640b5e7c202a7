"""Label-efficiency curves: which labels are drawn, what is compared, and that pretrained weights show."""

import math
from collections import Counter
from pathlib import Path

import pytest
from tests.evaluation.tasks_common import tiny

from assay.errors import UserError
from assay.evaluation.tasks import Item, Task, Three
from assay.report.tasks import write_labels
from assay.runs import provenance, write_json
from assay.studies.label_efficiency import label_curve, labels_needed, subset
from assay.training.tuning import Part, tune
from assay.training.tuning_spec import TuneSpec

LABELS = (" no", " yes")


def task(words: range) -> Task:
    items = [Item(f"{chr(97 + i % 26)}{i}:", LABELS[chr(97 + i % 26) in "aeioubcdfgh"], LABELS) for i in words]
    return Task("t", tuple(items), labels=LABELS)


def test_subsets_keep_the_classes_shares_and_grow() -> None:
    whole = task(range(260))
    share = Counter(i.answer for i in whole.items)[" yes"] / 260
    small, large = subset(whole, 20, 0), subset(whole, 100, 0)
    assert small == large[:20] and len({i.prompt for i in large}) == 100
    assert abs(Counter(i.answer for i in large)[" yes"] / 100 - share) < 0.02
    assert {i.answer for i in subset(whole, 2, 5)} == set(LABELS) and subset(whole, 20, 1) != small
    with pytest.raises(UserError, match="labels = 999: t has 260"):
        subset(whole, 999, 0)
    with pytest.raises(UserError, match="there are 2 classes"):
        subset(whole, 1, 0)


def test_labels_needed_by_hand() -> None:
    curve = [(10, 0.5), (100, 0.7), (1000, 0.9)]
    assert labels_needed(curve, 0.8) == pytest.approx(10**2.5)
    assert labels_needed(curve, 0.7) == pytest.approx(100) and labels_needed(curve, 0.5) == 10
    assert labels_needed(curve, 0.4) is None and labels_needed(curve, 0.95) == math.inf
    assert labels_needed([], 0.5) is None


def test_weights_that_know_the_task_need_fewer_labels(tmp_path: Path) -> None:
    spec = TuneSpec.from_dict(
        {"steps": 15, "batch_size": 8, "length": 32, "optimizer": 5e-3, "evaluations": 2, "patience": 0}
    )
    teacher = tiny(sharp=1.0)
    tune(teacher, [Part(task(range(500, 1020)), task(range(260)))], spec.with_(steps=400))
    weights = {name: p.detach().clone() for name, p in teacher.named_parameters()}

    def make(arm: str, seed: int):
        model = tiny(seed=seed, sharp=1.0)
        if arm == "pretrained":
            for name, parameter in model.named_parameters():
                parameter.data.copy_(weights[name])
        return model

    parts = Three(task(range(120)), task(range(120, 160)), task(range(160, 260)))
    found = label_curve(make, parts, spec, labels=[8, 32], seeds=3)
    assert found["complete"] and len(found["runs"]) == 12
    assert all(d["value"] > 0.1 and d["low"] > 0 for d in found["differences"]), found["differences"]
    assert found["saved"][0]["beyond"], "fresh weights do not get there"
    data = {"schema_version": 1, "kind": "labels", "name": "t", **found, "settings": {}, "provenance": provenance("x")}
    write_json(tmp_path / "labels.json", data)
    page = write_labels(tmp_path).read_text(encoding="utf-8")
    assert "<svg" in page and "pretrained minus fresh weights +0." in page and "more than were tried" in page
