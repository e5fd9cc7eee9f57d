"""An index of documents: what a later run needs to find copies of them without their text.

A Parquet file, one row a document that was kept, in the order of the corpus:

- `hash_high`, `hash_low`: uint64, the 128-bit hash that exact copies share;
- near only: `keys`: fixed_size_list<uint64>[bands], and `sketch`: list<uint32>, the smallest hashes of the
  document's different shingles, ascending, at most `limit` of them.

The file's metadata says under `prill.index`, as JSON, what made it: `kind` and `settings`. A run reads only
an index whose settings are its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.errors import DataError
from prill.run.atomic import atomic_path

__all__ = ["INDEX_VERSION", "Index", "index_table", "write_index"]

INDEX_VERSION: Final = 1
_KEY: Final = b"prill.index"
_ROWS: Final = 65_536
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index file whose settings were checked.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        n_documents: rows.
    """

    path: Path
    sha256: str
    n_documents: int

    @classmethod
    def of(cls, path: Path, kind: str, settings: Mapping[str, Any]) -> Index:
        """Open an index and compare how it was made.

        Raises:
            DataError: no index, or one made with other settings.
        """
        where = str(path)
        try:
            with pq.ParquetFile(path) as file:
                said = (file.schema_arrow.metadata or {}).get(_KEY)
                n_documents = file.metadata.num_rows
        except FileNotFoundError as error:
            raise DataError("expected an index of documents, found no file", where=where) from error
        except (pa.ArrowException, OSError) as error:
            raise DataError("expected an index of documents, found another file", where=where) from error
        made = orjson.loads(said) if said else {}
        wanted = {"version": INDEX_VERSION, "kind": kind, "settings": dict(settings)}
        if made != orjson.loads(orjson.dumps(wanted)):
            raise DataError(
                f"expected an index made with {_shown(wanted)}, found {_shown(made) if made else 'none'}",
                where=where,
                hint="make the index again with the settings of this recipe, or take the settings over",
            )
        return cls(path=path, sha256=_digest(path), n_documents=n_documents)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows in order, some thousands at a time."""
        with pq.ParquetFile(self.path) as file:
            yield from file.iter_batches(batch_size=_ROWS, columns=list(columns), use_threads=False)


def index_table(
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    keys: NDArray[np.uint64] | None = None,
    lengths: NDArray[np.int64] | None = None,
    values: NDArray[np.uint32] | None = None,
) -> pa.Table:
    """Rows of an index; keys (D, B), and sketches one behind the other, only for near copies."""
    columns: dict[str, Any] = {"hash_high": high, "hash_low": low}
    if keys is not None and lengths is not None:
        columns["keys"] = pa.FixedSizeListArray.from_arrays(pa.array(keys.ravel()), keys.shape[1])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        columns["sketch"] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values, pa.uint32()))
    return pa.table(columns)


def write_index(path: Path, tables: Iterator[pa.Table], kind: str, settings: Mapping[str, Any]) -> int:
    """Write an index, whole or not at all; documents written. There must be at least one table."""
    made = orjson.dumps(
        {"version": INDEX_VERSION, "kind": kind, "settings": dict(settings)}, option=orjson.OPT_SORT_KEYS
    )
    n_documents = 0
    with atomic_path(path) as temporary:
        first = next(tables)
        schema = first.schema.with_metadata({_KEY: made})
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            for table in (first, *tables):
                if table.num_rows:
                    writer.write_table(table.cast(schema), row_group_size=_ROWS)
                n_documents += table.num_rows
    return n_documents


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _shown(made: Mapping[str, Any]) -> str:
    return orjson.dumps(made, option=orjson.OPT_SORT_KEYS).decode()
