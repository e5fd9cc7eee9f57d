"""What plans share: how much text there is, from the first batches, and how long that may take, in words."""

from __future__ import annotations

from prill.corpus.corpus import Corpus

__all__ = ["duration", "probe"]

PROBED_SHARDS = 12


def probe(corpus: Corpus) -> tuple[int, int]:
    """About how many documents and text bytes there are, from the first batch of a few shards."""
    step = max(1, len(corpus.shards) // PROBED_SHARDS)
    n_rows = n_text = n_stored = 0
    for shard in corpus.shards[::step][:PROBED_SHARDS]:
        batch = next(iter(corpus.batches(shard)), None)
        if batch is not None:
            n_rows += batch.n_rows
            n_text += int(batch.text_buffers()[0][-1] - batch.text_buffers()[0][0])
            n_stored += (
                shard.n_bytes if shard.n_rows is None else round(shard.n_bytes * batch.n_rows / shard.n_rows)
            )
    known = corpus.schema_summary()["n_rows"]
    stored = sum(shard.n_bytes for shard in corpus.shards)
    n_documents = known if known is not None else round(stored * n_rows / max(1, n_stored))
    return n_documents, round(n_documents * n_text / max(1, n_rows))


def duration(seconds: float) -> str:
    """Seconds in words: `40 s`, `5 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
