"""Held-out pieces: nothing lost, nothing doubled, spread over documents."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prill.study.pieces import cut, take_pieces


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.integers(1, 40))
def test_cut_pieces_join_to_the_text_and_fit(text: str, piece_bytes: int) -> None:
    pieces = cut(text, piece_bytes)
    assert "".join(pieces) == text
    assert all(pieces)
    assert all(len(piece.encode()) <= max(piece_bytes, 4) for piece in pieces)


def test_cuts_prefer_spaces() -> None:
    assert cut("one two three", 8) == ["one two ", "three"]


def test_every_document_gives_a_piece_before_any_gives_two() -> None:
    documents = ["a" * 1000, "b" * 50, "c" * 400]
    pieces = take_pieces(documents, np.arange(3, dtype=np.uint64), piece_bytes=50, total_bytes=200, seed=1)
    assert sorted(pieces.document[:3]) == [0, 1, 2]
    assert len(pieces.texts) == 4
    assert list(pieces.n_bytes) == [50] * 4


def test_everything_is_taken_when_there_is_less_than_asked() -> None:
    documents = ["some words here", "and some more of them there"]
    pieces = take_pieces(documents, np.arange(2, dtype=np.uint64), piece_bytes=10, total_bytes=10**6, seed=1)
    assert int(pieces.n_bytes.sum()) == sum(map(len, documents))


def test_the_choice_is_keyed_by_text_hash_not_by_position() -> None:
    documents, keys = ["x" * 300, "y" * 300], np.array([5, 9], np.uint64)
    one = take_pieces(documents, keys, piece_bytes=30, total_bytes=120, seed=4)
    other = take_pieces(documents[::-1], keys[::-1], piece_bytes=30, total_bytes=120, seed=4)
    assert sorted(one.texts) == sorted(other.texts)
