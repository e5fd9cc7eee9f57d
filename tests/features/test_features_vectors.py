"""Vectors of the pool: windows, storage, the three levels, folders that cannot be used."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from made_text import texts
from pool_of import opened, recipe_of
from prill.corpus.columns import read_infos
from prill.errors import DataError
from prill.features import embeddings
from prill.features.embeddings import Embedder
from prill.features.feature import Given
from prill.features.text_hash import hash_documents
from prill.features.vectors import TargetVectors, Vectors
from prill.features.windows import byte_windows, window_span, windows

DOCUMENTS = ["the cat sat on the mat", "", "  \n", "gradients of a loss " * 400, "naïve café ünïcode " * 200]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (400, [(0, 400)]),
        (512, [(0, 512)]),
        (600, [(0, 512), (44, 556), (88, 600)]),
        (1300, [(0, 512), (394, 906), (788, 1300)]),
    ],
)
def test_windows_are_where_the_card_has_them(n: int, expected: list[tuple[int, int]]) -> None:
    assert windows(n, 512) == expected


@given(st.integers(0, 5000), st.integers(1, 700))
def test_windows_lie_inside_and_mirror(n: int, width: int) -> None:
    found = windows(n, width)
    assert all(0 <= a <= b <= n and b - a == min(n, width) for a, b in found)
    assert (found[0][0], found[-1][1]) == (0, n)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.integers(4, 20))
def test_byte_windows_hold_whole_characters_of_the_document(documents: list[str], width: int) -> None:
    documents = [document.encode("utf-8", "ignore").decode() for document in documents]
    text = texts(["before", *documents]).slice(1)
    found, n_windows = byte_windows(text, width, is_head=False)
    for d, document in enumerate(documents):
        size = len(document.encode())
        assert n_windows[d] == (0 if size == 0 else 1 if size <= width else 3)
        for w, (a, b) in enumerate(windows(size, width)):
            piece = found[w][d].as_py()
            assert piece in document
            assert b - a - 6 <= len(piece.encode()) <= b - a
    head, _ = byte_windows(text, width, is_head=True)
    assert head[0].equals(found[0])


def test_text_outside_the_windows_changes_nothing() -> None:
    vectors = Vectors.of("hashed", window="three", n_tokens=16)  # 64 bytes
    one = "top " * 16 + "a" * 40 + "mid " * 16 + "b" * 40 + "end " * 16
    other = one.replace("a" * 40, "x" * 40).replace("b" * 40, "y" * 40)
    first, n_windows = vectors.embed(texts([one, other]))
    np.testing.assert_array_equal(first[0], first[1])
    assert n_windows.tolist() == [3, 3]
    head, _ = Vectors.of("hashed", window="head", n_tokens=16).embed(texts([one, one[:64]]))
    np.testing.assert_array_equal(head[0], head[1])


def stored(vectors: Vectors, folder: Path, *, shards: int) -> tuple[np.ndarray, np.ndarray, list[Path]]:
    with opened(recipe_of(folder, DOCUMENTS, shards=shards), folder) as features:
        features.resolve([vectors])
        told = replace(features.given(vectors), parts={vectors: features.done[vectors].parts})
        rows = [rows for shard in range(shards) for rows in vectors.stored(told, shard)]
    parts = list(features.done[vectors].parts)
    return np.concatenate([r.vectors for r in rows]), np.concatenate([r.n_windows for r in rows]), parts


@pytest.mark.parametrize(("storage", "shards"), [("float16", 2), ("float32", 1)])
def test_stored_vectors_are_those_of_the_texts_whatever_the_shards(
    tmp_path: Path, storage: Literal["float16", "float32"], shards: int
) -> None:
    vectors = Vectors.of("hashed", n_dimensions=64, window="three", n_tokens=64, storage=storage)
    found, n_windows, parts = stored(vectors, tmp_path, shards=shards)
    expected, n_expected = vectors.embed(texts(DOCUMENTS))
    np.testing.assert_array_equal(found, expected)
    assert n_windows.tolist() == n_expected.tolist() == [1, 0, 1, 3, 3]
    lengths = np.linalg.norm(found.astype(np.float64), axis=2)
    has_words = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1]])
    np.testing.assert_allclose(lengths, has_words, atol=1e-3)
    info = read_infos(parts[0])["vector_middle"]
    assert info.span == "middle window of 256 bytes each at top, middle and bottom"
    assert read_infos(parts[0])["n_windows"].version == vectors.version
    told_of_damage(vectors, parts)


def told_of_damage(vectors: Vectors, parts: list[Path]) -> None:
    content = bytearray(parts[0].read_bytes())
    content[len(content) // 2] ^= 0xFF
    parts[0].write_bytes(content)
    view = Given(pool=None, targets={}, seed=0, parts={vectors: tuple(parts)})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected a whole file of vectors, found damage"):
        list(vectors.stored(view, 0))


def test_target_vectors_are_the_pools_and_keyed_by_text(tmp_path: Path) -> None:
    vectors = Vectors.of("hashed", n_dimensions=64)
    feature = TargetVectors(of_pool=vectors, targets=("t",))
    documents = ["alpha beta", "", "gamma delta epsilon"]
    view = Given(pool=None, targets={"t": texts(documents)}, seed=0, parts={})  # type: ignore[arg-type]
    path = tmp_path / "vectors.safetensors"
    assert feature.build(view, [path]) == {"documents": 3, "without_text": 1}
    found = feature.read(replace(view, parts={feature: (path,)}))
    np.testing.assert_array_equal(found.vectors, vectors.embed(texts(documents))[0])
    np.testing.assert_array_equal(found.key, hash_documents(texts(documents))[1])
    assert feature.needs == ()
    assert feature.digest != replace(feature, of_pool=Vectors.of("hashed", n_dimensions=128)).digest


def test_features_of_different_models_differ_and_folders_do_not_count(tmp_path: Path) -> None:
    one = Vectors(embedding="static", model="a", folder=tmp_path)
    assert one == replace(one, folder=tmp_path / "moved")
    assert one.digest == replace(one, folder=tmp_path / "moved").digest
    assert one.digest != replace(one, model="b").digest
    assert one.label == "vectors of token vectors"


def test_spans_are_told_in_words() -> None:
    assert window_span("whole", 512, in_bytes=False) == "whole document"
    assert window_span("head", 512, in_bytes=True) == "first 2,048 bytes"
    assert window_span("three", 512, in_bytes=False) == "512 tokens each at top, middle and bottom"


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 4, "bad": 5}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    tokenizer.save(str(folder / "tokenizer.json"))


def test_windows_of_token_vectors_count_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    save_file({"embeddings": np.eye(6, dtype=np.float32)}, tmp_path / "model.safetensors")
    vectors = Vectors.of("static", window="three", n_tokens=2, folder=tmp_path, storage="float32")
    assert vectors.n_dimensions == 6
    found, n_windows = vectors.embed(texts(["good good bad bad", "bad", ""]))
    assert n_windows.tolist() == [3, 1, 0]
    good, bad = np.eye(6)[4], np.eye(6)[5]
    np.testing.assert_allclose(found[0], [good, (good + bad) / np.sqrt(2), bad], atol=1e-6)
    np.testing.assert_allclose(found[1], [bad, 0 * bad, 0 * bad], atol=1e-6)
    assert vectors.embedder.n_parameters == 36


def test_a_huge_document_keeps_its_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokenizer(tmp_path)
    save_file({"embeddings": np.eye(6, dtype=np.float32)}, tmp_path / "model.safetensors")
    vectors = Vectors.of("static", window="three", n_tokens=2, folder=tmp_path, storage="float32")
    document = texts(["good " * 500 + "bad " * 500 + "good " * 500])
    exact, _ = vectors.embed(document)
    monkeypatch.setattr(embeddings, "_MAX_WINDOWED", 300)
    shortened, n_windows = vectors.embed(document)
    np.testing.assert_array_equal(shortened, exact)
    assert n_windows.tolist() == [3]


def test_weights_that_are_not_numbers_are_told(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    save_file({"embeddings": np.full((6, 2), np.nan, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="expected finite vectors"):
        Vectors.of("static", folder=tmp_path).embed(texts(["good"]))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    write_tokenizer(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=6, max_position_embeddings=10, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_an_encoder_sees_windows_alike_alone_or_together(encoder: Path) -> None:
    vectors = Vectors.of("encoder", window="three", n_tokens=512, folder=encoder)
    long = " ".join(["good"] * 8 + ["bad"] * 8 + ["good bad"] * 4)
    together, n_windows = vectors.embed(texts([long, "good", "", long]))
    assert n_windows.tolist() == [3, 1, 0, 3]
    alone, _ = vectors.embed(texts([" ".join(["good"] * 8)]))  # 8 places beside the special tokens
    np.testing.assert_allclose(together[0, 0], alone[0, 0], atol=1e-3)
    assert not together[2].any()
    assert np.abs(together[0, 0] - together[0, 2]).max() > 1e-2


def test_text_beyond_the_head_and_special_words_change_nothing(encoder: Path) -> None:
    head = Vectors.of("encoder", window="head", folder=encoder)
    found, _ = head.embed(texts(["bad " * 8, "bad " * 8 + "good " * 50]))
    np.testing.assert_array_equal(found[0], found[1])
    ids = Embedder.of("encoder", folder=encoder)._model().tokens(["good [SEP] bad"])[0]
    assert 3 not in ids


def test_pooling_is_what_the_folder_says_unless_asked(encoder: Path, tmp_path: Path) -> None:
    assert Vectors.of("encoder", folder=encoder).pooling == "mean"
    first = Vectors.of("encoder", folder=encoder, pooling="first")
    assert np.abs(first.embed(texts(["good bad"]))[0]).max() > 0
    for path in encoder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    told = Vectors.of("encoder", folder=tmp_path)
    assert told == first


def test_an_encoder_that_brings_code_is_refused_by_name(encoder: Path, tmp_path: Path) -> None:
    for path in encoder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own_bert", "auto_map": {"AutoModel": "modeling.OwnBert"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="'own_bert', which brings code of its own; that is never run"):
        Vectors.of("encoder", folder=tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(DataError, match="expected a JSON object"):
        Vectors.of("encoder", folder=tmp_path)


def test_an_encoder_without_its_tensors_is_told(encoder: Path, tmp_path: Path) -> None:
    for path in encoder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file({"other": np.zeros(2, np.float32)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"expected the tensor embeddings\.LayerNorm"):
        Vectors.of("encoder", folder=tmp_path).embed(texts(["good"]))


@settings(max_examples=20)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.integers(0, 5))
def test_a_vector_does_not_depend_on_its_batch(documents: list[str], row: int) -> None:
    documents = [document.encode("utf-8", "ignore").decode() for document in documents]
    row %= len(documents)
    vectors = Vectors.of("hashed", n_dimensions=32, window="three", n_tokens=2)
    together, _ = vectors.embed(texts(documents))
    alone, _ = vectors.embed(texts(documents[row : row + 1]))
    np.testing.assert_array_equal(together[row], alone[0])
