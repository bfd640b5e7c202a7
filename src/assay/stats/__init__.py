"""Intervals, bootstrap, and rules that turn numbers into verdicts. NumPy alone; everything random is seeded.

difference = paired_difference(loss_rms, loss_layer)      # one value per seed
Equivalence(margin=0.01).verdict(difference)              # Verdict.SUPPORTED | REFUTED | UNDECIDED
"""

from assay.stats.bootstrap import bootstrap_difference, bootstrap_interval
from assay.stats.distributions import normal_cdf, normal_quantile, t_cdf, t_quantile
from assay.stats.intervals import (
    Interval,
    mean_band,
    mean_interval,
    paired_difference,
    slope,
    welch_difference,
    wilson_interval,
)
from assay.stats.verdicts import (
    MINIMUM_REPEATS,
    Equivalence,
    Rule,
    Superiority,
    Threshold,
    Verdict,
    combine,
    rule_from_dict,
)

__all__ = [
    "MINIMUM_REPEATS",
    "Equivalence",
    "Interval",
    "Rule",
    "Superiority",
    "Threshold",
    "Verdict",
    "bootstrap_difference",
    "bootstrap_interval",
    "combine",
    "mean_band",
    "mean_interval",
    "normal_cdf",
    "normal_quantile",
    "paired_difference",
    "rule_from_dict",
    "slope",
    "t_cdf",
    "t_quantile",
    "welch_difference",
    "wilson_interval",
]
