"""C11: RMSNorm is faster than LayerNorm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab
from assay.claims.standard import study
from assay.stats import Interval, Threshold

LEAST = 1.05
"""Times: less than 5% is not called faster."""


def measure(lab: Lab) -> Measured:
    """Ratios of time by back end and pass, and the norms' share of a training step."""
    from assay.probes.timing import BACKENDS, PASSES, interleaved, norm_calls, ratio
    from assay.training.setup import pick_device

    device = pick_device()
    rows, width = lab.by_tier(smoke=(64, 64), quick=(2048, 512), full=(4096, 1024))
    rounds = lab.by_tier(smoke=10, quick=60, full=200)
    found: dict[tuple[str, str], Interval] = {}
    absent = {}
    for backend in BACKENDS:
        for passes in PASSES:
            calls = norm_calls(backend, passes, rows=rows, width=width, device=device)
            if backend == "compiled" and lab.tier is Tier.smoke:
                calls = "not compiled at the smoke tier"
            if isinstance(calls, str):
                found[backend, passes], absent[backend] = NEVER, calls
                continue
            times = interleaved(calls, rounds=rounds, device=device)
            found[backend, passes] = ratio(times["layernorm"], times["rmsnorm"])
    step = interleaved(_steps(lab.tier, device), rounds=lab.by_tier(smoke=10, quick=25, full=60), device=device)
    share = {name: ratio(step[name], step["none"]) for name in ("layernorm", "rmsnorm")}
    points, table = [], []
    for (backend, passes), interval in found.items():
        name = {"forward": "forward", "both": "forward + backward"}[passes]
        if interval is not NEVER:
            points.append(
                {"series": name, "x": backend, "y": interval.estimate, "low": interval.low, "high": interval.high}
            )
        table.append(
            [backend, name, *((None,) * 3 if interval is NEVER else (interval.estimate, interval.low, interval.high))]
        )
    shares = [
        {"series": "step", "x": name, "y": r.estimate - 1, "low": r.low - 1, "high": r.high - 1}
        for name, r in share.items()
    ]
    where = f"{rows} x {width} float32 on {device}"
    return Measured(
        answers={**{backend: found[backend, "both"] for backend in BACKENDS}, "step": ratio(step["layernorm"], step["rmsnorm"])},
        pictures=[
            Picture(
                Words(f"Time of LayerNorm over that of RMSNorm, {where}; above 1 RMSNorm is faster",
                      f"LayerNorm 与 RMSNorm 的时间之比（{where}）；大于 1 表示 RMSNorm 更快"),
                points, x="back end", y="times", kind="points", log_y=True,
            ),
            Picture(
                Words("What the norms add to a forward and backward pass of the standard model without them",
                      "归一化在标准模型前向与反向传播中增加的时间（相对于没有归一化）"),
                shares, x="norm", y="share of the pass without norms", kind="bars",
            ),
        ],
        tables=[Table(Words("LayerNorm's time over RMSNorm's", "LayerNorm 与 RMSNorm 的时间比"),
                      ["back end", "pass", "times", "low", "high"], table)],
        remarks=[Words(f"{name}: not measured: {why}.", f"{name}：未测量：{why}。") for name, why in absent.items()],
    )  # fmt: skip


def _steps(tier: Tier, device: str) -> dict[str, Callable[[], Any]]:
    """Forward and backward of the standard model with either norm and with none, on the same batch."""
    from assay.nn import build
    from assay.training.setup import make_loader
    from assay.training.step import gradients
    from assay.training.text import load_text, resolve

    def call(norm: str) -> Callable[[], Any]:
        run = resolve(study(tier, model={"norm": norm}).runs()[0])
        batch = make_loader(run, text).batch(0, 0)
        model = build(run.model, seed=0, device=device).train()
        weight = float(batch.weights.sum())

        def once() -> None:
            for p in model.parameters():
                p.grad = None
            gradients(model, batch, weight=weight, parts=1, z_loss=0.0, dtype="float32")

        return once

    text = load_text(study(tier).data)
    return {norm: call(norm) for norm in ("layernorm", "rmsnorm", "none")}


