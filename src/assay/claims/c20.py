"""C20: a rate that is large first and small later beats a constant one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.claims.standard import RATES, study
from assay.stats import Superiority

MARGIN = 0.01
KINDS = ("cosine", "linear", "constant", "reversed")
WARMUP = 0.1


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Four shapes with the standard warmup, each at its own best peak; the constant rate without any warmup too."""
    bare = {"schedule.kind": "constant", "schedule.warmup": 0.0}
    return {
        "shapes": Experiment(study(tier, vary={"train.schedule.kind": KINDS}), RATES[tier]),
        "bare": Experiment(study(tier, train=bare), RATES[tier]),
    }


def measure(lab: Lab) -> Measured:
    """Losses paired by seed, and what each shape looks like."""
    from assay.spec.training import ScheduleSpec
    from assay.training.schedule import factor

    found = lab.results("shapes")
    cells = {kind: found.cell(**{"train.schedule.kind": kind}) for kind in KINDS}
    bare = lab.results("bare")
    named = {**cells, "constant, no warmup": bare.cells[0]}
    points: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    for name, cell in named.items():
        mean = cell.mean
        points.append({"series": name, "x": name, "y": mean.estimate, "low": mean.low, "high": mean.high})
        table.append([name, cell.rate, mean.estimate, mean.low, mean.high])
        warmup = 0.0 if cell is bare.cells[0] else WARMUP
        spec = ScheduleSpec.model_validate({"kind": name.partition(",")[0], "warmup": warmup})
        shapes += [
            {"series": name, "x": step / 100, "y": cell.rate * factor(spec, step / 100, warmup)}
            for step in range(1, 101)
        ]
    constant = cells["constant"]
    return Measured(
        answers={
            "cosine": cells["cosine"].minus(constant),
            "linear": cells["linear"].minus(constant),
            "order": cells["cosine"].minus(cells["reversed"]),
            "warmup": constant.minus(bare.cells[0]),
        },
        pictures=[
            Picture(
                Words("Held-out loss of each schedule at its own best peak, 95% interval", "各调度在自身最佳峰值下的留出损失，95% 区间"),
                points, x="schedule", y="bits per byte", kind="points",
            ),
            Picture(
                Words("The rate over the run, at the best peak of each", "训练过程中的学习率（各取最佳峰值）"),
                shapes, x="share of the run", y="learning rate",
            ),
        ],
        tables=[
            Table(
                Words("Each schedule at its own best peak", "各调度取自身最佳峰值"),
                ["schedule", "peak rate", "bits per byte", "low", "high"], table,
            )
        ],
        remarks=[*found.remarks(), *bare.remarks()],
    )  # fmt: skip


CLAIM = Claim(
    key="C20",
    title=Words("Large first, small later beats a constant rate", "先大后小的学习率胜过恒定学习率"),
    says=Words(
        "Start with a large learning rate and lower it as training goes on, by a linear or cosine schedule: the model ends "
        "better than at any constant rate.",
        "先用较大的学习率，再随训练降低（线性或余弦调度），最终效果好于任何恒定学习率。",
    ),
    literature=Words(
        "Loshchilov & Hutter 2017 (cosine). Hoffmann et al. 2022, appendix B: a cosine that is as long as the training ends "
        "lower than a longer one. Hägele et al. 2024: a constant rate with a short cooldown matches the cosine, without the "
        "cooldown it does not.",
        "Loshchilov & Hutter 2017（余弦）。Hoffmann 等 2022 附录 B：周期与训练等长的余弦优于更长的。Hägele 等 2024：恒定学习率加短暂冷却可与余弦"
        "持平，不冷却则不能。",
    ),
    sources=[
        "Loshchilov & Hutter 2017, SGDR",
        "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, appendix B",
        "Hägele et al. 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations",
    ],
    formulas=[
        Formula(
            r"\eta(t) = \eta_{\max} \left( f + \frac{1 - f}{2} \left( 1 + \cos \pi \frac{t - w}{1 - w} \right) \right), "
            r"\qquad \eta_{\mathrm{reversed}}(t) = \eta(1 - t)",
            Words("t: share of the run; w: share that warms up, linearly from 0; f: final share, 0.1", "t：已完成的份额；w：线性预热份额；f：末值比例 0.1"),
            "Loshchilov & Hutter 2017, equation 5",
        )
    ],
    experiment=Words(
        "The standard decoder under five schedules at equal steps, data and FLOPs, each at its own best peak out of a sweep on "
        "one seed, then paired by seed: cosine and linear to a tenth; constant after the same warmup (the control for "
        "warmup alone); constant without it; and the cosine backwards, which has the same rates in the other order.",
        "标准解码器在五种调度下训练，步数、数据与 FLOPs 相同，各自先在一个种子上扫描最佳峰值，再按种子配对：余弦与线性降至十分之一；同样预热后的恒定学习率"
        "（仅预热的对照）；无预热的恒定学习率；以及倒放的余弦（同一组学习率，顺序相反）。",
    ),
    rule=Words(
        f"Cosine minus constant, linear minus constant, and cosine minus its reverse: each supports the claim if its 95% "
        f"interval lies below -{MARGIN} bits per byte (two seeds of one run differ by about that), and refutes it if above. "
        "All must agree; warmup alone stands beside.",
        f"余弦减恒定、线性减恒定、余弦减其倒放：95% 区间低于 -{MARGIN} 比特每字节则支持（同一配置两个种子的差异约为此数），高于则否定。三者须一致；仅预热的效果列在一旁。",
    ),
    questions={
        "cosine": Question(
            Words("held-out loss, cosine minus constant (both warmed up)", "留出损失：余弦减恒定（均有预热）"),
            Superiority(MARGIN, "lower"), "bits per byte",
        ),
        "linear": Question(
            Words("held-out loss, linear minus constant", "留出损失：线性减恒定"), Superiority(MARGIN, "lower"), "bits per byte",
        ),
        "order": Question(
            Words("held-out loss, cosine minus the same rates backwards", "留出损失：余弦减倒放的同一组学习率"),
            Superiority(MARGIN, "lower"), "bits per byte",
        ),
        "warmup": Question(
            Words("held-out loss, constant with warmup minus without", "留出损失：恒定，有预热减无预热"),
            Superiority(MARGIN, "lower"), "bits per byte", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "A run so short that every rate is still far from its floor gains little from decay; a longer one gains more.",
        "训练很短时损失离各学习率的下限尚远，衰减收益小；训练越长收益越大。",
    ),
)  # fmt: skip
