"""C19: the learning rate is the step size: above a threshold it diverges, below it crawls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.claims.sweep import cells_by_rate, swept_rates
from assay.stats import Equivalence, Interval, Superiority, mean_interval

CURVATURES = (0.05, 1.0, 4.0)
"""Eigenvalues of the quadratic."""
MOMENTUM = 0.9
TOLERANCE = 0.01
MARGIN = 0.1
"""Bits per byte that a bad rate must cost over the best."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Every rate with every seed."""
    return {"rates": swept_rates(tier)}


def found_threshold(momentum: float, curvatures: Sequence[float] = CURVATURES) -> float:
    """The largest rate at which iterating still converges, by bisection on what the iteration does."""
    from assay.probes.quadratic import converges

    low, high = 1e-2, 10.0
    with np.errstate(over="ignore"):
        for _ in range(12):
            middle = math.sqrt(low * high)
            done = converges(curvatures, middle, momentum=momentum, steps=1000)
            low, high = (middle, high) if done else (low, middle)
    return math.sqrt(low * high)


def worse(losses: NDArray[np.float64], best: NDArray[np.float64], start: float) -> Interval:
    """By how much a rate ends above the best one, paired by seed; a run that was lost counts as nothing learned."""
    return mean_interval(np.where(np.isfinite(losses), losses, start) - best)


def _descents(lab: Lab) -> tuple[list[dict[str, float | str]], float]:
    """Gradient descent on one batch of a fresh decoder, at rates told in units of 2 / sharpness; and the sharpness."""
    from assay.nn import build
    from assay.probes.curvature import sharpness
    from assay.probes.descent import descend
    from assay.training.setup import make_loader
    from assay.training.text import resolve

    trained = lab.results("rates").cells[0].runs[0]
    run = resolve(trained.run)
    run = run.model_copy(update={"train": run.train.with_(batch_size=4, length=64)})
    batch, model = make_loader(run, trained.text()).batch(0, 0), build(run.model, seed=0)
    top = sharpness(model, batch, iterations=lab.by_tier(smoke=5, quick=25, full=60)).largest
    rows: list[dict[str, float | str]] = []
    for share in (0.02, 0.5, 1.5, 8.0):
        steps = descend(model, [batch], rule="gd", rate=share * 2 / top, steps=lab.by_tier(smoke=4, quick=25, full=60))
        rows += [
            {"series": f"{share:g} x 2/sharpness", "x": step, "y": loss}
            for step, loss in enumerate(steps.losses)
            if math.isfinite(loss) and loss < 100
        ]
    return rows, top


def measure(lab: Lab) -> Measured:
    """Thresholds of a quadratic, and losses over rates."""
    from assay.probes.quadratic import descend, threshold
    from assay.training.sensitivity import sensitivity

    measured = {beta: found_threshold(beta) for beta in (0.0, MOMENTUM)}
    exact = {beta: threshold(max(CURVATURES), beta) for beta in measured}
    cells = cells_by_rate(lab.results("rates"))
    start = float(np.mean([cell.runs[0].rows("eval")[0]["bits_per_byte"] for cell in cells.values()]))
    losses = {rate: np.where(np.isfinite(cell.bits), cell.bits, start) for rate, cell in cells.items()}
    best = min(losses, key=lambda rate: float(losses[rate].mean()))
    lowest, highest = min(losses), max(losses)
    over = mean_interval(
        [sensitivity(list(losses), [values[seed] for values in losses.values()], start)
         for seed in range(len(losses[best]))]
    )  # fmt: skip
    curve, table = [], []
    for rate, values in losses.items():
        mean = mean_interval(values)
        curve.append({"series": "standard decoder", "x": rate, "y": mean.estimate, "low": mean.low, "high": mean.high})
        lost = sum(not run.done for run in cells[rate].runs)
        table.append([rate, mean.estimate, mean.low, mean.high, lost])
    slides = []
    for share in (0.02, 0.5, 0.98, 1.02):
        points = descend(CURVATURES, np.ones(len(CURVATURES)), share * exact[0.0], 60)
        values = 0.5 * (points**2 * np.asarray(CURVATURES)).sum(1)
        slides += [
            {"series": f"{share:g} x threshold", "x": step, "y": float(value)} for step, value in enumerate(values)
        ]
    network, top = _descents(lab)
    return Measured(
        answers={
            "gd": Interval.exact(measured[0.0] / exact[0.0] - 1),
            "momentum": Interval.exact(measured[MOMENTUM] / exact[MOMENTUM] - 1),
            "above": worse(losses[highest], losses[best], start),
            "below": worse(losses[lowest], losses[best], start),
            "sensitivity": over,
        },
        pictures=[
            Picture(
                Words("Held-out loss over the peak learning rate, 95% interval", "留出损失随峰值学习率的变化，95% 区间"),
                curve, x="peak learning rate", y="bits per byte", log_x=True,
            ),
            Picture(
                Words("A quadratic under gradient descent: crawling, quick, and beyond the threshold", "二次函数上的梯度下降：缓慢、迅速与越过阈值"),
                slides, x="step", y="loss", log_y=True,
            ),
            Picture(
                Words(
                    f"Gradient descent on one batch of a fresh decoder (sharpness {top:.3g})",
                    f"新初始化的解码器在一个批次上的梯度下降（锐度 {top:.3g}）",
                ),
                network, x="step", y="nats per token",
            ),
        ],
        tables=[
            Table(
                Words("Loss by rate", "各学习率的损失"), ["peak rate", "bits per byte", "low", "high", "diverged"], table,
            ),
            Table(
                Words("Thresholds of the quadratic", "二次函数的阈值"),
                ["momentum", "found", "(2 + 2 momentum) / largest curvature"],
                [[beta, measured[beta], exact[beta]] for beta in measured],
            ),
        ],
        remarks=[
            Words(
                f"Best rate {best:g}. A rate drawn from the range (uniform in its logarithm) costs {over.estimate:.2f} bits "
                "per byte over it.",
                f"最佳学习率 {best:g}。在该范围内（按对数均匀）任取一个学习率，平均比最佳多 {over.estimate:.2f} 比特每字节。",
            ),
            Words(
                "Adam with clipping does not diverge to infinity at a rate that is too large: it ends at a loss as bad as "
                "little training, or none.",
                "带裁剪的 Adam 在学习率过大时不会发散到无穷，而是停在如同几乎没有训练的损失上。",
            ),
        ],
    )  # fmt: skip


