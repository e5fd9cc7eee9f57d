"""Budgets, thresholds and samplers over columns; never text. Decisions are made in `prill.select.decide`."""

from prill.select.budget import Budget
from prill.select.policy import Policy

__all__ = ["Budget", "Policy"]
