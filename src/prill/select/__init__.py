"""Budgets, thresholds and samplers over columns; never text."""
