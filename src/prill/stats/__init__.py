"""Intervals, paired tests and curve arithmetic: pure functions over arrays."""

from prill.stats.crossing import Crossing, Multiple, combine_multiples, crossing, value_at
from prill.stats.intervals import Interval, combined_interval, mean_interval, paired_interval
from prill.stats.power import detectable_with, holm, n_seeds_needed, noise_floor, smallest_detectable
from prill.stats.ranks import decision_accuracy, kendall_tau
from prill.stats.ratio import bootstrap_ratio_interval, ratio_error
from prill.stats.student import mixed_p, mixed_quantile, t_cdf, t_quantile, two_sided_p

__all__ = [
    "Crossing",
    "Interval",
    "Multiple",
    "bootstrap_ratio_interval",
    "combine_multiples",
    "combined_interval",
    "crossing",
    "decision_accuracy",
    "detectable_with",
    "holm",
    "kendall_tau",
    "mean_interval",
    "mixed_p",
    "mixed_quantile",
    "n_seeds_needed",
    "noise_floor",
    "paired_interval",
    "ratio_error",
    "smallest_detectable",
    "t_cdf",
    "t_quantile",
    "two_sided_p",
    "value_at",
]
