"""Budgets, thresholds and samplers over columns; never text."""

from prill.select.budget import Budget
from prill.select.decide import Decision, decide
from prill.select.policy import Policy

__all__ = ["Budget", "Decision", "Policy", "decide"]
