"""Published fastText models: applied as the library does, folded, and refused where they are broken."""

import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linear_oracle import buckets, fnv, probabilities, words, write_bin
from made_text import texts
from prill.errors import DataError
from prill.features.fasttext_model import read_fasttext
from prill.features.linear_model import LinearModel

VOCABULARY = [
    "</s>",
    "the",
    "a",
    "proof",
    "é",
    "naïve",
    "中文",
    "word-of-sixteen-",
    "seventeen-letters",
    "x" * 90,
]
RNG = np.random.default_rng(3)
DOCUMENT = st.lists(
    st.one_of(
        st.sampled_from([*VOCABULARY[1:], "unknown", "other", "__label__hq", "__label_", "</s", "ÿ" * 11]),
        st.sampled_from(
            [" ", "  ", "\n", "\r\n", "\t", "\v", "\f", "\x1c", "\x1f", "\x85", "\u2028", "\xa0"]
        ),
        st.text(max_size=20),
    ),
    max_size=40,
).map("".join)


def written(
    folder: Path, *, n_labels: int = 2, n: int = 2, n_buckets: int = 61, **changed: Any
) -> dict[str, Any]:
    rng = np.random.default_rng(n_labels)
    rows = rng.normal(size=(len(VOCABULARY) + n_buckets, 6)).astype(np.float32)
    outputs = rng.normal(size=(n_labels, 6)).astype(np.float32)
    labels = [f"label{i}" for i in range(n_labels)]
    write_bin(folder / "m.bin", VOCABULARY, labels, rows, outputs, n=n, **changed)
    return {"rows": rows, "outputs": outputs, "labels": tuple(labels)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], tuple[LinearModel, Any]]:
    found = {}
    for n_labels, n in [(2, 1), (2, 2), (2, 3), (4, 2)]:
        folder = tmp_path_factory.mktemp("models")
        made = written(folder, n_labels=n_labels, n=n, n_buckets=61 if n > 1 else 0)
        found[n_labels, n] = (read_fasttext(folder / "m.bin"), made)
    return found


def test_hash_of_words_is_the_published_one() -> None:
    # FNV-1a of "a" is 0xE40C292C; bytes above 127 are sign-extended, which plain FNV-1a does not do
    assert fnv("a") & 0xFFFFFFFF == 0xE40C292C
    assert fnv("é") & 0xFFFFFFFF != 0x1A9B0B2E
    assert words("a\r\nb\nc ") == ["a", "b", "c", "</s>"]
    assert len(buckets(["a", "b", "c", "</s>"], 3, 100)) == 5


@settings(max_examples=150, deadline=None)
@given(st.lists(DOCUMENT, min_size=1, max_size=5), st.sampled_from([(2, 1), (2, 2), (2, 3), (4, 2)]))
@example(
    ["\u2003a", "a\u205f", "\u1680a\u3000", "a\x85", "\x85a", "\u202fa b\u2009", "。a「", "\xa0", "\u3000"],
    (2, 2),
)
@example(["a </s> proof proof", "</s>", "", "__label__x a", "proof\u2029the\x85a", "\xa0the\u3000"], (2, 2))
def test_probabilities_equal_plain_python(
    models: dict[tuple[int, int], tuple[LinearModel, Any]], documents: list[str], which: tuple[int, int]
) -> None:
    model, made = models[which]
    expected = [
        probabilities(document, VOCABULARY, made["rows"], made["outputs"], n=which[1])
        for document in documents
    ]
    np.testing.assert_allclose(model.predict(texts(documents)), expected, atol=3e-6)


@pytest.mark.parametrize("which", [(2, 2), (2, 3), (4, 2)])
def test_documents_longer_than_a_stretch_and_slices(
    models: dict[tuple[int, int], tuple[LinearModel, Any]], which: tuple[int, int]
) -> None:
    model, made = models[which]
    rng = np.random.default_rng(0)
    pieces = [*VOCABULARY[1:], "other", "q" * 700]
    documents = [" ".join(rng.choice(pieces, size=int(size))) for size in (5000, 511, 512, 513, 577, 3, 1300)]
    documents += ["x" * 100_000, " " * 70_000 + "proof", "a" + "\n" * 64 + "the" + " " * 63]
    expected = [probabilities(d, VOCABULARY, made["rows"], made["outputs"], n=which[1]) for d in documents]
    np.testing.assert_allclose(model.predict(texts(documents)), expected, atol=3e-6)
    np.testing.assert_array_equal(
        model.margins(texts(documents).slice(3, 4)), model.margins(texts(documents))[3:7]
    )
    one_by_one = [model.margins(texts([document])) for document in documents]
    np.testing.assert_array_equal(np.concatenate(one_by_one), model.margins(texts(documents)))


def test_reported_probabilities_are_too_high_by_the_librarys_offset(
    models: dict[tuple[int, int], tuple[LinearModel, Any]],
) -> None:
    model, _ = models[2, 2]
    reported = model.reported(texts(["the proof", ""]))
    np.testing.assert_allclose(reported.sum(axis=1), 1 + 2e-5, atol=1e-12)
    np.testing.assert_allclose(reported - 1e-5, model.predict(texts(["the proof", ""])), atol=1e-7)


def test_line_breaks_are_spaces(models: dict[tuple[int, int], tuple[LinearModel, Any]]) -> None:
    model, _ = models[2, 2]
    joined = model.margins(texts(["the proof a"]))
    for text in (
        "the\r\nproof\na ",
        "the\x85proof\x1ea",
        "the\u2028proof\u2029a",
        "\x1f the\vproof\fa\u3000",
    ):
        np.testing.assert_array_equal(model.margins(texts([text])), joined)


