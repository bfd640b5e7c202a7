"""Faster ways to compute plain functions; each has an eager form that is always there and equal."""
