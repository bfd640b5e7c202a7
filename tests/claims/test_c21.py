"""C21: counts of rows and exceptions, and tables that would turn the verdict."""

from dataclasses import replace

from assay.claims.base import decide
from assay.claims.c21 import CLAIM, answers, exceptions, read, wrong
from assay.spec.norm_table import norm_rows
from assay.stats import Interval, Verdict


def given(others: float, chatglm2: float, suits: float) -> Verdict:
    counts = {"others": others, "chatglm2": chatglm2, "suits": suits}
    return decide(CLAIM, {name: Interval.exact(count) for name, count in counts.items()})[0]


def test_every_verdict() -> None:
    assert given(0, 0, 0) is Verdict.SUPPORTED
    assert given(0, 1, 15) is Verdict.DEPENDS
    assert given(2, 1, 15) is Verdict.REFUTED


def test_the_released_configurations() -> None:
    rows = norm_rows()
    assert wrong(rows) == ["ChatGLM2-6B"]
    assert {"GPT-2", "GPT-3", "T5 v1.0"} <= set(exceptions(rows)) and "BERT" not in exceptions(rows)
    assert "LLaMA 1" not in exceptions(rows)


def test_other_configurations_would_be_seen() -> None:
    """Controls: a ChatGLM2 with Post-LN agrees with the list, a LLaMA with LayerNorm contradicts it."""
    rows = norm_rows()
    post = [replace(row, placement="post") if row.model == "ChatGLM2-6B" else row for row in rows]
    assert wrong(post) == [] and answers(post)["chatglm2"].estimate == 0
    layer = [replace(row, norm="layernorm") if row.model == "LLaMA 1" else row for row in rows]
    assert "LLaMA 1" in wrong(layer) and "LLaMA 1" in exceptions(layer)
    assert answers(layer)["others"].estimate == 1


def test_placements_are_read_in_the_lists_words() -> None:
    rows = {row.model: read(row) for row in norm_rows()}
    assert rows["ChatGLM-6B"] == ("deepnorm", "post") and rows["Falcon"] == ("layernorm", "pre")
    assert rows["BERT"] == ("layernorm", "post") and rows["Gemma 2"] == ("rmsnorm", "sandwich")
