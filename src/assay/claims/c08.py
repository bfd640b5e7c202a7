"""C8: emergence from composition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Words
from assay.claims.c07 import over_seeds, sharpness
from assay.claims.lab import Lab
from assay.claims.sizes import PARTS, experiments, family
from assay.stats import Equivalence, Interval, Superiority
from assay.stats.composition import Composition, compose, independent

MARGIN = 0.1
SHARPER = 0.0


def worst(sizes: Sequence[Composition]) -> float | None:
    """Observed whole minus the product of its parts, where they lie furthest apart; None where no whole was measured."""
    gaps = [each.whole - each.independent for each in sizes if each.whole is not None]
    return max(gaps, key=abs) if gaps else None


def sharper(sizes: Sequence[Composition]) -> float | None:
    """The steepest step's share of the change, of the whole minus of its parts' mean; None where nothing changes."""
    whole = sharpness([each.whole or 0.0 for each in sizes])
    part = sharpness([float(np.mean(list(each.parts.values()))) for each in sizes])
    return None if whole is None or part is None else whole - part


def answers(by_seed: Sequence[Sequence[Composition]]) -> dict[str, Interval]:
    """From every seed's sizes."""
    impossible = sum(each.possible is False for sizes in by_seed for each in sizes)
    return {
        "independent": over_seeds([worst(sizes) for sizes in by_seed]),
        "sharper": over_seeds([sharper(sizes) for sizes in by_seed]),
        "bounds": Interval.exact(impossible),
        "example": Interval.exact(independent([0.6] * 5) / independent([0.4] * 5)),
    }


def measure(lab: Lab) -> Measured:
    """Sub-tasks and the whole, of every model."""
    from assay.evaluation.outcomes import together

    by_seed = []
    for models in family(lab):
        held = together("assay", models)
        by_seed.append(compose(held.subtasks, {model.model: model.scale for model in held.models}))
    points: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    for i, first in enumerate(by_seed[0]):
        same = [sizes[i] for sizes in by_seed if i < len(sizes)]
        parts = float(np.mean([list(each.parts.values()) for each in same]))
        whole = float(np.mean([each.whole or 0.0 for each in same]))
        product = float(np.mean([each.independent for each in same]))
        low, high = float(np.mean([each.low for each in same])), float(np.mean([each.high for each in same]))
        points += [
            {"series": "a sub-task, mean", "x": first.scale, "y": parts},
            {"series": "whole, observed", "x": first.scale, "y": whole},
            {"series": "whole, if independent", "x": first.scale, "y": product},
            {"series": "Frechet, least", "x": first.scale, "y": low},
            {"series": "Frechet, greatest", "x": first.scale, "y": high},
        ]
        table.append([first.model, first.scale, parts, whole, product, low, high])
    example = [
        {"series": name, "x": share / 100, "y": (share / 100) ** power}
        for name, power in (("one sub-task", 1), (f"{PARTS} at once", PARTS))
        for share in range(20, 101, 2)
    ]
    return Measured(
        answers=answers(by_seed),
        pictures=[
            Picture(
                Words("A sub-task, the whole, and what the parts allow, over size", "子任务、整体，以及子任务所允许的范围，随规模"),
                points, x="parameters", y="share right", log_x=True,
            ),
            Picture(
                Words("Five independent sub-tasks: what one gains and what the whole gains", "五个独立子任务：单个的提升与整体的提升"),
                example, x="share right of one sub-task", y="share right",
            ),
        ],
        tables=[
            Table(
                Words("Mean of the seeds", "各种子平均"),
                ["model", "parameters", "sub-tasks", "whole", "if independent", "least", "greatest"], table,
            )
        ],
        remarks=[
            Words(
                "Five independent sub-tasks that go from 40% to 60% take the whole from 1.02% to 7.78%, 7.6 times. The note's 1.1% "
                "and 7% belong to 40.6% and 58.8%.",
                "五个独立子任务各从 40% 升到 60%，整体从 1.02% 升到 7.78%，即 7.6 倍。笔记所写的 1.1% 与 7% 对应的是 40.6% 与 58.8%。",
            )
        ],
    )  # fmt: skip


