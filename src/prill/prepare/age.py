"""Data age as a measure: the year of a document, from its timestamp, else from its URL.

Only the year is read, which every usual way of writing a date tells without doubt: ISO 8601, HTTP and mail
dates, seconds to nanoseconds since 1970, years alone, day-month-year. A URL tells it by `/2019/07/`.

Source: Longpre et al. 2023 (A Pretrainer's Guide, arXiv:2305.13169, section 3): the age of pretraining data
as a choice; Elazar et al. 2024 (arXiv:2310.20707): dates from metadata, then URL. Differs: dates in the text
are not read.

Legend: D documents.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits

__all__ = ["Age", "AgeSpec", "year_of"]

_FIRST_YEAR, _LAST_YEAR = 1000, 2200
_ISO: Final = r"^\s*(?P<year>1[0-9]{3}|2[01][0-9]{2})(?:[-/.][0-9]{1,2}(?:[-/.T ].*)?)?\s*$"
_IN_URL: Final = r"[/_-](?P<year>199[0-9]|20[0-9]{2})[/_-](?:0[1-9]|1[0-2])(?:[^0-9]|$)"
_DIGITS: Final = re.compile(r"[0-9]{4,19}\Z")
_SECONDS: Final = re.compile(r"([0-9]{9,10})\.[0-9]+\Z")
_FULL_YEAR: Final = re.compile(r"(?<![0-9+])(?<![^0-9]-)(?<!:)([12][0-9]{3})(?![0-9:])")
_SHORT_YEAR: Final = re.compile(r"[0-9]{1,2}-[A-Za-z]{3}-([0-9]{2})(?![0-9])")
_UNITS: Final = {9: 1, 10: 1, 13: 10**3, 16: 10**6, 19: 10**9}
_PIVOT: Final = 69


class AgeSpec(BaseModel):
    """Which years stay; documents without a year stay unless `require_year` is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    earliest: int | None = Field(None, description="First year that stays; None for no limit.")
    latest: int | None = Field(None, description="Last year that stays; None for no limit.")
    require_year: bool = Field(False, description="Drop documents whose year is not known.")
    from_url: bool = Field(
        True, description="Read the year from a URL such as /2019/07/ when no timestamp tells it."
    )


@dataclass(frozen=True, kw_only=True)
class Age:
    """The measure `age`; made by `Age.of`."""

    spec: AgeSpec

    name: ClassVar[str] = "age"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[str, ...]] = ("text", "timestamp", "url")

    @classmethod
    def of(cls, spec: AgeSpec) -> Age:
        """The measure of a recipe."""
        return cls(spec=spec)

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.spec.model_dump(include={"from_url"})

    @property
    def policy(self) -> Mapping[str, Any]:
        return self.spec.model_dump(exclude={"from_url"})

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        said = (
            ("year", "years", "year of the document, or null"),
            ("age_from", "1", "what told the year: timestamp or url; null for nothing"),
            ("timestamp_unreadable", "1", "whether there is a timestamp that tells no year"),
        )
        return [
            ColumnInfo(name=name, unit=unit, span="timestamp, url", version=self.version, summary=summary)
            for name, unit, summary in said
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        import pyarrow.compute as pc

        nothing = pa.nulls(batch.n_rows, pa.large_string())
        stamps = batch.columns.get("timestamp", nothing)
        years = _years(stamps)
        has_stamp = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(stamps)), 0).fill_null(False)
        unreadable = pc.and_(has_stamp, years.is_null())
        source = pc.if_else(years.is_valid(), "timestamp", pa.scalar(None, pa.string()))
        if self.spec.from_url:
            by_url = _extracted(batch.columns.get("url", nothing), _IN_URL)
            source = pc.if_else(pc.and_(years.is_null(), by_url.is_valid()), "url", source)
            years = pc.coalesce(years, by_url)
        return {"year": years, "age_from": source, "timestamp_unreadable": unreadable}

    def drops(self, table: pa.Table) -> Drops:
        """Rules of the years, in order; none holds for a document whose year is not known but the last."""
        known_D = np.asarray(table["year"].is_valid())
        years_D = np.asarray(table["year"].fill_null(0))
        found = {}
        if self.spec.earliest is not None:
            found[f"age: before {self.spec.earliest}"] = known_D & (years_D < self.spec.earliest)
        if self.spec.latest is not None:
            found[f"age: after {self.spec.latest}"] = known_D & (years_D > self.spec.latest)
        if self.spec.require_year:
            found["age: year not known"] = ~known_D
        return found

    def edits(self, table: pa.Table) -> Edits | None:
        return None


@functools.lru_cache(maxsize=1 << 14)
def year_of(stamp: str) -> int | None:
    """The year that a timestamp tells, 1000 to 2200; None where it tells none.

    >>> year_of("Wed, 21 Oct 2015 07:28:00 +0000"), year_of("1700000000"), year_of("soon")
    (2015, 2023, None)
    """
    text = stamp.strip()
    if _DIGITS.match(text):
        year = _year_of_digits(text)
    elif found := _SECONDS.match(text):
        year = _year_of_seconds(int(found.group(1)))
    elif found := _FULL_YEAR.search(text):
        year = int(found.group(1))
    elif found := _SHORT_YEAR.search(text):
        short = int(found.group(1))
        year = short + (1900 if short > _PIVOT else 2000)
    else:
        year = None
    return year if year is not None and _FIRST_YEAR <= year <= _LAST_YEAR else None


def _year_of_digits(text: str) -> int | None:
    """Of a year, yyyymm, yyyymmdd, yyyymmddhhmmss, or a time since 1970 in a unit that its length tells."""
    if len(text) in (4, 6, 8, 14):
        month, day = int(text[4:6] or 1), int(text[6:8] or 1)
        return int(text[:4]) if 1 <= month <= 12 and 1 <= day <= 31 else None
    unit = _UNITS.get(len(text))
    return _year_of_seconds(int(text) // unit) if unit else None


def _year_of_seconds(seconds: int) -> int:
    return datetime.fromtimestamp(seconds, UTC).year


def _years(stamps: pa.Array) -> pa.Array:
    """Years of a column, int16 with nulls: the usual form for all rows at once, others one by one."""
    import pyarrow.compute as pc

    found = pc.extract_regex(stamps, _ISO)
    years = pc.if_else(found.is_valid(), found.field("year"), pa.scalar(None, pa.large_string())).cast(
        pa.int16()
    )
    others = pc.and_(years.is_null(), stamps.is_valid())
    if not pc.any(others).as_py():
        return years
    values = [year_of(stamp) for stamp in stamps.filter(others).to_pylist()]
    return pc.replace_with_mask(years, others, pa.array(values, pa.int16()))


def _extracted(column: pa.Array, pattern: str) -> pa.Array:
    import pyarrow.compute as pc

    found = pc.extract_regex(column, pattern)
    years = pc.if_else(found.is_valid(), found.field("year"), pa.scalar(None, column.type))
    return years.cast(pa.int16())
