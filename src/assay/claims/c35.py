"""C35: normalization speeds up and steadies training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from assay.claims.base import Claim, Experiment, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab, Trained
from assay.claims.placements import edges, mean_of, steps_ratio
from assay.claims.standard import RATES, study
from assay.stats import Threshold

FASTER = math.log2(1.1)
"""A tenth fewer steps."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The standard decoder with LayerNorm and with no norm at all; the latter has one lower rate to choose from."""
    low = RATES[tier][0] / 3
    return {
        "with": Experiment(study(tier, model={"norm": "layernorm"}), RATES[tier]),
        "without": Experiment(study(tier, model={"norm": "none"}), (low, *RATES[tier])),
    }


def measure(lab: Lab) -> Measured:
    """Steps to a loss, scatter of updates, rates that came to an end."""
    cells = {"LayerNorm": lab.results("with").cell(), "no norm": lab.results("without").cell()}
    batches = lab.by_tier(smoke=3, quick=12, full=64)
    normed, plain = cells["LayerNorm"], cells["no norm"]
    scatter = {
        name: [update_scatter(run, batches) if run.done else math.inf for run in cell.runs]
        for name, cell in cells.items()
    }
    curves = [
        {"series": f"{name}, rate {cell.rate:g}", "x": row["step"], "y": row["loss"]}
        for name, cell in cells.items() for row in cell.runs[0].rows()
    ]  # fmt: skip
    sweep = [
        {"series": name, "x": rate, "y": bits}
        for name, cell in cells.items() for rate, bits in sorted(cell.sweep.items()) if math.isfinite(bits)
    ]  # fmt: skip
    pairs = [(a, b) for a, b in zip(scatter["no norm"], scatter["LayerNorm"], strict=True) if math.isfinite(a + b)]
    return Measured(
        answers={
            "faster": steps_ratio(plain.runs, normed.runs),
            "steadier": mean_of([math.log2(a / b) for a, b in pairs]) if pairs else NEVER,
            "loss": normed.minus(plain),
        },
        pictures=[
            Picture(Words("Training loss, each at its own best rate, seed 0", "训练损失，各取最佳学习率，种子 0"),
                    curves, x="step", y="nats per token"),
            Picture(Words("Held-out loss over the sweep's rates; missing points diverged", "扫描各学习率的留出损失；缺失的点为发散"),
                    sweep, x="peak learning rate", y="bits per byte", log_x=True),
        ],
        tables=[
            Table(Words("Scatter: relative spread of the function's update over batches", "离散度：各批次上函数更新的相对离散程度"),
                  ["model", "rate", "diverged in the sweep", "bits per byte", "scatter"],
                  [[name, cell.rate, sum(math.isinf(v) for v in cell.sweep.values()),
                    cell.mean.estimate if np.isfinite(cell.bits).any() else None,
                    mean_of(scatter[name]).estimate if np.isfinite(scatter[name]).any() else None]
                   for name, cell in cells.items()]),
        ],
        remarks=edges(cells),
    )  # fmt: skip


def update_scatter(run: Trained, batches: int) -> float:
    """Standard deviation over mean of how far a gradient step of one batch moves the trained function.

    Plain gradient descent without clipping, one rate for all batches, so small that the move is proportional to it;
    outputs are looked at on one fixed batch. Weights are restored after each.
    """
    import torch

    from assay.probes.updates import function_update
    from assay.training.setup import make_loader
    from assay.training.step import take_step
    from assay.training.text import resolve

    model = run.model().transformer
    loader = make_loader(resolve(run.run), run.text())

    def step(number: int) -> None:
        batch = loader.batch(0, number)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        take_step(
            model, optimizer, batch, weight=float(batch.weights.sum()), parts=1, learning_rate=1e-3, most=0.0,
            z_loss=0.0, dtype="float32",
        )  # fmt: skip

    fixed = loader.batch(0, 0)
    steps = [partial(step, number) for number in range(1, batches + 1)]
    return spread([function_update(model, fixed, once).points["logits"].change for once in steps])


def spread(moves: list[float]) -> float:
    """Standard deviation over mean; infinite where a move is not finite."""
    values = np.asarray(moves)
    return float(values.std(ddof=1) / values.mean()) if np.isfinite(values).all() and values.mean() > 0 else math.inf


CLAIM = Claim(
    key="C35",
    title=Words("Normalization speeds up and steadies training", "归一化加速并稳定训练"),
    says=Words(
        "With normalization a model learns in fewer steps, and its updates scatter less.",
        "使用归一化的模型用更少的步数学会，且更新更平稳。",
    ),
    literature=Words(
        "Ba et al. 2016 introduce LayerNorm to shorten training. Zhang et al. 2019 (Fixup) train residual networks and "
        "translation transformers without any norm to comparable quality, by scaled first weights.",
        "Ba 等 2016 提出 LayerNorm 以缩短训练。Zhang 等 2019（Fixup）通过缩放初始权重，在没有任何归一化的情况下训练残差网络与翻译 Transformer，效果相当。",
    ),
    sources=[
        "Ba et al. 2016, Layer Normalization",
        "Zhang et al. 2019, Fixup Initialization: Residual Learning Without Normalization",
    ],
    experiment=Words(
        "The standard decoder with LayerNorm and with no norm anywhere, each at its own best rate out of a sweep (the one "
        "without has one lower rate to choose from), seeds paired. Speed: steps to the training loss that both reach (the "
        "worse of both ends, means over a tenth of the run). Steadiness: at the end of training, one plain gradient step on "
        "each of several batches, each from the same weights; the standard deviation over the mean of how far the logits move.",
        "标准解码器分别使用 LayerNorm 与完全没有归一化，各取扫描得到的最佳学习率（后者多一个更低的候选），种子配对。速度：达到两者共同训练损失的步数（取两端较差者，"
        "按十分之一长度平均）。平稳：训练结束后，从同一权重出发分别在若干批次上做一步普通梯度下降，取 logits 移动量的标准差与均值之比。",
    ),
    rule=Words(
        "Speeds up: without norms at least 10% more steps. Steadies: the updates' relative scatter is larger without. Each by "
        "its whole 95% interval (Student t over seeds, in log2); refuted on the other side; parts that disagree: depends.",
        "加速：没有归一化时至少多用 10% 的步数。平稳：没有归一化时更新的相对离散度更大。均以整个 95% 区间（对种子 t，log2）判定；在另一侧则否定；不一致为“视情况而定”。",
    ),
    questions={
        "faster": Question(
            Words("steps to the loss that both reach, without norms over with", "达到共同损失的步数：无归一化 / 有归一化"),
            Threshold(FASTER), "log2",
        ),
        "steadier": Question(
            Words("relative scatter of updates, without norms over with", "更新的相对离散度：无归一化 / 有归一化"),
            Threshold(0.0), "log2",
        ),
        "loss": Question(
            Words("final held-out loss, with norms minus without", "最终留出损失：有归一化减无归一化"),
            Threshold(-0.02, "below"), "bits per byte", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Depth: four layers with residual branches scaled down at the start train without norms too; at hundreds of layers "
        "they need the scaling to be exact.",
        "深度：四层且初始残差分支缩小的模型没有归一化也能训练；数百层时缩放必须精确。",
    ),
    seconds=15.0,
)  # fmt: skip
