"""Page rules as a measure: raw measurements as columns first, verdicts and cuts from them later.

Legend: D documents.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.errors import DataError, near, printable
from prill.features.statistics import STATISTICS_VERSION
from prill.prepare.measure import Drops
from prill.prepare.rules.described import describe
from prill.prepare.rules.measurements import C4_SPANS, Columns, measure
from prill.prepare.rules.spec import Comparison, RulesSpec
from prill.prepare.rules.table import EMPTY, Rule, rule_table
from prill.prepare.spans import Edits, Spans

__all__ = ["Rules"]

_COMPARE: Final[dict[Comparison, Callable[..., Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of a spec.

    Attributes:
        spec: resolved: its presets are families.
    """

    spec: RulesSpec
    name: ClassVar[str] = "rules"
    version: ClassVar[int] = STATISTICS_VERSION

    @classmethod
    def of(cls, spec: RulesSpec) -> Rules:
        """The rules that a recipe asks for."""
        return cls(spec=spec.resolved())

    @property
    def fields(self) -> tuple[str, ...]:
        return ("text", *dict.fromkeys(rule.field for rule in self.spec.columns))

    @property
    def settings(self) -> Mapping[str, Any]:
        """What changes the measurements: families, words, and the fields marked "measured"."""
        spec = self.spec
        c4 = spec.c4.model_dump(mode="json", exclude={"min_sentences", "cuts"})
        return {
            "families": sorted(spec.families),
            "words": spec.words,
            "stop_words": list(spec.gopher_quality.stop_words),
            "required_words": list(spec.dolma.required_words),
            "short_line_characters": spec.fineweb.short_line_characters,
            "fineweb_text": spec.fineweb.text,
            "c4": c4,
            "fields": list(self.fields),
        }

    @property
    def policy(self) -> Mapping[str, Any]:
        """What changes verdicts only: the table of rules, and whether lines are cut."""
        return {"rules": [vars(rule) for rule in self.table], "cuts": self._cuts}

    @property
    def table(self) -> tuple[Rule, ...]:
        """All rules in the order in which they judge, for reports."""
        return rule_table(self.spec)

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return describe(self.spec)

    def __call__(self, batch: Batch) -> Columns:
        columns = measure(batch.text, self.spec)
        for name in self.fields[1:]:
            columns[f"field_{name}"] = _numbers(batch, name)
        return columns

    def drops(self, table: pa.Table) -> Drops:
        """Which rules hold for which documents, the page without a word for `empty` alone.

        Raises:
            DataError: a column that a rule looks at is missing.
        """
        rules = self.table
        drops = {rule.reason: _holds(rule, table) for rule in rules}
        for rule in rules[1:]:
            if rule.family != "columns":
                drops[rule.reason] &= ~drops[EMPTY]
        return drops

    def edits(self, table: pa.Table) -> Edits | None:
        """The lines and parts of lines that C4 takes out; None when it does not judge or only marks."""
        if not self._cuts:
            return None
        return Edits(spans=Spans.of_column(table[C4_SPANS]), replacements={"line break": "\n"})

    @property
    def _cuts(self) -> bool:
        return "c4" in self.spec.families and self.spec.c4.cuts


def _holds(rule: Rule, table: pa.Table) -> NDArray[np.bool_]:
    if rule.column not in table.column_names:
        message = f"expected a column {rule.column!r} for the rule {printable(rule.reason)!r}, found none"
        raise DataError(message, hint=near(rule.column, table.column_names))
    column = table[rule.column]
    values = np.asarray(column.cast(pa.float64()).fill_null(np.nan), dtype=np.float64)
    holds = _COMPARE[rule.comparison](values, rule.threshold)
    return np.asarray(holds | np.isnan(values) if rule.drops_missing else holds, dtype=np.bool_)


def _numbers(batch: Batch, name: str) -> pa.Array:
    """A field as numbers; null where it holds none."""
    if name not in batch.columns:
        message = f"expected a field {printable(name)!r} in the corpus, found none"
        raise DataError(message, where=f"shard {batch.shard}", hint=near(name, list(batch.columns)))
    column = batch.columns[name]
    is_number = pc.fill_null(pc.match_substring_regex(column, _NUMBER), False)
    numbers = pc.if_else(is_number, pc.utf8_trim_whitespace(column), pa.scalar(None, column.type))
    values = numbers.cast(pa.float64())
    return pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))
