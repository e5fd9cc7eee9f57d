from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus import tokenizer as tokenizer_module
from prill.corpus.tokenizer import END_OF_TEXT, load_tokenizer, train_bpe
from prill.errors import DataError, RecipeError

SAMPLE = [
    f"the cat number {i} sat on the mat, and the dog {i * i} did not; naïve café 東京" for i in range(60)
]


@pytest.fixture(scope="module")
def content() -> bytes:
    return train_bpe(SAMPLE, 330)


def test_training_gives_the_size_asked_for_and_eos_is_token_zero(content: bytes) -> None:
    tokenizer = load_tokenizer(content)
    assert tokenizer.vocab_size == 330
    assert tokenizer.eos_id == 0
    assert json.loads(content)["model"]["type"] == "BPE"


_TRAIN = """
import hashlib, itertools
from prill.corpus.tokenizer import train_bpe
ties = [a + b for a, b in itertools.product("abcdefghij", repeat=2)] * 3
print(hashlib.sha256(train_bpe(ties * 50, 330)).hexdigest())
"""


def test_training_gives_the_same_bytes_for_any_number_of_threads_even_when_all_pairs_tie() -> None:
    seen = set()
    for threads, parallel in [("1", "false"), ("1", "true"), ("4", "true")]:
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": parallel}
        done = subprocess.run(
            [sys.executable, "-c", _TRAIN], env=environment, capture_output=True, text=True, check=True
        )
        seen.add(done.stdout)
    assert len(seen) == 1


def test_training_does_not_depend_on_the_order_of_texts() -> None:
    assert train_bpe(SAMPLE, 330) == train_bpe(SAMPLE[::-1], 330)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_encoding_loses_nothing_and_counts_agree(content: bytes, texts: list[str]) -> None:
    tokenizer = load_tokenizer(content)
    encoded = tokenizer.encode_batch(texts)
    assert [tokenizer.decode(tokens) for tokens in encoded] == texts
    assert tokenizer.count_batch(pa.array(texts, pa.large_string())).tolist() == [len(t) for t in encoded]
    assert all(tokens.dtype == np.uint32 for tokens in encoded)


def test_a_special_token_written_in_a_document_is_only_text(content: bytes) -> None:
    tokenizer = load_tokenizer(content)
    (tokens,) = tokenizer.encode_batch([f"a {END_OF_TEXT} b"])
    assert tokenizer.eos_id not in tokens
    assert tokenizer.decode(tokens) == f"a {END_OF_TEXT} b"


def test_counts_do_not_depend_on_batches_or_slices(content: bytes) -> None:
    tokenizer = load_tokenizer(content)
    texts = [SAMPLE[i % 60] * (i % 7) for i in range(300)]
    array = pa.array(texts, pa.large_string())
    whole = tokenizer.count_batch(array)
    assert (
        np.concatenate([tokenizer.count_batch(array.slice(i, 37)) for i in range(0, 300, 37)]).tolist()
        == whole.tolist()
    )
    assert tokenizer.count_batch(array.slice(300)).tolist() == []


def test_one_huge_document_is_cut_before_spaces_without_changing_a_token(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(content)
    text = "  ".join(SAMPLE) + "\n \n" + " ".join(SAMPLE)
    (whole,) = tokenizer.encode_batch([text])
    monkeypatch.setattr(tokenizer_module, "PIECE_CHARACTERS", 100)
    monkeypatch.setattr(tokenizer_module, "_BATCH_CHARACTERS", 350)
    (cut,) = tokenizer.encode_batch([text])
    assert cut.tolist() == whole.tolist()
    assert tokenizer.count_batch(pa.array([text, "", text], pa.large_string())).tolist() == [
        len(whole),
        0,
        len(whole),
    ]


def test_a_huge_word_without_spaces_is_counted_as_it_is_encoded(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_module, "PIECE_CHARACTERS", 50)
    tokenizer = load_tokenizer(content)
    text = "x" * 1_001 + " " * 333
    (tokens,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(tokens) == text
    assert tokenizer.count_batch(pa.array([text], pa.large_string())).tolist() == [len(tokens)]


def test_loading_from_path_and_pickle_keeps_the_tokenizer(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    loaded = pickle.loads(pickle.dumps(load_tokenizer(tmp_path / "tokenizer.json")))
    assert loaded.sha256 == load_tokenizer(content).sha256
    assert (
        loaded.encode_batch(["the cat"])[0].tolist()
        == load_tokenizer(content).encode_batch(["the cat"])[0].tolist()
    )


def test_truncation_and_padding_of_a_given_tokenizer_are_switched_off(content: bytes) -> None:
    changed = json.loads(content)
    changed["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    changed["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": END_OF_TEXT,
    }  # fmt: skip
    given_one, plain = load_tokenizer(json.dumps(changed).encode()), load_tokenizer(content)
    text = "the cat sat on the mat"
    assert given_one.encode_batch([text, "a"])[0].tolist() == plain.encode_batch([text])[0].tolist()
    assert given_one.count_batch(pa.array([text], pa.large_string())) == plain.count_batch(
        pa.array([text], pa.large_string())
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"{", "expected JSON, found an error at character"),
        (b"[]", "expected a tokenizer with a `model`, found other JSON"),
        (b'{"model": {"type": "Magic"}}', "found one that cannot be loaded"),
    ],
)
def test_what_is_no_tokenizer_is_told(broken: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_tokenizer(broken)


def test_a_missing_file_and_a_missing_end_are_told(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: expected a tokenizer\.json, found no such file"):
        load_tokenizer(tmp_path / "none.json")
    with pytest.raises(DataError, match="found a folder"):
        load_tokenizer(tmp_path)
    with pytest.raises(DataError, match=r"expected a token that ends a document \(</s>\), found none"):
        load_tokenizer(content, eos="</s>")


def test_bad_sizes_and_no_text_are_told() -> None:
    with pytest.raises(RecipeError, match="expected 257 to 1000000, found 100"):
        train_bpe(["a"], 100)
    with pytest.raises(DataError, match="expected text to train a tokenizer on, found none"):
        train_bpe(["", ""], 300)