CLAIM = Claim(
    key="C19",
    title=Words("Too large a rate diverges, too small a one crawls", "学习率过大则发散，过小则缓慢"),
    says=Words(
        "The learning rate is the step size of gradient descent: above a threshold training diverges, far below it progress is "
        "too slow to be of use.",
        "学习率是梯度下降的步长：超过阈值训练发散，过小则收敛过慢。",
    ),
    literature=Words(
        "On a quadratic gradient descent converges if and only if the rate is below 2 / lambda_max, with momentum beta below "
        "(2 + 2 beta) / lambda_max (Cohen et al. 2021, section 2). Wortsman et al. 2023 measure the loss's sensitivity to the "
        "rate over 3e-4 to 3e-1.",
        "在二次函数上，梯度下降当且仅当学习率小于 2/λmax 时收敛；带动量 β 时为 (2+2β)/λmax（Cohen 等 2021，第 2 节）。Wortsman 等 2023 在 3e-4 至 "
        "3e-1 上测量损失对学习率的敏感度。",
    ),
    sources=[
        "Cohen et al. 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability",
        "Wortsman et al. 2023, Small-scale proxies for large-scale Transformer training instabilities",
    ],
    formulas=[
        Formula(
            r"x_{t+1} = x_t - \eta \nabla f(x_t), \quad f(x) = \tfrac12 \sum_i \lambda_i x_i^2: \qquad "
            r"\text{converges} \iff \eta < \frac{2}{\lambda_{\max}}; \qquad "
            r"\text{with momentum } \eta < \frac{2 + 2\beta}{\lambda_{\max}}",
            Words("eta: rate; lambda: curvatures; beta: momentum", "η：学习率；λ：曲率；β：动量"),
            "Cohen et al. 2021",
        )
    ],
    experiment=Words(
        "Exact: on a quadratic the largest rate that converges is found by trying, with and without momentum, and held against "
        "the formula. In training: the standard decoder at rates over three decades, three seeds each; a run that diverged "
        "counts as one that learned nothing. Beside it, bare gradient descent on one batch of a fresh decoder, at rates told "
        "in units of 2 / sharpness.",
        "精确部分：在二次函数上以试验找出仍收敛的最大学习率（有无动量），与公式对照。训练部分：标准解码器在跨三个数量级的学习率下训练，各三个种子；"
        "发散的训练按什么都没学到计。旁列：新初始化解码器在一个批次上的纯梯度下降，学习率以 2/锐度为单位。",
    ),
    rule=Words(
        f"Supported if both thresholds found lie within {TOLERANCE:.0%} of the formula, and the grid's highest and lowest rate "
        f"both end more than {MARGIN} bits per byte above the best one (95% interval, paired by seed); refuted if none of the "
        "four; depends or undecided else. The sensitivity stands beside.",
        f"若两个阈值与公式相差都在 {TOLERANCE:.0%} 以内，且网格中最高与最低的学习率的损失都比最佳高出 {MARGIN} 比特每字节以上（95% 区间，按种子配对），则支持；"
        "四者皆否则否定；其余为视情况而定或未定。敏感度列在一旁。",
    ),
    questions={
        "gd": Question(
            Words("threshold found over 2 / lambda_max, minus 1", "找到的阈值与 2/λmax 之比减 1"), Equivalence(TOLERANCE), "of it",
        ),
        "momentum": Question(
            Words("threshold found over (2 + 2 beta) / lambda_max, minus 1", "找到的阈值与 (2+2β)/λmax 之比减 1"),
            Equivalence(TOLERANCE), "of it",
        ),
        "above": Question(
            Words("held-out loss at the highest rate minus at the best", "留出损失：最高学习率减最佳学习率"),
            Superiority(MARGIN, "higher"), "bits per byte",
        ),
        "below": Question(
            Words("held-out loss at the lowest rate minus at the best", "留出损失：最低学习率减最佳学习率"),
            Superiority(MARGIN, "higher"), "bits per byte",
        ),
        "sensitivity": Question(
            Words("mean loss over the best, for a rate drawn from the range", "在范围内任取学习率时损失高于最佳的平均值"),
            Superiority(0.0, "higher"), "bits per byte", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "A far longer run lets low rates catch up. The threshold 2 / sharpness is gradient descent's: under Adam the curvature "
        "counts after its division by sqrt(v).",
        "训练足够长时低学习率会追上。2/锐度 是梯度下降的阈值；在 Adam 下应看除以 sqrt(v) 之后的曲率。",
    ),
    seconds=12.0,
)  # fmt: skip
