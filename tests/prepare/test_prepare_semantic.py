"""Documents that say the same: the published rule against brute force, clusters that never change, models."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from grouped import run_grouping
from pydantic import ValidationError

from prill.corpus.columns import ColumnInfo, write_columns
from prill.errors import DataError
from prill.features.embeddings import Embedder
from prill.prepare.duplicates.kmeans import assign, fit, normalised
from prill.prepare.duplicates.semantic import SemanticDuplicates, SemanticSpec

VOCABULARY = ["".join(random.Random(k).choices("abcdefghijklmnop", k=6)) for k in range(500)]


def semantic(base: Path | None = None, **settings: object) -> SemanticDuplicates:
    return SemanticDuplicates.of(SemanticSpec.model_validate(settings), base)


def article(topic: int, rng: random.Random, n: int = 80) -> str:
    own = VOCABULARY[topic * 40 : topic * 40 + 60]
    return " ".join(rng.choices(own, k=n) + ["the", "of", "and"] * 10)


def by_columns(tmp_path: Path, vectors: np.ndarray, **settings: object) -> Any:
    """Group documents with given vectors, in one shard."""
    values = pa.array(vectors.astype(np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])
    write_columns(
        tmp_path / "mine" / "part-00000.parquet", {"embedding": column}, [ColumnInfo(name="embedding")]
    )
    grouping = semantic(tmp_path, embedding="columns", path="mine", **settings)
    found = run_grouping(grouping, [[f"text {i}" for i in range(len(vectors))]], tmp_path / "run")
    return grouping, found


@pytest.mark.parametrize("keep", ["farthest", "nearest", "first"])
def test_the_published_rule_against_brute_force(tmp_path: Path, keep: str) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(120, 16)) + 1.5
    vectors[60:] = vectors[:60] + rng.normal(scale=0.2, size=(60, 16))
    _, found = by_columns(tmp_path, vectors, clusters=1, keep=keep)
    unit = vectors.astype(np.float32) / np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    centre = unit.sum(axis=0) / np.linalg.norm(unit.sum(axis=0))
    central = np.round(unit @ centre, 4)
    key = {"farthest": central, "nearest": -central, "first": np.zeros(120)}[keep]
    order = np.lexsort((np.arange(120), key))
    expected = np.full(120, -1.0)
    for place, i in enumerate(order[1:], start=1):
        expected[i] = (unit[order[:place]] @ unit[i]).max()
    got = found.tables[0]["semantic_cosine"].to_numpy()
    assert np.isnan(got[order[0]])
    np.testing.assert_allclose(got[order[1:]], expected[order[1:]], atol=2e-4)
    rows = found.column("semantic_row")
    rank = np.argsort(order)
    assert all(rank[rows[i]] < rank[i] for i in order[1:])


def test_epsilon_judges_late_and_one_of_each_pair_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(40, 64))
    vectors[20:] = 3 * vectors[:20]  # the same direction
    grouping, found = by_columns(tmp_path, vectors, clusters=2)
    (verdict,) = grouping.drops(found.tables[0]).values()
    assert verdict.sum() == 20
    assert (verdict[:20] ^ verdict[20:]).all()
    tagged = SemanticDuplicates(spec=grouping.spec.model_copy(update={"action": "tag"}), embedder=None)
    assert tagged.drops(found.tables[0]) == {}
    loose = SemanticDuplicates(spec=grouping.spec.model_copy(update={"epsilon": 1.0}), embedder=None)
    assert loose.drops(found.tables[0])["says the same as another document"].sum() >= 30
    assert loose.policy != grouping.policy


def test_shuffled_words_are_found_among_other_texts_whatever_the_work(tmp_path: Path) -> None:
    rng = random.Random(4)
    documents = [article(i % 10, rng) for i in range(60)]
    for i in range(10):  # the same words with some sentences moved
        words = documents[i].split()
        cut = rng.randrange(20, 60)
        documents.append(" ".join(words[cut:] + words[:cut]))
    documents += ["", "12"]
    shards = [documents[:30], documents[30:50], documents[50:]]
    settings = {"clusters": 4, "keep": "first", "epsilon": 0.1}
    first = run_grouping(semantic(**settings), shards, tmp_path / "a")
    again = run_grouping(semantic(**settings), shards, tmp_path / "b", n_workers=3, memory_bytes=1)
    assert first.tables == again.tables
    cosines = first.column("semantic_cosine")
    (verdict,) = semantic(**settings).drops(pa.concat_tables(first.tables)).values()
    assert verdict[60:70].all()
    assert not verdict[:60].any()
    copied = [
        tuple(first.column(name)[60 + i] for name in ("semantic_shard", "semantic_row")) for i in range(10)
    ]
    assert copied == [(0, i) for i in range(10)]
    assert cosines[70] is None  # no words, no vector
    assert first.column("semantic_cluster")[70] is None


def test_hashed_vectors_go_by_words_of_any_script_and_not_by_case(tmp_path: Path) -> None:
    texts = ["Żółw je Мёд", "żółw, JE мёд!", "x", "żółw je", "", "\n", "żółw je мёдx"]
    vectors = Embedder.of("hashed", n_dimensions=64)(pa.array(texts, pa.large_string()))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not vectors[4:6].any()
    assert (vectors[0] != vectors[6]).any()
    for row in range(len(texts)):  # a document's vector does not depend on its batch
        alone = Embedder.of("hashed", n_dimensions=64)(pa.array(texts, pa.large_string()).slice(row, 1))
        np.testing.assert_array_equal(alone[0], vectors[row])


def test_clusters_of_separate_clouds_are_the_clouds() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(5, 32)
    cloud = np.arange(200) % 5
    vectors = normalised((centres[cloud] + rng.normal(scale=0.03, size=(200, 32))).astype(np.float32))
    which, cosine = assign(vectors, fit(vectors, 5, 10))
    assert len({(a, b) for a, b in zip(cloud.tolist(), which.tolist(), strict=True)}) == 5
    assert cosine.min() > 0.9
    assert fit(vectors[:1], 1, 3).shape == (1, 32)


def test_a_static_model_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "good": 1, "bad": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = np.array([[0, 0], [1, 0], [0, 2]], np.float32)
    with pytest.raises(DataError, match=r"expected model\.safetensors"):
        Embedder.of("static", folder=tmp_path)
    save_file({"embeddings": table}, tmp_path / "model.safetensors")
    embedder = Embedder.of("static", folder=tmp_path)
    vectors = embedder(pa.array(["good bad bad", "bad", ""], pa.large_string()))
    np.testing.assert_allclose(vectors, [[1 / 3, 4 / 3], [0, 2], [0, 0]], rtol=1e-6)
    assert len(embedder.digest) == 64


def test_an_encoder_does_not_depend_on_padding(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"])
    )
    transformers.BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    transformers.BertModel(transformers.BertConfig(vocab_size=7, **sizes)).save_pretrained(tmp_path)
    embedder = Embedder.of("encoder", folder=tmp_path)
    together = embedder(pa.array(["good", "bad good bad good bad"], pa.large_string()))
    alone = embedder(pa.array(["good"], pa.large_string()))
    assert together.shape == (2, 8)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)


def test_wrong_columns_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="`path` goes with"):
        SemanticSpec(embedding="static")
    with pytest.raises(DataError, match="expected a folder"):
        semantic(tmp_path, embedding="columns", path="none")
    with pytest.raises(DataError, match="finite"):
        by_columns(tmp_path, np.array([[1.0, np.nan]]))
