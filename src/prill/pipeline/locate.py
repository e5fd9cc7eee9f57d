"""Finding one document of a corpus by its id or its place."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.corpus import Corpus
from prill.errors import DataError, printable

__all__ = ["locate"]


def locate(corpus: Corpus, document: str) -> tuple[int, int, str | None, str]:
    """Shard, row, id and text of the document with this id, or at this `SHARD:ROW`."""
    fields = ("text", "id") if "id" in corpus.fields else ("text",)
    shard_text, _, row_text = document.rpartition(":")
    by_place = shard_text.isdigit() and row_text.isdigit() and int(shard_text) < len(corpus.shards)
    shards = [corpus.shards[int(shard_text)]] if by_place else corpus.shards
    for shard in shards:
        for batch in corpus.batches(shard, fields):
            ids = batch.columns.get("id", pa.nulls(batch.n_rows, pa.large_string()))
            if by_place:
                place = int(row_text) - batch.first_row
            else:
                place = int(pc.index(ids, pa.scalar(document, pa.large_string())).as_py())
            if 0 <= place < batch.n_rows:
                return shard.index, batch.first_row + place, ids[place].as_py(), batch.text[place].as_py()
    raise DataError(
        f"a document of the corpus expected, found none called {printable(document)!r}",
        hint="give its id exactly, or its place as SHARD:ROW",
    )