def _question(what: str, zh: str) -> Question:
    return Question(
        Words(f"LayerNorm's time over RMSNorm's, forward and backward, {what}", f"前向加反向：LayerNorm 时间 / RMSNorm 时间（{zh}）"),
        Threshold(LEAST), "x",
    )  # fmt: skip


CLAIM = Claim(
    key="C11",
    title=Words("RMSNorm is faster than LayerNorm", "RMSNorm 比 LayerNorm 更快"),
    says=Words(
        "RMSNorm leaves out the mean, so it takes less time than LayerNorm.",
        "RMSNorm 省去均值计算，因此比 LayerNorm 更快。",
    ),
    literature=Words(
        "Zhang & Sennrich 2019 (abstract): whole models run 7% to 64% faster with RMSNorm in their frameworks of 2019. In "
        "today's PyTorch it depends on the kernel: eager rms_norm on a CPU is a chain of separate operations.",
        "Zhang & Sennrich 2019（摘要）：在 2019 年的框架中整个模型加速 7% 至 64%。在今天的 PyTorch 中取决于实现：CPU 上即时模式的 rms_norm "
        "是一串独立算子。",
    ),
    sources=["Zhang & Sennrich 2019, Root Mean Square Layer Normalization, abstract"],
    formulas=[
        Formula(
            r"\mathrm{LayerNorm}(x)_i=\frac{x_i-\mu}{\sqrt{\sigma^2+\epsilon}}g_i+b_i,\quad"
            r"\mathrm{RMSNorm}(x)_i=\frac{x_i}{\sqrt{\frac1d\sum_j x_j^2+\epsilon}}g_i",
            Words(
                "x: features of one token; mu, sigma: their mean and standard deviation; g, b: learned",
                "x：一个 token 的特征；mu、sigma：其均值与标准差；g、b：可学习参数",
            ),
            "Ba et al. 2016; Zhang & Sennrich 2019, equation 4",
        )
    ],
    experiment=Words(
        "Both norms read the same float32 tensor, called in turns, in three back ends: torch's own functions (eager), the "
        "same compiled, and assay's fused kernels. A back end's figure is the ratio of times: rounds cut into five blocks, "
        "the median of each, Student t over blocks in the logarithm. On a CPU: one thread, the process's own time. Beside "
        "it: a forward and backward pass of the standard model with either norm and with none.",
        "两种归一化交替处理同一个 float32 张量，共三种实现：torch 自带函数（即时模式）、编译后的同一函数、assay 的融合核。指标为时间之比：各轮分为五块，"
        "取每块中位数，在对数上对各块求 t 区间。CPU 上使用单线程与进程自身时间。另外测量标准模型使用两种归一化及不使用归一化时的前向加反向时间。",
    ),
    rule=Words(
        f"For each back end: supported if the whole 95% interval of LayerNorm's time over RMSNorm's lies above {LEAST} "
        "(5% is less than what the paper calls a gain), refuted if below. The back ends agree, or the claim depends on "
        "them. A back end that this machine lacks decides nothing.",
        f"对每种实现：若 LayerNorm 与 RMSNorm 时间比的 95% 区间全部高于 {LEAST} 则支持，全部低于则否定。各实现一致则得出结论，不一致则为“视情况而定”。"
        "本机没有的实现不参与判定。",
    ),
    questions={
        "eager": _question("torch eager", "torch 即时模式"),
        "compiled": _question("torch.compile", "torch 编译"),
        "fused": _question("fused kernels", "融合核"),
        "step": Question(
            Words(
                "pass of the whole standard model with LayerNorm over that with RMSNorm",
                "整个标准模型一次前向加反向：使用 LayerNorm 的时间 / 使用 RMSNorm 的时间",
            ),
            Threshold(LEAST), "x", decides=False,
        ),
    },
    measure=measure,
    changes=Words(
        "Other kernels, another processor, or a width at which memory traffic decides: then both norms cost the same.",
        "不同的核函数、处理器，或由内存带宽决定的宽度：此时两者开销相同。",
    ),
    seconds=45.0,
    alone=True,
)  # fmt: skip
