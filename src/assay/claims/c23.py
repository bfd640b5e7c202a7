"""C23: training GPT-3 cost 300 thousand dollars and 284 t of CO2."""

from __future__ import annotations

import math
from typing import Any

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Words
from assay.claims.lab import Lab
from assay.spec.cost import cost
from assay.spec.cost_check import RUNS, compare_published
from assay.spec.hardware import hardware
from assay.spec.published import preset
from assay.stats import Equivalence, Interval, Verdict

TOKENS = 300e9
MONEY, CO2 = 300e3, 284e3
"""What the note says: dollars, kg."""
FACTOR = 1.5
"""An estimate of money or CO2 within this factor of the note's number supports it."""
NEEDED = 1.37
"""Dollars an hour at which 400 TFLOP/s sustained give 300 thousand."""


def answer(estimate: float, said: float) -> Interval:
    """Decades between an estimate and what was said; computed, not sampled."""
    return Interval.exact(math.log10(estimate / said))


def _train(machine: str, **given: Any) -> Any:
    found = cost(preset("gpt3-175b"), machine=machine, tokens=TOKENS, length=2048, **given).training
    assert found is not None
    return found


def measure(lab: Lab) -> Measured:
    """The estimate with GPT-3's own published figures, and what would have to hold for the note's."""
    own = next(run for run in RUNS if run.model == "gpt3-175b")
    run = _train(own.machine, **own.own)
    machines = ("v100-32gb", "a100-80gb", "h100-80gb")
    spent = {hardware(name).title: _train(name) for name in machines}
    rows = [{"x": "the note", "y": MONEY}, {"x": "V100, as it ran", "y": run.money}]
    rows += [{"x": f"{title} (default)", "y": found.money} for title, found in spent.items()]
    carbon = [{"x": "the note", "y": CO2 / 1000}, {"x": "published (Patterson et al.)", "y": 552.1}]
    carbon.append({"x": "estimate, its own grid", "y": run.co2_kg / 1000})
    carbon += [{"x": f"{title} (default)", "y": found.co2_kg / 1000} for title, found in spent.items()]
    published = [row for row in compare_published() if row.model == "gpt3-175b"]
    sustained = run.flops / (MONEY / NEEDED * 3600)
    return Measured(
        answers={
            "money": answer(run.money, MONEY),
            "co2": answer(run.co2_kg, CO2),
            "flops": answer(run.flops, 3.14e23),
            "energy": answer(run.energy_kwh, 1287e3),
        },
        pictures=[
            Picture(
                Words("Money for GPT-3's training run, by machine", "训练 GPT-3 一次的费用，按机器"),
                rows, x="assumption", y="dollars", kind="bars",
            ),
            Picture(
                Words("CO2 of GPT-3's training run", "训练 GPT-3 一次的二氧化碳排放"),
                carbon, x="assumption", y="t of CO2e", kind="bars",
            ),
        ],
        tables=[
            Table(
                Words("GPT-3 against its published figures", "GPT-3 与已公布数字的对照"),
                ["quantity", "published", "estimate", "difference"],
                [[row.quantity, row.published, row.estimate, row.deviation] for row in published],
            )
        ],
        remarks=[
            Words(
                f"For 300 thousand dollars the run would need {sustained / 1e12:.0f} TFLOP/s sustained on each device at "
                f"{NEEDED} dollars an hour: an H100's speed at a price under today's, not a V100 of 2020 (28 TFLOP/s at best, "
                "1.5 dollars).",
                f"若要 30 万美元，每个设备须以每小时 {NEEDED} 美元持续达到 {sustained / 1e12:.0f} TFLOP/s：这是 H100 的速度和低于今日的价格，"
                "而不是 2020 年的 V100（最多约 28 TFLOP/s，每小时 1.5 美元）。",
            ),
            Words(
                "284 t (626,155 lb) is Strubell et al.'s figure for a neural architecture search over a Transformer (2019), "
                "a year before GPT-3.",
                "284 吨（626,155 磅）是 Strubell 等 2019 对一次 Transformer 神经架构搜索的估计，早于 GPT-3 一年。",
            ),
        ],
    )  # fmt: skip


