"""Comparisons: many runs that differ along stated axes, trained side by side on this machine."""
