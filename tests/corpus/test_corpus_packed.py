from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from prill.corpus.packed import open_packed, write_packed
from prill.errors import DataError, InternalError


@settings(max_examples=40, deadline=None)
@given(
    docs=st.lists(
        st.tuples(
            st.tuples(st.integers(0, 99), st.integers(0, 2**40)), st.lists(st.integers(0, 65_535), max_size=9)
        ),
        max_size=8,
    ),
    vocab_size=st.sampled_from([65_536, 65_537, None]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    docs: list[tuple[tuple[int, int], list[int]]],
    vocab_size: int | None,
) -> None:
    path = tmp_path_factory.mktemp("packed") / "a.tokens"
    n_tokens = write_packed(path, docs, eos=3, vocab_size=vocab_size, tokenizer_sha256="ab")
    packed = open_packed(path)
    assert packed.n_tokens == n_tokens == sum(len(tokens) + 1 for _, tokens in docs)
    assert packed.n_docs == len(docs)
    assert packed.tokens.dtype == (np.uint16 if vocab_size == 65_536 else np.uint32)
    read = [
        packed.tokens[start:stop].tolist()
        for start, stop in zip(packed.doc_starts[:-1], packed.doc_starts[1:], strict=True)
    ]
    assert read == [[*tokens, 3] for _, tokens in docs]
    assert packed.keys.tolist() == [list(key) for key, _ in docs]
    assert (packed.header["eos"], packed.header["tokenizer_sha256"]) == (3, "ab")


def test_the_file_is_a_safetensors_file(tmp_path: Path) -> None:
    write_packed(tmp_path / "a", [((0, 1), np.array([5, 6, 7], np.uint32))], eos=0, vocab_size=300)
    tensors = load_file(tmp_path / "a")
    assert tensors["tokens"].tolist() == [5, 6, 7, 0]
    assert tensors["doc_starts"].tolist() == [0, 4]
    assert tensors["keys"].tolist() == [[0, 1]]


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    docs = [((0, i), [i, i + 1]) for i in range(5)]
    for name in ("a", "b"):
        write_packed(tmp_path / name, docs, eos=0, vocab_size=50)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_cut_or_strange_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_packed(path, [((0, i), [i] * 9) for i in range(5)], eos=0, vocab_size=50)
    whole = path.read_bytes()
    for length in (0, 7, 100, 4_095, 4_096, 4_100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=str(path)):
            open_packed(path)
    path.write_bytes(b"\0" * len(whole))
    with pytest.raises(DataError, match="found another header"):
        open_packed(path)
    path.write_bytes(whole.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(DataError, match="expected version 1 of the format, found 9"):
        open_packed(path)
    path.write_bytes(whole[:-96] + b"\xff" * 8 + whole[-88:])
    with pytest.raises(DataError, match="found other starts or counts"):
        open_packed(path)
    with pytest.raises(DataError, match="expected a file of packed tokens, found none"):
        open_packed(tmp_path / "none")


@pytest.mark.parametrize("tokens", [[-1], [50], [1.5], [[1, 2]]])
def test_ids_outside_the_vocabulary_are_refused_and_leave_no_file(
    tmp_path: Path, tokens: list[object]
) -> None:
    with pytest.raises(InternalError):
        write_packed(tmp_path / "a", [((0, 0), np.array(tokens))], eos=0, vocab_size=50)
    assert list(tmp_path.iterdir()) == []
