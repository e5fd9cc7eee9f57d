"""Intervals, paired tests and curve arithmetic: pure functions over arrays."""
