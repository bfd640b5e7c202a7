"""C32: LLaMA: fewer parameters, more tokens, equal quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Cell, Lab
from assay.claims.standard import RATES, study
from assay.stats import Superiority

MARGIN = 0.02
WIDTHS: Mapping[Tier, tuple[int, ...]] = {
    Tier.smoke: (16, 32, 48), Tier.quick: (32, 64, 128), Tier.full: (128, 256, 384, 512)
}  # fmt: skip
"""Small to large; the second is the standard model."""
BUDGET = {Tier.smoke: 4.35e8, Tier.quick: 1.64e11, Tier.full: 1.57e15}
"""Training FLOPs of a standard run."""
MORE = 2
"""Times the budget, for the small model that is trained on more tokens."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Every size at one budget; the second size at a larger one."""
    widths = WIDTHS[tier]
    return {
        "equal": Experiment(
            study(tier, vary={"width": widths}, train={"budget": BUDGET[tier]}, match="flops"), RATES[tier]
        ),
        "more": Experiment(
            study(tier, model={"width": widths[1]}, train={"budget": MORE * BUDGET[tier]}, match="flops"),
            RATES[tier][1:],
        ),
    }  # fmt: skip


def _facts(cell: Cell) -> tuple[int, float, float]:
    """Parameters, FLOPs of one token in use (at the row's length), training tokens."""
    from assay.training.text import resolve

    run = resolve(cell.runs[0].run)
    per_token = run.model.flops(run.train.length).per_token
    done = [r for r in cell.runs if r.done]
    tokens = float(done[0].rows("train")[-1]["tokens"]) if done else float("nan")
    return int(run.model.parameters()), float(per_token), tokens


def measure(lab: Lab) -> Measured:
    """Losses of every size, at equal training and at equal inference FLOPs."""
    widths = WIDTHS[lab.tier]
    equal, more = lab.results("equal"), lab.results("more")
    cells = {width: equal.cell(width=width) for width in widths}
    small, large, longer = cells[widths[1]], cells[widths[-1]], more.cells[0]
    points: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    listed = [(f"width {width}", cell, 1) for width, cell in cells.items()]
    for name, cell, times in [*listed, (f"width {widths[1]}, more tokens", longer, MORE)]:
        parameters, inference, tokens = _facts(cell)
        mean = cell.mean
        series = "equal training FLOPs" if times == 1 else f"{MORE} x the training FLOPs"
        points.append({"series": series, "x": inference, "y": mean.estimate, "low": mean.low, "high": mean.high})
        table.append([name, parameters, tokens, times * BUDGET[lab.tier], inference, cell.rate, mean.estimate])
    by_tokens = [{**point, "x": row[2], "series": "all"} for point, row in zip(points, table, strict=True)]
    return Measured(
        answers={
            "training": small.minus(large),
            "inference": longer.minus(small),
            "smallest": cells[widths[0]].minus(large),
        },
        pictures=[
            Picture(
                Words("Held-out loss over the cost of use, 95% interval", "留出损失随使用成本的变化，95% 区间"),
                points, x="inference FLOPs a token", y="bits per byte", log_x=True,
            ),
            Picture(
                Words("The same runs over their training tokens", "同样的训练，按训练 token 数"),
                by_tokens, x="training tokens", y="bits per byte", kind="points", log_x=True,
            ),
        ],
        tables=[
            Table(
                Words("Size against tokens, each at its own best rate", "规模与 token 数，各取最佳学习率"),
                ["model", "parameters", "tokens", "training FLOPs", "inference FLOPs a token", "rate", "bits per byte"],
                table,
            )
        ],
        remarks=[*equal.remarks(), *more.remarks()],
    )  # fmt: skip


CLAIM = Claim(
    key="C32",
    title=Words("Fewer parameters, more tokens, equal quality", "更少参数、更多数据、同等效果"),
    says=Words(
        "LLaMA reaches the quality of much larger models with fewer parameters, by training on more tokens.",
        "LLaMA 以更少的参数、更多的训练数据达到更大模型的效果。",
    ),
    literature=Words(
        "Touvron et al. 2023: LLaMA-13B on 1e12 tokens outperforms GPT-3 175B (300e9 tokens) on most benchmarks (table 3 to 6): "
        "6ND of 7.8e22 against 3.14e23 FLOPs. Hoffmann et al. 2022: at equal training FLOPs parameters and tokens should grow "
        "alike, about 20 tokens a parameter; GPT-3 had 1.7.",
        "Touvron 等 2023：在 1e12 token 上训练的 LLaMA-13B 在多数基准上超过 GPT-3 175B（3000 亿 token），6ND 为 7.8e22 对 3.14e23 FLOPs。Hoffmann 等 "
        "2022：训练 FLOPs 相等时参数与 token 应同比增长，约每参数 20 个 token；GPT-3 只有 1.7。",
    ),
    sources=[
        "Touvron et al. 2023, LLaMA: Open and Efficient Foundation Language Models",
        "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models",
    ],
    formulas=[
        Formula(
            r"C_{\text{train}} \approx 6 N D, \qquad C_{\text{use}} \approx 2 N \text{ a token}",
            Words("N: parameters; D: tokens. Here both are counted exactly, attention and head included", "N：参数；D：token 数。此处两者均精确计数，含注意力与输出头"),
            "Kaplan et al. 2020, section 2.1",
        )
    ],
    experiment=Words(
        "Decoders of equal depth and different width at equal training FLOPs, so that a smaller one sees more tokens, each at "
        f"its own best rate, three seeds. Then the second size again at {MORE} times the budget: what more tokens bring at "
        "equal inference FLOPs.",
        f"深度相同、宽度不同的解码器在相同训练 FLOPs 下训练（小模型因而看到更多 token），各取最佳学习率，三个种子。再把第二小的模型以 {MORE} 倍预算训练："
        "推理 FLOPs 相同时更多 token 带来什么。",
    ),
    rule=Words(
        f"Supported if at equal training FLOPs the second size is not worse than the largest by {MARGIN} bits per byte, and at "
        f"equal inference FLOPs {MORE} times the tokens improve it by more than {MARGIN} (95% intervals, paired by seed); "
        "refuted if both fail; depends if one does.",
        f"若训练 FLOPs 相等时第二小的模型不比最大的差 {MARGIN} 比特每字节以上，且推理 FLOPs 相等时 {MORE} 倍 token 使其改善超过 {MARGIN}（95% 区间，按种子配对），"
        "则支持；两者皆否则否定；其一不然则视情况而定。",
    ),
    questions={
        "training": Question(
            Words("held-out loss at equal training FLOPs, second size minus largest", "训练 FLOPs 相等时的留出损失：第二小减最大"),
            Superiority(-MARGIN, "lower"), "bits per byte",
        ),
        "inference": Question(
            Words("held-out loss at equal inference FLOPs, more tokens minus fewer", "推理 FLOPs 相等时的留出损失：更多 token 减较少 token"),
            Superiority(MARGIN, "lower"), "bits per byte",
        ),
        "smallest": Question(
            Words("held-out loss at equal training FLOPs, smallest minus largest", "训练 FLOPs 相等时的留出损失：最小减最大"),
            Superiority(-MARGIN, "lower"), "bits per byte", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "The budget: at many times these FLOPs the small model runs out of capacity and the larger one wins at equal training "
        "FLOPs; the best size grows with the budget.",
        "预算：当 FLOPs 大得多时小模型容量耗尽，相同训练 FLOPs 下更大的模型胜出；最佳规模随预算增长。",
    ),
)  # fmt: skip
