"""What training rows cost, and whether making them ahead pays.

    PYTHONPATH=src python bench/feed.py [--rows 64] [--row-tokens 1024] [--rounds 5] [--only rows|ahead]

First table: CPU time a token to make the rows of one step, by kind of feed, and to account for a whole plan.
Second: wall time a step of `nano` proxies on one thread, rows made ahead (`Prefetch`) or when needed, in turn
in rounds; the ratio is the median over rounds. Third: the same beside a device that takes a fixed time a step
and leaves the processor alone, played by sleeping: what is won where rows and steps cost alike. Tokens are
drawn from documents of 50 to 1,000 tokens: what rows cost does not depend on the text.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from prill.lm.data import Rows, TokenStream, stack_rows
from prill.lm.feed.account import account
from prill.lm.feed.feed import Feed
from prill.lm.feed.mixture import MixtureFeed, SharePoint, Source
from prill.lm.feed.prefetch import Prefetch
from prill.lm.feed.stream import StreamFeed
from prill.lm.feed.whole import WholeFeed

VOCAB, EOS = 4096, 0
N_DOCUMENTS = 20_000
PLAN_ROWS = 9_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--row-tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["rows", "ahead", "device"])
    given = parser.parse_args()
    if given.only in (None, "rows"):
        rows_table(given.rows, given.row_tokens, given.rounds)
    if given.only in (None, "ahead"):
        ahead_table(given.rounds)
    if given.only in (None, "device"):
        device_table(given.rows, given.row_tokens, given.rounds)


def stream(seed: int, n_documents: int = N_DOCUMENTS) -> TokenStream:
    """Documents of random tokens."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(rng.integers(50, 1000, n_documents))])
    tokens = rng.integers(1, VOCAB, starts[-1]).astype(np.uint16)
    tokens[starts[1:] - 1] = EOS
    return TokenStream(tokens=tokens, doc_starts=starts, weights=np.ones(len(tokens), np.float32))


def feeds(row_tokens: int) -> dict[str, Feed]:
    """One feed of each kind."""
    plain = StreamFeed(stream=stream(0), row_tokens=row_tokens, seed=0)
    sources = tuple(
        Source(
            name=str(n), feed=StreamFeed(stream=stream(n, N_DOCUMENTS // 8), row_tokens=row_tokens, seed=n)
        )
        for n in range(8)
    )
    points = (
        SharePoint(row=0, shares=(0.125,) * 8),
        SharePoint(row=PLAN_ROWS, shares=(0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05)),
    )
    return {
        "stream": plain,
        "whole samples": WholeFeed(stream=plain.stream, row_tokens=row_tokens, seed=0),
        "mixture of 8, weights on a line": MixtureFeed(
            sources=sources, points=points, row_tokens=row_tokens, n_rows=PLAN_ROWS, curve="line"
        ),
    }


def rows_table(n_rows: int, row_tokens: int, rounds: int) -> None:
    """CPU time a token of making rows and of accounting for a plan."""
    print(
        f"| feed ({n_rows} x {row_tokens}) | ns a token | million tokens a CPU second | account, ns a row |"
    )
    print("| --- | --- | --- | --- |")
    for name, feed in feeds(row_tokens).items():
        steps = min(40, PLAN_ROWS // n_rows)
        feed.rows(0, n_rows)

        def every_step(feed: Feed = feed, steps: int = steps) -> None:
            for step in range(steps):
                feed.rows(step * n_rows, n_rows)

        cost = statistics.median(cpu(every_step) for _ in range(rounds)) / (steps * n_rows * row_tokens)
        told = statistics.median(
            cpu(lambda feed=feed: account(feed, PLAN_ROWS, row_tokens=row_tokens)) for _ in range(rounds)
        )
        print(f"| {name} | {cost * 1e9:.1f} | {1e-6 / cost:.0f} | {told / PLAN_ROWS * 1e9:.0f} |", flush=True)


def ahead_table(rounds: int, *, steps: int = 6) -> None:
    """Wall time of steps with rows made ahead over steps without."""
    import torch

    from prill.lm.model import StackedLlama
    from prill.lm.shape import ladder_shape

    torch.set_num_threads(1)
    print("\n| models, rows x tokens | ms a step | of it rows | ahead over not (wall) |")
    print("| --- | --- | --- | --- |")
    for n_models, n_rows in ((1, 4), (8, 4)):
        shape = ladder_shape("nano", vocab_size=VOCAB)
        model = StackedLlama.init(shape, range(n_models))
        runs = [
            StreamFeed(stream=stream(k, 2_000), row_tokens=shape.seq_len, seed=k) for k in range(n_models)
        ]

        def rows(step: int, runs: list[StreamFeed] = runs, n_rows: int = n_rows) -> Rows:
            return stack_rows([run.rows(step * n_rows, n_rows) for run in runs])

        def train(depth: int, model: StackedLlama = model, rows: Callable[[int], Rows] = rows) -> float:
            begin = time.perf_counter()
            with Prefetch(rows, range(steps), depth=depth) as ahead:
                for _, batch in ahead:
                    model.losses_and_gradient(model.pack(batch))
            return (time.perf_counter() - begin) / steps

        train(0)
        made = statistics.median(cpu(lambda rows=rows: rows(3)) for _ in range(30))
        pairs = [(train(0), train(2)) for _ in range(rounds)]
        plain = statistics.median(a for a, _ in pairs)
        ratio = statistics.median(b / a for a, b in pairs)
        size = f"{n_models}, {n_rows} x {shape.seq_len}"
        print(f"| {size} | {plain * 1e3:.1f} | {made * 1e3:.2f} | {ratio:.3f} |", flush=True)


def device_table(n_rows: int, row_tokens: int, rounds: int, *, steps: int = 40) -> None:
    """Wall time of steps beside a device that is played by sleeping."""
    feed = feeds(row_tokens)["mixture of 8, weights on a line"]
    print(f"\n| device, ms | rows {n_rows} x {row_tokens}, ms | not ahead, ms | ahead, ms | ahead over not |")
    print("| --- | --- | --- | --- | --- |")
    made = statistics.median(cpu(lambda: feed.rows(500, n_rows)) for _ in range(20))
    for device_s in (0.004, 0.008, 0.016):

        def train(depth: int, device_s: float = device_s) -> float:
            begin = time.perf_counter()
            with Prefetch(lambda step: feed.rows(step * n_rows, n_rows), range(steps), depth=depth) as ahead:
                for _ in ahead:
                    time.sleep(device_s)
            return (time.perf_counter() - begin) / steps

        pairs = [(train(0), train(2)) for _ in range(rounds)]
        first, second = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(
            f"| {device_s * 1e3:.0f} | {made * 1e3:.2f} | {first:.2f} | {second:.2f} | {ratio:.2f} |",
            flush=True,
        )


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this thread."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


if __name__ == "__main__":
    main()
