"""A rater's budget in rounds: rare grades are found, and only the random part measures the student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pool_of import TARGETS, computing, opened, recipe_of, resolve
from prill.corpus.columns import read_columns
from prill.errors import DataError
from prill.features.distilled import Distilled, DistilledGrades
from prill.features.feature import Feature
from prill.features.rated_rounds import RatedRounds
from prill.features.rater.rubric import Rubric, Scale
from prill.features.rating_rounds import NextToLabel, grade_probabilities, rated_in_rounds
from prill.features.ratings import RatedSample
from prill.features.vectors import Vectors
from prill.pipeline.features import Features
from rating_server import RatingServer

RUBRIC = Rubric.model_validate(
    {"name": "shine", "system": "Does it shine?", "scales": [{"name": "shine", "low": 0, "high": 2}]}
)


def documents(n: int = 300) -> list[str]:
    """Nine in ten do not shine; one in twenty shines a little, one in twenty much."""
    rng = np.random.default_rng(0)
    dull = ["stone", "river", "table", "paper", "window", "garden", "letter", "road", "cloud", "chair"]
    grades = [1 if i % 20 == 7 else 2 if i % 20 == 13 else 0 for i in range(n)]
    return [
        " ".join([*rng.choice(dull, 30), *["glitter"] * (9 * grade), f"n{i}"])
        for i, grade in enumerate(grades)
    ]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    folder = tmp_path_factory.mktemp("pool")
    with opened(recipe_of(folder, documents()), folder) as features:
        yield features


@pytest.fixture
def server() -> Iterator[RatingServer]:
    made = RatingServer(lambda message: f"shine: {message.count('glitter') // 9}")
    yield made
    made.close()


def rounds(server: RatingServer, folder: Path, *, n: int = 120, n_rounds: int = 4) -> RatedRounds:
    spec = server.spec()
    return rated_in_rounds(
        RUBRIC,
        spec,
        RatedSample.of(RUBRIC, spec, folder, n_documents=n // n_rounds),
        n_documents=n,
        n_rounds=n_rounds,
        scale="shine",
        vectors=Vectors.of("hashed"),
        threshold=1,
        held_out=0.2,
    )


def test_rare_grades_are_labelled_more_often_than_by_chance(
    server: RatingServer, pool: Features, tmp_path: Path
) -> None:
    rated = rounds(server, tmp_path)
    student = Distilled(ratings=rated, vectors=Vectors.of("hashed"), scales=("shine",), main="shine")
    with computing(pool, tmp_path / "c") as features:
        features.resolve([DistilledGrades.of(student)])
    table = read_columns(features.done[rated].parts[0])
    assert table.num_rows == 120
    assert len(set(table["key"].to_pylist())) == 120  # nothing is labelled twice
    assert len(server.requests) == 120
    is_random = table["is_random"].to_numpy(zero_copy_only=False)
    # The first round, and a fifth of each of the three others: 30 + 3 * 6.
    assert int(is_random.sum()) == 48
    grades = table["shine"].to_numpy()
    # 30 of 300 documents shine. By chance 12 of 120 would be labelled, of the chosen 72 about 7.
    assert int((grades > 0).sum()) >= 20
    assert int((grades[~is_random] > 0).sum()) >= 12
    held = set(read_columns(features.done[student].parts[1])["key"].to_pylist())
    drawn = {key for key, chance in zip(table["key"].to_pylist(), is_random, strict=True) if chance}
    assert held
    assert held <= drawn


def test_rounds_are_the_same_when_they_are_made_again(
    server: RatingServer, pool: Features, tmp_path: Path
) -> None:
    found = []
    for name in ("a", "b"):
        rated = rounds(server, tmp_path, n=80, n_rounds=2)
        with computing(pool, tmp_path / name) as features:
            features.resolve([rated])
        found.append(features.done[rated].parts[0].read_bytes())
    assert found[0] == found[1]


def test_what_chose_says_with_what_probability(server: RatingServer, pool: Features, tmp_path: Path) -> None:
    rated = rounds(server, tmp_path, n=80, n_rounds=2)
    with computing(pool, tmp_path / "c") as features:
        features.resolve([rated])
    (chosen,) = rated.chosen
    assert isinstance(chosen, NextToLabel)
    table = read_columns(features.done[chosen].parts[0])
    is_random = table["is_random"].to_numpy(zero_copy_only=False)
    inclusion = table["inclusion"].to_numpy()
    # 260 candidates; 32 balanced picks are certain, 8 of the other 228 are drawn.
    assert set(inclusion[~is_random]) == {1.0}
    assert inclusion[is_random] == pytest.approx(np.full(8, 8 / 228))
    assert features.done[chosen].record.counts["n_candidates"] == 260


def test_a_pool_that_is_labelled_whole_has_nothing_left(server: RatingServer, tmp_path: Path) -> None:
    asked = rounds(server, tmp_path, n=80, n_rounds=2)
    with pytest.raises(DataError, match="not rated yet, found none"):
        resolve([asked], documents(40), TARGETS, tmp_path)


def test_probabilities_of_grades_add_up_and_peak_at_the_prediction() -> None:
    scale = Scale(name="g", low=1, high=5)
    found = grade_probabilities(np.array([-3.0, 1.2, 3.0, 9.0]), scale, 0.5)
    assert found.sum(axis=1) == pytest.approx(np.ones(4))
    assert found.argmax(axis=1).tolist() == [0, 0, 2, 4]


def test_the_rounds_are_a_graph_of_features(server: RatingServer, tmp_path: Path) -> None:
    rated = rounds(server, tmp_path, n=90, n_rounds=3)
    assert len(rated.rounds) == 3
    assert len(rated.chosen) == 2
    assert [r.n_documents for r in rated.rounds] == [30, 30, 30]
    assert all(isinstance(need, Feature) for need in rated.needs)
    assert len({r.digest for r in rated.rounds}) == 3
