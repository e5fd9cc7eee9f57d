"""Exact copies: the first in corpus order stays, whatever fits into memory at once."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus.columns import ColumnInfo, write_columns
from prill.pipeline.pool import COPY, HELD_OUT, MarkEligible, first_copies

SHARDS = st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=1, max_size=4)


def write_read_part(path: Path, texts: list[int]) -> Path:
    hashes = np.array(texts, np.uint64)
    columns = {
        "hash_high": hashes * np.uint64(0x9E3779B97F4A7C15),
        "hash_low": hashes,
        "n_bytes": np.full(len(texts), 10, np.int64),
        "bad": pa.nulls(len(texts), pa.string()),
    }
    write_columns(path, columns, [ColumnInfo(name=name) for name in columns])
    return path


@settings(max_examples=40)
@given(SHARDS, st.integers(1, 20))
def test_the_first_copy_stays_for_any_slice_of_the_hash_range(
    shards: list[list[int]], rows_at_once: int
) -> None:
    with TemporaryDirectory() as folder:
        parts = [write_read_part(Path(folder) / f"{n}.parquet", texts) for n, texts in enumerate(shards)]
        found = first_copies(parts, rows_at_once=rows_at_once)
    seen: set[int] = set()
    for texts, is_first in zip(shards, found, strict=True):
        for text, first in zip(texts, is_first, strict=True):
            assert first == (text not in seen)
            seen.add(text)


def test_copies_of_target_documents_are_told_before_copies_of_each_other(tmp_path: Path) -> None:
    parts = [write_read_part(tmp_path / "read.parquet", [1, 2, 1, 2, 3])]
    held_out = np.array([[2 * 0x9E3779B97F4A7C15 % 2**64, 2]], np.uint64)
    mark = MarkEligible(
        read_parts=parts, is_first=first_copies(parts), held_out_keys=held_out, rest_share=0.0, seed=0
    )
    mark((0, tmp_path / "eligible.parquet"))
    import pyarrow.parquet as pq

    reasons = pq.read_table(tmp_path / "eligible.parquet")["drop_reason"].to_pylist()
    assert reasons == [None, HELD_OUT, COPY, HELD_OUT, None]
