"""DSIR against the published package on real text, and what the choice finds there."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prill.methods.dsir import DSIR, REFERENCE_SETTINGS, DSIRSettings

SHARED = Path(os.environ.get("PRILL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
MACHINE_TEXT = Path(os.__file__).parent  # the standard library's own source, where no shared data is


def documents() -> list[str]:
    """About 400 kB of real text from all sources, a quarter of it with non-ASCII characters."""
    found: list[str] = []
    for path in sorted(SHARED.glob("corpus/*-00000-of-*.parquet")):
        found += pq.read_table(path, columns=["text"])["text"].slice(0, 8).to_pylist()
    if not found:
        found = [path.read_text("utf-8", "replace") for path in sorted(MACHINE_TEXT.glob("*.py"))[:40]]
    return [text[:6_000] for text in found]


def ours(raw: list[str], target: list[str], **settings: Any) -> np.ndarray:
    dsir = DSIR(DSIRSettings(**(REFERENCE_SETTINGS | settings)))
    pool, sample = pa.array(raw, pa.large_string()), pa.array(target, pa.large_string())
    state = dsir.state(dsir.counts(pool), {"t": dsir.counts(sample)})
    return dsir.score_text(state, pool)[0]


@pytest.mark.filterwarnings("ignore")  # the package and what it imports warn
@pytest.mark.parametrize("n", [2, 3])
def test_scores_equal_the_published_package(tmp_path: Path, n: int) -> None:
    package = pytest.importorskip("data_selection")
    raw = documents()
    target = raw[::9]
    for name, rows in (("raw", raw), ("target", target)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    theirs = package.HashedNgramDSIR(
        [str(tmp_path / "raw.jsonl")],
        [str(tmp_path / "target.jsonl")],
        str(tmp_path / "cache"),
        num_proc=1,
        ngrams=n,
    )
    # NLTK 3.10 went from `re` to the `regex` module, which counts other characters as words (combining
    # marks in, fractions out); the package was published, and is described, with `re`.
    theirs.tokenizer = re.compile(r"\w+|[^\w\s]+").findall
    theirs.fit_importance_estimator(num_tokens_to_fit="all")
    theirs.compute_importance_weights()
    expected = np.load(tmp_path / "cache" / "log_importance_weights" / "0.npy")
    lengths = np.load(tmp_path / "cache" / "perexample_metadata" / "0.npy")
    got = ours(raw, target, n=n)
    np.testing.assert_array_equal(np.isfinite(got), lengths >= 100)
    np.testing.assert_allclose(ours(raw, target, n=n, min_length=0), expected, rtol=1e-9, atol=1e-9)