CLAIM = Claim(
    key="C23",
    title=Words("GPT-3: 300 thousand dollars, 284 t of CO2", "GPT-3：30 万美元与 284 吨二氧化碳"),
    says=Words(
        "Training a model like GPT-3 costs about 300 thousand dollars and emits about 284 t of CO2.",
        "训练一个 GPT-3 这样的模型约需 30 万美元，排放约 284 吨二氧化碳。",
    ),
    literature=Words(
        "3.14e23 FLOPs (Brown et al. 2020, table D.1). 1,287 MWh and 552 t of CO2e (Patterson et al. 2021, table 4). About "
        "4.6 million dollars on V100s at 28 TFLOP/s and 1.5 dollars an hour (Li 2020). 284 t stands in Strubell et al. "
        "2019, table 3, for another model.",
        "3.14e23 FLOPs（Brown 等 2020 表 D.1）。1287 兆瓦时与 552 吨 CO2e（Patterson 等 2021 表 4）。以 28 TFLOP/s、每小时 1.5 美元的 V100 "
        "计约 460 万美元（Li 2020）。284 吨出自 Strubell 等 2019 表 3，属于另一个模型。",
    ),
    sources=[
        "Brown et al. 2020, table D.1",
        "Patterson et al. 2021, Carbon Emissions and Large Neural Network Training, table 4",
        "Li 2020, OpenAI's GPT-3 Language Model: A Technical Overview",
        "Strubell et al. 2019, Energy and Policy Considerations for Deep Learning in NLP, table 3",
    ],
    formulas=[
        Formula(
            r"C \approx 6 N D, \qquad \text{money} = \frac{C}{3600\, \rho u}\, p, \qquad "
            r"\mathrm{CO_2} = \frac{C}{3600\, \rho u} \cdot P \cdot \mathrm{PUE} \cdot g",
            Words(
                "N: parameters; D: tokens; rho: peak FLOP/s; u: utilisation; p: dollars an hour; P: kW; g: kg of CO2e a kWh",
                "N：参数；D：token 数；ρ：峰值 FLOP/s；u：利用率；p：每小时美元；P：千瓦；g：每千瓦时的 CO2e 千克数",
            ),
            "Patterson et al. 2021, section 2.4",
        )
    ],
    experiment=Words(
        "No training. Exact FLOPs of GPT-3's configuration on 300e9 tokens, at the throughput, power, PUE and grid that were "
        "published for it and a V100's price then; beside it three machines at their defaults, and what would have to hold "
        "for 300 thousand. `assay cost gpt3-175b --tokens 300e9 --hardware v100-32gb` prints every assumption.",
        "不训练。按 GPT-3 的配置与 3000 亿 token 精确计算 FLOPs，并采用为它公布的吞吐、功率、PUE 与电网碳强度及当时 V100 的价格；"
        "旁列三种机器的默认值，以及 30 万美元成立所需的条件。",
    ),
    rule=Words(
        f"A figure of the note is supported if the estimate under GPT-3's own published conditions lies within a factor of "
        f"{FACTOR} of it (prices and grids are known no better), refuted outside. Both decide; FLOPs and energy against the "
        "published ones stand beside, as a check of the estimate.",
        f"若在 GPT-3 自身公布的条件下估计值与笔记数字相差不超过 {FACTOR} 倍（价格与电网的精度也就如此），则支持，否则否定。费用与排放两者共同决定；"
        "FLOPs 与能耗同已公布值的对照列在一旁，作为对估计的检验。",
    ),
    questions={
        "money": Question(
            Words("log10 of estimated over claimed dollars", "估计费用与所称费用之比的 log10"),
            Equivalence(math.log10(FACTOR)), "decades",
        ),
        "co2": Question(
            Words("log10 of estimated over claimed CO2", "估计排放与所称排放之比的 log10"),
            Equivalence(math.log10(FACTOR)), "decades",
        ),
        "flops": Question(
            Words("log10 of exact over published FLOPs", "精确 FLOPs 与公布值之比的 log10"),
            Equivalence(math.log10(1.1)), "decades", decides=False,
        ),
        "energy": Question(
            Words("log10 of estimated over published energy", "估计能耗与公布值之比的 log10"),
            Equivalence(math.log10(1.1)), "decades", decides=False,
        ),
    },
    measure=measure,
    changes=Words(
        "Newer machines: at an H100's defaults the same run costs some 440 thousand dollars. A cleaner grid: at 0.1 kg a kWh "
        "its CO2 would be a quarter. Neither is how GPT-3 was trained.",
        "更新的机器：按 H100 默认值同样的训练约需 44 万美元。更清洁的电网：每千瓦时 0.1 千克时排放只有四分之一。但 GPT-3 并非如此训练。",
    ),
    verdicts=(Verdict.SUPPORTED, Verdict.REFUTED, Verdict.DEPENDS),
    seconds=2.0,
)  # fmt: skip
