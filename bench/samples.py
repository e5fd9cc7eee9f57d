"""What samples cost: denoisers, sketches and swaps in tokens a CPU second, and what whole rows waste.

    PYTHONPATH=src python bench/samples.py [--documents 4000] [--row-tokens 512] [--rounds 3]

Documents have lengths from a log-normal law (median 400 tokens) and tokens from a Zipf law; the cost does not
depend on the text. Each transform runs on all of them in turn, in rounds; the table shows medians. `filling`
is the share of tokens that only fill rows, `next fit` what it would be without the packing, `trained` the
share of tokens with a loss. Reading rows with swaps is set against reading the same rows without.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from prill.lm.data import TokenStream
from prill.lm.feed.stream import StreamFeed
from prill.lm.samples.denoisers import Denoisers
from prill.lm.samples.sketches import Sketches
from prill.lm.samples.swaps import SwapFeed, Swaps
from prill.lm.samples.token_clusters import ClusterCounts
from prill.lm.samples.transform import Documents

VOCAB = 16_000


def documents(n: int) -> Documents:
    """Synthetic documents."""
    rng = np.random.default_rng(0)
    sizes = np.maximum(1, rng.lognormal(6, 1, n).astype(np.int64))
    starts = np.append(0, np.cumsum(sizes + 1))
    share = 1 / np.arange(1.0, VOCAB)
    tokens = (1 + rng.choice(VOCAB - 1, size=int(starts[-1]), p=share / share.sum())).astype(np.uint16)
    tokens[starts[1:] - 1] = 0
    return Documents(
        stream=TokenStream(tokens=tokens, doc_starts=starts),
        hashes=rng.integers(0, 2**62, n).astype(np.uint64),
        encode=lambda texts: [],
        vocab_size=VOCAB,
    )


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def filling(stream: TokenStream, row_tokens: int) -> tuple[float, float]:
    """Share of tokens that fill rows, and what it would be for samples laid one after another."""
    is_end = np.asarray(stream.tokens) == 0
    n_extra = int(is_end.sum()) - stream.n_documents
    sizes, room, rows = np.diff(stream.doc_starts), 0, 0
    first_end = np.array([int(np.argmax(is_end[a:])) + 1 for a in stream.doc_starts[:-1]])
    for size in np.minimum(sizes, first_end)[np.argsort(stream.origins, kind="stable")].tolist():
        if size > room:
            rows, room = rows + 1, row_tokens
        room -= size
    return n_extra / stream.n_tokens, 1 - (stream.n_tokens - n_extra) / (rows * row_tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    docs, row = documents(given.documents), given.row_tokens
    n_tokens = docs.stream.n_tokens
    transforms = {
        "denoisers, uniform": Denoisers(row_tokens=row),
        "denoisers, UL2R": Denoisers(row_tokens=row, mixture="ul2r"),
        "sketches": Sketches(row_tokens=row),
    }
    print(f"{n_tokens:,} tokens, {given.documents:,} documents\n")
    print("| transform | M tokens a CPU second | out / in | trained | filling | next fit |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, transform in transforms.items():
        took = statistics.median(seconds(lambda t=transform: t(docs, seed=0)) for _ in range(given.rounds))
        stream = transform(docs, seed=0)
        weights = stream.weights
        assert weights is not None
        waste, plain = filling(stream, row)
        print(
            f"| {name} | {n_tokens / took / 1e6:.1f} | {stream.n_tokens / n_tokens:.2f} "
            f"| {(weights > 0).mean():.3f} | {waste:.4f} | {plain:.4f} |"
        )
    feed = StreamFeed(stream=docs.stream, row_tokens=row, seed=0)
    clusters = ClusterCounts.start(np.arange(VOCAB) % 100)
    feeds: dict[str, Any] = {
        "rows as they are": feed,
        "rows with swaps": SwapFeed(feed=feed, swaps=Swaps(vocab_size=VOCAB, specials=(0,)), seed=0),
        "rows with clustered swaps": SwapFeed(
            feed=feed, swaps=Swaps(vocab_size=VOCAB, specials=(0,), clusters=clusters), seed=0
        ),
    }
    n_steps, n_rows = 50, 16
    print("\n| reading | M tokens a CPU second |\n| --- | --- |")
    for name, source in feeds.items():

        def read(source: Any = source) -> None:
            for step in range(n_steps):
                source.rows(step * n_rows, n_rows)

        took = statistics.median(seconds(read) for _ in range(given.rounds))
        print(f"| {name} | {n_steps * n_rows * row / took / 1e6:.1f} |")


if __name__ == "__main__":
    main()
