"""How much of what DSIR chooses is what it should find, on a pool whose members are known.

    python bench/precision.py --data DIR [--draws 5]

DIR holds `corpus/*.parquet` (columns `id`, `text`) and for each target `targets/NAME.jsonl` (a sample) and
`targets/NAME.members.json` (the ids of its documents in the pool); default: PRILL_SHARED_DATA. The budget is
the members' bytes of UTF-8 text; precision = members' bytes among the chosen bytes. Chosen is the longest
prefix that fits the budget, in the order of score plus keyed Gumbel noise, the noise drawn `--draws` times.
Each target is fitted with its whole sample, and with 10 documents of it drawn by their keyed uniforms.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.corpus.batch import Batch
from prill.features.keyed import keyed_gumbel, keyed_uniform
from prill.features.ngrams import hash_documents
from prill.methods.dsir import DSIR, REFERENCE_SETTINGS, DSIRSettings

GOALS = {"full": (0.84, 0.90), "ten": (0.65, 0.80)}
"""Lowest precision of any target, lowest mean over targets."""
FEW = 10


def main() -> None:
    """Print one line a setting and sample size."""
    args = _arguments()
    pool = _Pool(args.data)
    for label, settings in (("default", {}), ("reference", REFERENCE_SETTINGS)):
        dsir = DSIR(DSIRSettings(**settings))
        counts = dsir.counts(pool.text)
        for size in GOALS:
            draws = [_precisions(pool, dsir, counts, size=size, draw=draw) for draw in range(args.draws)]
            _print(label, size, pool.names, np.array(draws))


class _Pool:
    """The pool in memory, with the members of every target."""

    def __init__(self, data: Path) -> None:
        tables = [
            pq.read_table(path, columns=["id", "text"])
            for path in sorted((data / "corpus").glob("*.parquet"))
        ]
        table = pa.concat_tables(tables)
        self.text = pa.chunked_array(table["text"].cast(pa.large_string()).chunks).combine_chunks()
        self.batch = Batch(shard=0, first_row=0, columns={"text": self.text})
        self.n_bytes = np.diff(self.batch.text_buffers()[0])
        self.keys = hash_documents(self.text)[1]
        self.names = [path.stem for path in sorted((data / "targets").glob("*.jsonl"))]
        ids = np.array(table["id"].to_pylist())
        self.members, self.samples = {}, {}
        for name in self.names:
            truth = json.loads((data / "targets" / f"{name}.members.json").read_text())
            self.members[name] = np.isin(ids, truth["pool_member_ids"])
            lines = (data / "targets" / f"{name}.jsonl").read_text().splitlines()
            self.samples[name] = pa.array([json.loads(line)["text"] for line in lines], pa.large_string())


def _precisions(pool: _Pool, dsir: DSIR, pool_B: NDArray[np.int64], *, size: str, draw: int) -> list[float]:
    samples = {name: _part(sample, size=size, draw=draw) for name, sample in pool.samples.items()}
    state = dsir.state(pool_B, {name: dsir.counts(text) for name, text in samples.items()})
    scores = dict(zip(samples, dsir.score_text(state, pool.text), strict=True))
    noise = keyed_gumbel(draw, pool.keys)
    return [_precision(scores[name] + noise, pool.members[name], pool.n_bytes) for name in pool.names]


def _part(sample: pa.Array, *, size: str, draw: int) -> pa.Array:
    if size == "full":
        return sample
    order = np.argsort(keyed_uniform(1000 + draw, hash_documents(sample)[1]), kind="stable")
    return sample.take(pa.array(order[:FEW]))


def _precision(
    scores: NDArray[np.float64], is_member: NDArray[np.bool_], n_bytes: NDArray[np.int64]
) -> float:
    order = np.argsort(-scores, kind="stable")
    n_chosen = int(np.searchsorted(np.cumsum(n_bytes[order]), n_bytes[is_member].sum(), side="right"))
    chosen = order[:n_chosen]
    return float(n_bytes[chosen][is_member[chosen]].sum() / n_bytes[chosen].sum())


def _print(label: str, size: str, names: list[str], draws: NDArray[np.float64]) -> None:
    means = draws.mean(axis=0)
    each, overall = GOALS[size]
    print(f"{label}, {size} target sample, precision in bytes, mean of {len(draws)} draws (lowest):")
    for name, mean, lowest in zip(names, means, draws.min(axis=0), strict=True):
        print(f"  {name:<20}{mean:.3f} ({lowest:.3f})")
    met = "met" if means.min() >= each and means.mean() >= overall else "missed"
    print(f"  {'mean':<20}{means.mean():.3f}   goal: each >= {each}, mean >= {overall}: {met}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("PRILL_SHARED_DATA"), help="folder of the data"
    )
    parser.add_argument("--draws", type=int, default=5, help="draws of noise, and of the ten documents")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, or set PRILL_SHARED_DATA")
    args.data = Path(args.data)
    return args


if __name__ == "__main__":
    main()
