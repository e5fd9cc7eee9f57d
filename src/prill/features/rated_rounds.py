"""Ratings of several rounds together, with who of them was chosen at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.features.feature import Feature, Given, WholeFeature
from prill.features.rater.rubric import Rubric
from prill.features.ratings import RatedSample

__all__ = ["RatedRounds"]


@dataclass(frozen=True, kw_only=True)
class RatedRounds(WholeFeature):
    """Ratings of rounds by the same rubric.

    Attributes:
        rounds: at least one; the first was drawn at random.
        chosen: what chose each later one, with a column `is_random`.
    """

    kind: ClassVar[str] = "rated-rounds"
    rounds: tuple[RatedSample, ...]
    chosen: tuple[Feature, ...]

    @property
    def label(self) -> str:
        n = len(self.rounds)
        return f"{self.asked.name}: grades of {n} round{'s' * (n != 1)}"

    @property
    def needs(self) -> tuple[Feature, ...]:
        return (*self.rounds, *self.chosen)

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    @property
    def files(self) -> tuple[str, ...]:
        return ("ratings.parquet",)

    @property
    def asked(self) -> Rubric:
        """The rubric."""
        return self.rounds[0].asked

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        """Put them together."""
        tables = []
        for number, rated in enumerate(self.rounds):
            table = rated.read(given)
            is_random = np.ones(table.num_rows, np.bool_)
            if number:
                chosen = read_columns(given.file(self.chosen[number - 1]), ["key", "is_random"])
                of_key = dict(zip(chosen["key"].to_pylist(), chosen["is_random"].to_pylist(), strict=True))
                is_random = np.array([of_key[key] for key in table["key"].to_pylist()], np.bool_)
            tables.append(table.append_column("is_random", pa.array(is_random)))
        joined = pa.concat_tables(tables)
        columns = {name: joined[name].combine_chunks() for name in joined.column_names}
        write_columns(paths[0], columns, [ColumnInfo(name=name) for name in columns])
        n_random = int(np.sum(joined["is_random"].to_numpy()))
        return {"n_rated": joined.num_rows, "n_random": n_random, "n_rounds": len(self.rounds)}

    def read(self, given: Given) -> pa.Table:
        """The ratings: shard, row, key, the scales, label, is_random."""
        return read_columns(given.files(self)[0])
