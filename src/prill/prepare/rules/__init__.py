"""Page rules of Gopher, C4, mC4, FineWeb and Dolma: measurements as columns, verdicts later."""

from __future__ import annotations

from prill.prepare.rules.measure import Rules
from prill.prepare.rules.spec import ColumnRule, RulesSpec
from prill.prepare.rules.table import Rule

__all__ = ["ColumnRule", "Rule", "Rules", "RulesSpec"]
