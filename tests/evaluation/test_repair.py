"""Each damage does what it says, and no part sees another's passages."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from assay.errors import UserError
from assay.evaluation.repair import DAMAGE, damaged, repair_task

TEXT = "The kulin sule has a bufen sisi."


def test_each_damage_does_what_it_says() -> None:
    words = Counter(TEXT.split(" "))
    for seed in range(20):
        hurt = {kind: damaged(TEXT, kind, np.random.default_rng(seed)) for kind in DAMAGE}
        assert Counter(hurt["permutations"].split(" ")) == words
        assert Counter(hurt["deletions"].split(" ")) < words
        assert Counter(hurt["doubled"].split(" ")) > words
        assert len(hurt["typos"]) == len(TEXT) and sum(a != b for a, b in zip(hurt["typos"], TEXT, strict=True)) >= 1
        assert all(text != TEXT for kind, text in hurt.items())


def test_parts_share_no_passage_whatever_the_damage() -> None:
    train = {item.answer for item in repair_task("doubled", 50, part="train").items}
    for kind in ("typos", "deletions", "permutations"):
        task = repair_task(kind, 30)
        assert len(task) == 30 and task == repair_task(kind, 30) and not train & {item.answer for item in task.items}
    with pytest.raises(UserError, match="'typo' is not known"):
        damaged(TEXT, "typo", np.random.default_rng(0))
