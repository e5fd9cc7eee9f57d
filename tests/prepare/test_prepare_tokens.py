"""Token counts as a measure: the library's own numbers, and bounds that are policy."""

from pathlib import Path

import pyarrow as pa
import pytest

from prill.corpus.batch import Batch
from prill.corpus.tokenizer import load_tokenizer, train_bpe
from prill.errors import DataError
from prill.prepare.tokens import TokenCounts, TokensSpec

TEXTS = ["the cat sat on the mat", "", "naïve café, 漢字 123", "x " * 200]


def test_counts_are_the_librarys_and_bounds_drop(tmp_path: Path) -> None:
    content = train_bpe(["the cat sat on the mat, naïve café 漢字 1 2 3"] * 4, 300)
    (tmp_path / "tokenizer.json").write_bytes(content)
    made = TokenCounts.of(TokensSpec(path="tokenizer.json", least=1, most=100), tmp_path)
    text = pa.array(TEXTS, pa.large_string())
    table = pa.table(made(Batch(shard=0, first_row=0, columns={"text": text})))
    assert table["n_tokens"].to_pylist() == load_tokenizer(content).count_batch(text).tolist()
    drops = {reason: holds.tolist() for reason, holds in made.drops(table).items()}
    assert drops == {
        "fewer than 1 tokens": [False, True, False, False],
        "more than 100 tokens": [False, False, False, True],
    }
    assert made.settings == TokenCounts.of(TokensSpec(path="tokenizer.json"), tmp_path).settings


def test_a_missing_tokenizer_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer|found none"):
        TokenCounts.of(TokensSpec(path="none.json"), tmp_path)
