"""Planning past one machine: who holds what, how long a step takes, and what limits it. Without torch.

    plan(preset("llama-65b"), 64, machine="h100").chosen.tokens_per_second

`plan.py` looks for a layout, `estimate.py` judges one; memory, messages and time are counted in files of their own.
The counting is held against torch's `fully_shard` on simulated ranks (`tests/spec/plan`), the time against published
runs (`published.py`).
"""

from assay.spec.plan.fabric import Assumed
from assay.spec.plan.layout import Fixed, Layout
from assay.spec.plan.plan import Plan, plan, sweep
from assay.spec.plan.work import workload

__all__ = ["Assumed", "Fixed", "Layout", "Plan", "plan", "sweep", "workload"]
