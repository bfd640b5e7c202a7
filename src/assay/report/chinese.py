"""What the book's figures say in Chinese: units, intervals and rules, as data. What is not listed stays in English."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from assay.report.figure import number
from assay.report.format import MINUS

__all__ = ["METHODS", "MISSING", "UNITS", "how_words", "rule_words", "unit_words"]

MISSING = {"en": "not measured", "zh": "未测量"}

UNITS = {
    "bits": "比特", "bits per byte": "比特每字节", "bits per token": "比特每 token", "decades": "个数量级",
    "doublings": "次翻倍", "entries": "个条目", "log / log": "（双对数斜率）", "log2": "（log2）", "models": "个模型",
    "nats per token": "奈特每 token", "nats per token per 100 bytes": "奈特每 token 每 100 字节",
    "of configurations": "（占全部配置）", "of it": "（相对值）", "of the change": "（占总变化）",
    "of the fall": "（占下降量）", "of the items": "（占题目）", "of the name": "（相对名称）",
    "of the variance": "（占方差）", "pairs": "对", "parameters": "个参数", "rates": "个学习率", "rows": "行",
    "share": "（比例）", "spikes": "个尖峰",
}  # fmt: skip
"""Units of the claims' questions; a test holds that none of them lacks a word. Shares stand in brackets."""

METHODS = {
    "paired Student t": "配对 t 分布", "least squares, Student t": "最小二乘，t 分布", "Student t": "t 分布",
    "Welch t": "Welch t", "Wilson": "Wilson 法", "bootstrap": "自助法", "percentile": "百分位", "paired": "配对",
    "resamples": "次重抽样", "cases": "例", "of logarithms": "取对数", "of log2": "取 log2", "exact": "精确值",
    "no run came to its end": "没有一次训练完成",
    "not measured: nothing changed over the sizes": "未测量：各规模之间没有变化",
    r"medians of (\d+) blocks of rounds": r"\1 组轮次的中位数",
}  # fmt: skip
"""Parts of how an interval was made (`Interval.method`) as regular expressions, the longer before what they contain."""

KEPT = {"bca", "Welch", "Wilson", "log2", "t", "n"}
"""Words that Chinese texts write so too."""

RULES = {
    "threshold": "区间在 {bound} {side}则支持，在另一侧则否定",
    "superiority": "差值的区间在 {bound} {side}则支持，在另一侧则否定",
    "equivalence": "差值的区间在 ±{bound} 之内则支持，完全在外则否定",
}
"""`Rule.__str__` of every rule."""


def unit_words(unit: str) -> dict[str, str]:
    """A unit that stands behind its number; one that is not known alone has no Chinese."""
    return {"en": unit, "zh": UNITS.get(unit, "")}


def how_words(answer: Mapping[str, Any]) -> dict[str, str]:
    """How an answer's interval was made."""
    method = str(answer.get("method", "" if answer.get("n") is not None else "exact"))
    translated = _method(method)
    if answer.get("n") is None:
        return {"en": method, "zh": translated}
    confidence = f"{number(answer.get('confidence')):.0%}"
    return {
        "en": f"{confidence} interval, {method}",
        "zh": f"{confidence} 区间，{translated}" if translated else "",
    }


def _method(text: str) -> str:
    """In Chinese, whole; empty where a word is not known."""
    found = text
    for en, zh in METHODS.items():
        found = re.sub(en, zh, found)
    if set(re.findall(r"[A-Za-z][A-Za-z0-9]*", found)) - KEPT:
        return ""
    return re.sub(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])", "", re.sub(r",\s", "，", found))


def rule_words(rule: Mapping[str, Any], text: str) -> dict[str, str]:
    """A rule in words.

    Args:
        rule: as `Rule.to_dict` wrote it.
        text: the rule's own words, in English.
    """
    kind, bound = str(rule.get("rule")), number(rule.get("margin", rule.get("value")))
    words = {"en": text[:1].upper() + text[1:], "zh": ""}
    if kind not in RULES or not math.isfinite(bound):
        return words
    above = rule.get("side", "above") == "above" and rule.get("better", "higher") == "higher"
    if kind == "superiority" and not above:
        bound = 0.0 - bound
    said = f"{bound:g}".replace("-", MINUS)
    return words | {"zh": RULES[kind].format(bound=said, side="以上" if above else "以下")}
