"""Ratings as features in a real run: samples, caches, budgets, students, labelled files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_of import TARGETS, computing, opened, recipe_of, resolve
from prill.corpus.columns import read_columns, read_infos
from prill.errors import DataError, PrillError, RecipeError, ResourceError
from prill.features.agreement import agreement, rounded_grade, stratified
from prill.features.distilled import Distilled, DistilledGrades
from prill.features.labelled import LabelledFile
from prill.features.rated import rated_by, rates_all, rubric_of
from prill.features.rater.rubric import Rubric, Scale
from prill.features.rater.rules import RulesRater, facts_of
from prill.features.rater.spec import LabelsSpec, RaterSpec, RulesSpec
from prill.features.ratings import RatedSample, Ratings
from prill.features.vectors import Vectors
from prill.pipeline.features import Features
from rating_server import RatingServer, Reply

RUBRIC = Rubric.model_validate(
    {"name": "shine", "system": "Does it shine?", "scales": [{"name": "shine", "low": 0, "high": 4}]}
)
EDU = rubric_of("fineweb_edu", Path())
SHINE = Scale(name="shine", low=0, high=4)


def documents(n: int = 90) -> list[str]:
    """Document i shines i % 5, which its words tell; the last is empty, and one stands there twice."""
    rng = np.random.default_rng(0)
    dull = ["stone", "river", "table", "paper", "window", "garden", "letter", "road", "cloud", "chair"]
    made = []
    for i in range(n - 2):
        words = list(rng.choice(dull, 30)) + ["glitter", "sparkle"] * (3 * (i % 5)) + [f"n{i}"]
        made.append(" ".join(words))
    return [*made, made[3], ""]


def shine_of(message: str) -> str:
    return f"shine: {message.count('glitter') // 3}"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    folder = tmp_path_factory.mktemp("pool")
    with opened(recipe_of(folder, documents()), folder) as features:
        yield features


@pytest.fixture
def features(pool: Features, tmp_path: Path) -> Iterator[Features]:
    with computing(pool, tmp_path / "computed") as found:
        yield found


@pytest.fixture
def server() -> Iterator[RatingServer]:
    made = RatingServer(shine_of)
    yield made
    made.close()


def ratings_of(features: Features, feature: RatedSample) -> Any:
    return read_columns(features.done[feature].parts[0])


def sample(spec: RaterSpec, folder: Path, rubric: Rubric = RUBRIC, n: int = 60) -> RatedSample:
    found = rated_by(rubric, spec, folder, n_documents=n)
    assert isinstance(found, RatedSample)
    return found


def test_a_sample_is_exact_and_each_text_is_rated_once(
    server: RatingServer, tmp_path: Path, features: Features
) -> None:
    feature = sample(server.spec(), tmp_path, n=1_000)
    features.resolve([feature])
    table = ratings_of(features, feature)
    assert table.num_rows == 88  # 90 less the copy and the empty one
    assert len(set(table["key"].to_pylist())) == 88
    counts = features.done[feature].record.counts
    assert (counts["n_rated"], counts["n_unreadable"], counts["n_requests"]) == (88, 0, 88)
    smaller = sample(server.spec(), tmp_path, n=20)
    features.resolve([smaller])
    assert ratings_of(features, smaller).num_rows == 20
    assert len(server.requests) == 88  # the answers of the larger sample are there
    infos = read_infos(features.done[smaller].parts[0])
    assert "graded by m at http://127.0.0.1" in infos["shine"].summary
    assert "first and last halves" in infos["shine"].span


def test_the_sample_is_the_same_however_the_pool_is_cut(server: RatingServer, tmp_path: Path) -> None:
    feature = sample(server.spec(), tmp_path, n=15)
    docs = documents()
    found = []
    for order, name in ((docs, "a"), (docs[45:] + docs[:45], "b")):
        features = resolve([feature], order, TARGETS, tmp_path / name)
        found.append(sorted(ratings_of(features, feature)["key"].to_pylist()))
    assert found[0] == found[1]


def test_nonsense_is_counted_and_set_aside_and_harmless(
    server: RatingServer, tmp_path: Path, features: Features
) -> None:
    server.script = [Reply("<img src=x onerror=alert(1)>" * 500), Reply("shine: 9"), Reply("no idea")]
    feature = sample(server.spec(n_parallel=1), tmp_path)
    features.resolve([feature])
    counts = features.done[feature].record.counts
    assert (counts["n_rated"], counts["n_unreadable"]) == (57, 3)
    assert counts["reasons"] == {"no number for shine": 2, "shine outside 0 to 4": 1}
    aside = features.done[feature].parts[1].read_bytes()
    assert b"<" not in aside
    rows = [orjson.loads(line) for line in aside.splitlines()]
    assert len(rows) == 3
    assert rows[0]["raw"].startswith("<img src=x")
    assert all(len(row["raw"]) <= 2_000 for row in rows)


def test_a_rater_that_only_talks_nonsense_is_an_error(
    server: RatingServer, tmp_path: Path, features: Features
) -> None:
    server.answer = lambda message: "I am a teapot"
    with pytest.raises(DataError) as found:
        features.resolve([sample(server.spec(), tmp_path)])
    assert "none in 20 answers" in str(found.value)  # of 60 documents: the others are not paid for
    assert "I am a teapot" in str(found.value)
    assert "127.0.0.1" in str(found.value)


def test_a_run_that_was_stopped_by_its_budget_goes_on_without_paying_again(
    server: RatingServer, tmp_path: Path, features: Features
) -> None:
    with pytest.raises(RecipeError, match="at least 60 requests"):
        sample(server.spec(max_requests=59), tmp_path)
    with pytest.raises(ResourceError, match="tokens spent before the end"):
        features.resolve([sample(server.spec(max_tokens=1_000, n_parallel=1), tmp_path)])
    n_before = len(server.requests)
    assert 0 < n_before < 60
    feature = sample(server.spec(), tmp_path)
    features.resolve([feature])
    assert len(server.requests) == 60
    counts = features.done[feature].record.counts
    assert counts["n_requests"] == 60 - n_before


def test_every_document_rated_by_an_endpoint_needs_a_budget(
    server: RatingServer, tmp_path: Path, features: Features
) -> None:
    with pytest.raises(RecipeError, match="expected a budget"):
        rates_all(RUBRIC, server.spec(), tmp_path)
    feature = rates_all(RUBRIC, server.spec(max_requests=200), tmp_path)
    features.resolve([feature])
    grades = np.concatenate([read_columns(p)["shine"].to_numpy() for p in features.done[feature].parts])
    expected = [float(i % 5) for i in range(88)] + [3.0, np.nan]
    np.testing.assert_array_equal(grades, expected)
    assert len(server.requests) == 88  # the copy is not paid for


def test_rules_rate_every_document_shard_by_shard(tmp_path: Path, features: Features) -> None:
    feature = rates_all(EDU, RulesSpec(), tmp_path)
    assert isinstance(feature, Ratings)
    assert feature.sample is None
    features.resolve([feature])
    tables = [read_columns(part) for part in features.done[feature].parts]
    assert sum(table.num_rows for table in tables) == 90
    assert tables[-1]["why_not"].to_pylist()[-1] is not None  # the empty document
    assert "stand-in" in read_infos(features.done[feature].parts[0])["edu_score"].summary


def test_a_run_keeps_answers_beside_its_steps(server: RatingServer, tmp_path: Path) -> None:
    feature = sample(server.spec(), tmp_path)
    features = resolve([feature], documents(), TARGETS, tmp_path)
    assert features.done[feature].record.counts["n_requests"] == 60
    resolve([feature], documents(), TARGETS, tmp_path)  # finished: not even opened
    resolve([sample(server.spec(), tmp_path, n=30)], documents(), TARGETS, tmp_path)
    assert len(server.requests) == 60
    assert (tmp_path / "run" / "answers" / "answers-shine.jsonl").is_file()


def test_rules_do_not_know_a_users_rubric(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="rules, which know only"):
        sample(RulesSpec(), tmp_path)


def test_rules_count_what_they_say() -> None:
    # 8 words, 2 sentences, 3 lines of which one is empty and none is repeated.
    facts = facts_of("The cat sat there. It is warm.\n\nTherefore")
    assert facts is not None
    assert (facts.n_words, facts.sentence_words, facts.repeated_lines) == (8, 4.0, 0.0)
    assert facts.connectives == 1 / 8
    assert facts.paragraphs == 1 / 3
    assert facts_of("12 34 !!") is None


@given(st.text(max_size=400))
def test_rules_stay_on_the_scale_whatever_the_text(text: str) -> None:
    for name in ("dataman", "fineweb_edu"):
        asked = rubric_of(name, Path())
        (found,) = RulesRater(asked).rate([text])
        assert (found.scores is None) == (found.why_not == "no text")
        for scale, grade in zip(asked.scales, found.scores or (), strict=False):
            assert scale.low <= grade <= scale.high
            assert grade == int(grade)


def student(ratings: RatedSample | LabelledFile, vectors: Vectors | None, **changes: Any) -> DistilledGrades:
    made = Distilled(ratings=ratings, vectors=vectors, scales=("shine",), main="shine", **changes)
    return DistilledGrades.of(made)


def grades_of(features: Features, feature: DistilledGrades) -> Any:
    return np.concatenate([read_columns(p)["shine"].to_numpy() for p in features.done[feature].parts])


def test_heads_and_n_grams_learn_what_the_rater_says(
    server: RatingServer, tmp_path: Path, features: Features
) -> None:
    ratings = sample(server.spec(), tmp_path, n=70)
    asked = [student(ratings, Vectors.of("hashed")), student(ratings, None, lr=1.0, epochs=30)]
    features.resolve(asked)
    truth = np.array([i % 5 for i in range(88)])
    for feature in asked:
        found = grades_of(features, feature)
        assert np.isnan(found[-1])  # nothing was seen of the empty document
        assert np.corrcoef(found[:88], truth)[0, 1] > 0.9
        counts = features.done[feature.model].record.counts
        assert (counts["n_rated"], counts["n_held_out"]) == (70, 14)
        said = counts["agreement"]["shine"]
        assert said["n"] == 14
        assert said["spearman"] > 0.8
        assert 0 < said["slope"] < 1.3
        pairs = read_columns(features.done[feature.model].parts[1])
        assert pairs.column_names == ["key", "shine", "shine_predicted"]
        assert pairs.num_rows == 14
    assert len(server.requests) == 70  # both students learnt from the same answers


def test_a_student_is_the_same_when_it_is_made_again(
    server: RatingServer, tmp_path: Path, pool: Features
) -> None:
    contents = []
    for name in ("a", "b"):
        feature = student(sample(server.spec(), tmp_path), Vectors.of("hashed"))
        with computing(pool, tmp_path / name) as features:
            features.resolve([feature])
        contents.append([p.read_bytes() for p in features.done[feature].parts])
    assert contents[0] == contents[1]


def test_grades_that_are_all_alike_teach_nothing(
    server: RatingServer, tmp_path: Path, features: Features
) -> None:
    server.answer = lambda message: "shine: 2"
    with pytest.raises(DataError, match="expected different grades to learn from, found 2 for all 60"):
        features.resolve([student(sample(server.spec(), tmp_path), None)])


def test_too_few_rated_documents_say_how_many_would_do(
    server: RatingServer, tmp_path: Path, features: Features
) -> None:
    feature = student(sample(server.spec(), tmp_path, n=12), Vectors.of("hashed"))
    with pytest.raises(DataError, match="at least 20 rated documents to learn from, found 12"):
        features.resolve([feature])


def write_labels(folder: Path, rows: Sequence[Any], name: str = "labels.jsonl") -> LabelsSpec:
    lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
    (folder / name).write_bytes(b"\n".join(lines))
    return LabelsSpec(path=name)


def test_a_labelled_file_teaches_without_a_rater(tmp_path: Path, features: Features) -> None:
    texts = documents(70)[:60]
    rows = [{"text": text, "shine": text.count("glitter") / 3} for text in texts]
    ratings = rated_by(RUBRIC, write_labels(tmp_path, rows), tmp_path, n_documents=0)
    feature = student(ratings, Vectors.of("hashed"))
    features.resolve([feature])
    found = grades_of(features, feature)
    assert np.corrcoef(found[:88], [i % 5 for i in range(88)])[0, 1] > 0.9
    with pytest.raises(RecipeError, match="apply: distil"):
        rates_all(RUBRIC, LabelsSpec(path="labels.jsonl"), tmp_path)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "expected rated documents, found none"),
        ([b"not JSON"], "labels.jsonl:1: expected a JSON object"),
        ([{"text": "a", "shine": 2}, {"text": 3, "shine": 2}], "labels.jsonl:2"),
        ([{"text": "a"}], "expected `shine` from 0 to 4, found None"),
        ([{"text": "a", "shine": 5}], "found 5"),
        ([{"text": "a", "shine": True}], "found True"),
        ([b"[1]"] * 9, "and 4 more lines"),
    ],
)
def test_labels_that_are_none_are_told_by_line(
    tmp_path: Path, rows: Sequence[Any], told: str, features: Features
) -> None:
    spec = write_labels(tmp_path, rows)
    with pytest.raises(DataError) as found:
        features.resolve([rated_by(RUBRIC, spec, tmp_path, n_documents=0)])
    assert told in str(found.value)


def test_a_labelled_file_that_is_not_there_is_told_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(PrillError, match=r"none\.jsonl"):
        rated_by(RUBRIC, LabelsSpec(path="none.jsonl"), tmp_path, n_documents=0)


def test_agreement_by_hand() -> None:
    # target-shrinkage-correction: y = 0..4, predictions 1.2, 1.5, 2.1, 2.4, 2.9: slope .43, intercept 1.16.
    # Rounded: 1, 2, 2, 2, 3 (1.5 to even): right for 2 alone. At 3: true 3, 4; found 4: F1 = 2 / 3.
    # y - p: -1.2, -.5, -.1, .6, 1.1: mean -.02, variance (1.44 + .25 + .01 + .36 + 1.21) / 5 - .02^2.
    y, p = np.arange(5.0), np.array([1.2, 1.5, 2.1, 2.4, 2.9])
    found = agreement(y, p, SHINE, threshold=3)
    assert found["slope"] == pytest.approx(0.43)
    assert found["intercept"] == pytest.approx(1.16)
    assert found["accuracy"] == pytest.approx(1 / 5)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["residual_variance"] == pytest.approx(0.654 - 0.0004)


def test_agreement_without_spread_or_good_ones_says_none() -> None:
    found = agreement(np.ones(4), np.array([0.9, 1.1, np.nan, 1.0]), SHINE, threshold=3)
    assert (found["n"], found["slope"], found["f1"]) == (3, None, None)
    assert agreement(np.ones(1), np.ones(1), SHINE, threshold=3) == {"n": 1}


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=200),
    st.floats(0.05, 0.5),
    st.integers(0, 2**32),
)
def test_a_share_of_every_grade_is_kept_back(grades: list[int], share: float, seed: int) -> None:
    keys = np.random.default_rng(seed).integers(0, 2**63, len(grades), dtype=np.uint64)
    values = np.array(grades, np.float64)
    held = stratified(values, keys, share, seed)
    for grade in range(5):
        n = int((values == grade).sum())
        assert int(held[values == grade].sum()) == round(share * n)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=50))
def test_rounding_is_pythons(raw: list[float]) -> None:
    found = rounded_grade(np.array(raw), Scale(name="g", low=0, high=5))
    assert found.tolist() == [float(round(max(0, min(x, 5)))) for x in raw]
