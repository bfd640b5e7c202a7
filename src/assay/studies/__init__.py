"""Comparisons: many runs that differ along stated axes, trained side by side on this machine."""

from assay.studies.compare import Study, compare, describe
from assay.studies.plan import plan
from assay.studies.vary import parse_vary

__all__ = ["Study", "compare", "describe", "parse_vary", "plan"]
