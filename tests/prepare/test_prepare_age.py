"""Years of documents from timestamps and URLs, and the rules on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus.batch import Batch
from prill.corpus.columns import write_columns
from prill.prepare.age import Age, AgeSpec, year_of


def _columns(
    stamps: list[str | None] | None, urls: list[str | None] | None, **spec: object
) -> tuple[Age, pa.Table]:
    n = len(stamps or urls or [])
    columns = {"text": pa.array(["x"] * n, pa.large_string())}
    for name, values in (("timestamp", stamps), ("url", urls)):
        if values is not None:
            columns[name] = pa.array(values, pa.large_string())
    measure = Age.of(AgeSpec(**spec))  # type: ignore[arg-type]
    return measure, pa.table(measure(Batch(shard=0, first_row=0, columns=columns)))


@pytest.mark.parametrize(
    ("stamp", "year"),
    [
        ("2021-03-04", 2021),
        ("2021-03-04T05:06:07Z", 2021),
        (" 2021-03-04 05:06:07.123+02:00 ", 2021),
        ("2021/3/4", 2021),
        ("2021-03", 2021),
        ("1998", 1998),
        ("20210304", 2021),
        ("20210304050607", 2021),
        ("1700000000", 2023),
        ("1700000000.25", 2023),
        ("1700000000000", 2023),
        ("1700000000000000", 2023),
        ("999999999", 2001),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 1994),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 1994),
        ("Sun Nov  6 08:49:37 1994", 1994),
        ("Wed, 21 Oct 2015 07:28:00 +0000", 2015),
        ("Wed, 21 Oct 2015 07:28:00 -1200", 2015),
        ("March 4, 2021", 2021),
        ("04.03.2021", 2021),
        ("03/04/1999", 1999),
        ("yesterday", None),
        ("", None),
        ("12345", None),
        ("20211304", None),
        ("0001-01-01", None),
        ("9999-12-31", None),
        ("١٩٩٩", None),
    ],
)
def test_year_of_a_timestamp(stamp: str, year: int | None) -> None:
    _, table = _columns([stamp], None)
    assert table["year"].to_pylist() == [year]
    assert year_of(stamp) == year
    assert table["timestamp_unreadable"].to_pylist() == [year is None and stamp != ""]


@given(st.lists(st.none() | st.text(max_size=25) | st.datetimes().map(str), max_size=5))
@settings(deadline=None, max_examples=100)
def test_the_column_and_the_function_agree(stamps: list[str | None]) -> None:
    _, table = _columns([*stamps, "x"], None)
    assert table["year"].to_pylist() == [
        None if stamp is None else year_of(stamp) for stamp in [*stamps, "x"]
    ]


def test_the_url_tells_the_year_when_no_timestamp_does(tmp_path: Path) -> None:
    urls = [
        "https://a.org/2019/07/post",
        "https://a.org/2019/77/",
        "https://a.org/2018-05-01-x",
        "/2017/01/",
        None,
    ]
    stamps = [None, None, "??", "2001", None]
    measure, table = _columns(stamps, urls)
    assert table["year"].to_pylist() == [2019, None, 2018, 2001, None]
    assert table["age_from"].to_pylist() == ["url", None, "url", "timestamp", None]
    assert table["timestamp_unreadable"].to_pylist() == [False, False, True, False, False]
    write_columns(
        tmp_path / "part.parquet", dict(zip(table.column_names, table.columns, strict=True)), measure.columns
    )
    _, table = _columns(stamps, urls, from_url=False)
    assert table["year"].to_pylist() == [None, None, None, 2001, None]


def test_rules_on_years_leave_unknown_ones_alone_unless_asked() -> None:
    measure, table = _columns(
        ["1999", "2010", "2024", None], None, earliest=2000, latest=2020, require_year=True
    )
    drops = measure.drops(table)
    assert {reason: np.flatnonzero(found).tolist() for reason, found in drops.items()} == {
        "age: before 2000": [0],
        "age: after 2020": [2],
        "age: year not known": [3],
    }
    assert Age.of(AgeSpec()).drops(table) == {}
    assert Age.of(AgeSpec()).settings == measure.settings


def test_a_corpus_without_dates_has_null_years() -> None:
    measure = Age.of(AgeSpec())
    table = pa.table(
        measure(Batch(shard=0, first_row=0, columns={"text": pa.array(["a"], pa.large_string())}))
    )
    assert table["year"].to_pylist() == [None]
    assert table["timestamp_unreadable"].to_pylist() == [False]