def test_a_model_that_knows_nothing_of_a_document_gives_no_number(tmp_path: Path) -> None:
    rows, outputs = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    write_bin(tmp_path / "m.bin", ["only", "these"], ["a", "b"], rows, outputs, n=1)
    model = read_fasttext(tmp_path / "m.bin")
    assert np.isnan(model.predict(texts(["other words"]))).all()
    assert np.isfinite(model.predict(texts(["other these"]))).all()


def test_the_folded_model_is_stored_whole(
    models: dict[tuple[int, int], tuple[LinearModel, Any]], tmp_path: Path
) -> None:
    documents = texts(["the proof", "a naïve 中文", ""])
    for model, _ in models.values():
        model.save(tmp_path / "m.safetensors")
        again = LinearModel.load(tmp_path / "m.safetensors")
        assert again.labels == model.labels
        np.testing.assert_array_equal(again.margins(documents), model.margins(documents))
        first = (tmp_path / "m.safetensors").read_bytes()
        again.save(tmp_path / "n.safetensors")
        assert (tmp_path / "n.safetensors").read_bytes() == first


def test_a_million_words_are_found(tmp_path: Path) -> None:
    # many sets are full, and their words go on to the next
    vocabulary = [f"w{i}" for i in range(20_000)]
    rows = np.arange(20_000, dtype=np.float32)[:, None] / 20_000
    outputs = np.array([[0.0], [1.0]], np.float32)
    write_bin(tmp_path / "m.bin", vocabulary, ["a", "b"], rows, outputs, n=1)
    model = read_fasttext(tmp_path / "m.bin")
    np.testing.assert_array_equal(model.margins(texts(vocabulary))[:, 0], rows[:, 0])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"magic": 1}, "expected a fastText model"),
        ({"version": 99}, "expected a fastText model"),
        ({"model": 1}, "expected a supervised model, found word vectors"),
        ({"loss": 1}, "found hierarchical softmax"),
        ({"loss": 77}, "found 77"),
        ({"maxn": 6}, "found n-grams of up to 6 characters"),
        ({"dim": -5}, "found dim -5"),
        ({"dim": 7}, "found 71 x 6"),
        ({"bucket": 2_000_000_000}, "2000000010 x 6, found 71 x 6"),
        ({"n_words": 2_000_000_000, "size": 2_000_000_002}, "more bytes"),
        ({"n_words": -1}, "found 12 entries, -1 words"),
        ({"n_labels": 1, "n_words": 11}, "at least 2 labels"),
        ({"n_words": 9, "size": 11}, "a dictionary of words and then labels"),
        ({"pruned": 5}, "a pruned one"),
        ({"quantised": True}, "found a quantised one"),
        ({"m": 1 << 60}, "x 6"),
        ({"k": 1 << 60}, "71 x 6"),
    ],
)
def test_a_header_that_lies_is_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], expected: str
) -> None:
    written(tmp_path, **changed)
    with pytest.raises(DataError, match=r"m\.bin") as caught:
        read_fasttext(tmp_path / "m.bin")
    assert expected in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    whole = (tmp_path / "m.bin").read_bytes()
    for size in [*range(0, 400, 7), *range(400, len(whole), 97), len(whole) - 1]:
        (tmp_path / "m.bin").write_bytes(whole[:size])
        with pytest.raises(DataError):
            read_fasttext(tmp_path / "m.bin")
    (tmp_path / "m.bin").write_bytes(whole + b"\0")
    with pytest.raises(DataError, match="expected the file to end"):
        read_fasttext(tmp_path / "m.bin")
    with pytest.raises(DataError, match="found no file"):
        read_fasttext(tmp_path / "absent.bin")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    written(tmp_path)
    whole = (tmp_path / "m.bin").read_bytes()
    (tmp_path / "m.bin").write_bytes(whole[:-4] + struct.pack("<f", np.inf))
    with pytest.raises(DataError, match="finite"):
        read_fasttext(tmp_path / "m.bin")


@pytest.mark.parametrize("broken", [b"", b"no model", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_stored_model_that_is_none_is_refused(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(broken)
    with pytest.raises(DataError, match=r"m\.safetensors"):
        LinearModel.load(tmp_path / "m.safetensors")
    with pytest.raises(DataError):
        LinearModel.load(tmp_path / "absent.safetensors")


@pytest.mark.skipif(
    importlib.util.find_spec("fasttext") is None, reason="the fasttext package is not installed"
)
def test_labels_and_probabilities_equal_the_packages(tmp_path: Path) -> None:
    import fasttext

    lines = [
        "__label__hq Explain why the theorem holds and give a proof",
        "__label__hq How does photosynthesis work step by step",
        "__label__cc buy cheap pills online now free shipping",
        "__label__cc click here login register comments posted",
    ]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    peer = fasttext.train_supervised(
        str(tmp_path / "train.txt"), epoch=25, lr=1.0, wordNgrams=2, dim=8, thread=1, seed=0, verbose=0
    )
    peer.save_model(str(tmp_path / "m.bin"))
    model = read_fasttext(tmp_path / "m.bin")
    documents = ["explain the proof", "buy pills", "", "click here explain", "naïve 中文 step by step"]
    for document, reported in zip(documents, model.reported(texts(documents)), strict=True):
        found = {
            name.removeprefix("__label__"): p for p, name in peer.f.predict(document + "\n", 2, 0.0, "strict")
        }
        assert found == pytest.approx(dict(zip(model.labels, reported, strict=True)), abs=1e-6)