CLAIM = Claim(
    key="C8",
    title=Words("Emergence comes from composition", "涌现来自子任务的组合"),
    says=Words(
        "A complex task is made of sub-tasks that improve smoothly; since all must succeed, the whole improves suddenly: with five "
        "sub-tasks at 40% the whole is at 1.1%, at 60% it is at 7%.",
        "复杂任务由若干子任务组成，子任务平稳提升；由于须全部成功，整体会突然提升：五个子任务各为 40% 时整体为 1.1%，各为 60% 时为 7%。",
    ),
    literature=Words(
        "Wei et al. 2022, section 5.1: a task of l sequential steps may need a model of a certain depth; and the product of many "
        "accuracies rises late. The exact figures are 0.4^5 = 1.02% and 0.6^5 = 7.78%. Whatever their dependence, the whole lies "
        "between Frechet's bounds.",
        "Wei 等 2022，5.1 节：多步任务可能需要一定深度的模型；多个准确率之积上升较晚。准确数字为 0.4^5 = 1.02% 与 0.6^5 = 7.78%。无论依赖关系如何，整体都在 Fréchet "
        "界之间。",
    ),
    sources=["Wei et al. 2022, Emergent Abilities of Large Language Models, section 5.1", "Frechet 1935"],
    formulas=[
        Formula(
            r"P_{\text{independent}} = \prod_{k=1}^{K} p_k, \qquad "
            r"\max\Big(0, \sum_{k} p_k - (K - 1)\Big) \le P(\text{all}) \le \min_k p_k",
            Words("p_k: accuracy of sub-task k; K: how many", "p_k：子任务 k 的准确率；K：个数"),
            "Frechet 1935",
        )
    ],
    experiment=Words(
        f"The models of C7: a decoder in five sizes or more on {PARTS} facts asked at once, each fact a sub-task of its own table. "
        "On unseen combinations, every sub-task's accuracy, the whole's, the product and Frechet's bounds.",
        f"采用 C7 的模型：解码器的五个以上规模，一次问 {PARTS} 个事实，每个事实是各自表中的一个子任务。在未见过的组合上，取每个子任务与整体的准确率、乘积及 Fréchet 界。",
    ),
    rule=Words(
        f"Supported if, at the size where they differ most, the whole lies within ±{MARGIN} of the product of its parts, and the "
        "steepest step takes a larger share of the whole's change over sizes than of the parts' (95% t intervals over seeds); "
        "refuted if both fail; depends if one does. Bounds and the note's example are exact and stand beside.",
        f"若在二者相差最大的规模上整体与子任务之积相差不超过 ±{MARGIN}，且最陡一步占整体变化的份额大于占子任务变化的份额（对种子取 95% t 区间），则支持；两者皆否则否定；"
        "其一不然则视情况而定。Fréchet 界与笔记的例子为精确值，列在一旁。",
    ),
    questions={
        "independent": Question(
            Words("whole minus the product of its parts, where they differ most", "整体减子任务之积（相差最大处）"),
            Equivalence(MARGIN), "of the items",
        ),
        "sharper": Question(
            Words("steepest step's share of the change, whole minus parts", "最陡一步占总变化的份额：整体减子任务"),
            Superiority(SHARPER, "higher"), "of the change",
        ),
        "bounds": Question(
            Words("models whose whole lies outside Frechet's bounds", "整体落在 Fréchet 界外的模型数"),
            Equivalence(0.5), "models", decides=False,
        ),
        "example": Question(
            Words("five independent sub-tasks from 40% to 60%: growth of the whole", "五个独立子任务从 40% 到 60%：整体增长的倍数"),
            Equivalence(100.0), "x", decides=False,
        ),
    },
    runs=experiments,
    measure=measure,
    changes=Words(
        "Sub-tasks that share what they need are learned together: the whole then lies above the product, and jumps with them.",
        "若子任务共享所需的能力，它们会一同学会：整体高于乘积，并随之跳变。",
    ),
    seconds=20.0,
)  # fmt: skip
