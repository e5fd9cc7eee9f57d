"""The laboratory as files: the same for a seed, blind to its sources, and choices judged exactly."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from prill.errors import DataError, RecipeError
from prill.recipe import load_recipe
from prill.study.laboratory.judging import judge_laboratory, verdict_table
from prill.study.laboratory.writing import Laboratory, words, write_laboratory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return write_laboratory(tmp_path_factory.mktemp("lab"), size="small", seed=0)


@pytest.fixture(scope="module")
def truth(lab: Laboratory) -> dict[str, np.ndarray]:
    table = pq.read_table(lab.folder / "truth" / "documents.parquet")
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def chosen_of(truth: dict[str, np.ndarray], shares: dict[int, float]) -> set[str]:
    """Documents of each source in proportion, as many as the scarcest allows."""
    found: set[str] = set()
    have = {k: truth["n_symbols"][truth["source"] == k].sum() for k in shares}
    size = min(have[k] / share for k, share in shares.items())
    for k, share in shares.items():
        rows = np.flatnonzero(truth["source"] == k)
        n_fit = int((np.cumsum(truth["n_symbols"][rows]) <= share * size).sum())
        found |= set(truth["id"][rows[:n_fit]].tolist())
    return found


def test_the_files_depend_on_the_seed_alone(lab: Laboratory, tmp_path: Path) -> None:
    write_laboratory(tmp_path / "again", size="small", seed=0)
    write_laboratory(tmp_path / "other", size="small", seed=1)
    assert hashes(tmp_path / "again") == hashes(lab.folder)
    assert hashes(tmp_path / "other") != hashes(lab.folder)


def test_the_pool_tells_nothing_of_sources(lab: Laboratory, truth: dict[str, np.ndarray]) -> None:
    tables = [pq.read_table(path) for path in sorted((lab.folder / "pool").glob("*.parquet"))]
    assert all(table.column_names == ["id", "text"] for table in tables)
    ids = [name for table in tables for name in table["id"].to_pylist()]
    assert ids == truth["id"].tolist()
    # neither position nor id goes with the source: correlation within five standard errors of 0
    place = np.arange(len(ids))
    correlation = np.corrcoef(place, truth["source"])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(len(ids))


def test_the_pool_is_as_large_as_told_and_every_source_as_large_as_another(
    lab: Laboratory, truth: dict[str, np.ndarray]
) -> None:
    assert lab.n_documents == len(truth["id"])
    assert lab.n_symbols == truth["n_symbols"].sum()
    assert lab.n_symbols == pytest.approx(300_000, rel=0.05)
    sizes = np.bincount(truth["source"], truth["n_symbols"])
    assert len(sizes) == 15
    assert sizes.min() > 0.6 * sizes.max()
    copies = truth["source"] == 13
    assert np.bincount(truth["original"][copies])[np.unique(truth["original"][copies])].tolist() == [
        20,
        20,
        20,
    ]
    assert len(np.unique(truth["original"][~copies])) == (~copies).sum()


def test_copies_have_equal_texts_and_documents_as_many_words_as_the_truth_says(
    lab: Laboratory, truth: dict[str, np.ndarray]
) -> None:
    texts = [
        text
        for path in sorted((lab.folder / "pool").glob("*.parquet"))
        for text in pq.read_table(path)["text"].to_pylist()
    ]
    assert [len(text.split()) for text in texts] == truth["n_symbols"].tolist()
    assert all(texts[i] == texts[j] for i, j in enumerate(truth["original"].tolist()))
    vocabulary = set(words(64))
    assert {word for text in texts for word in text.split()} == vocabulary
    assert {len(word) for word in vocabulary} == {3}
    assert all(64 <= n <= 512 for n in truth["n_symbols"])


def test_members_are_the_documents_of_right_sources(lab: Laboratory, truth: dict[str, np.ndarray]) -> None:
    known = orjson.loads((lab.folder / "truth" / "truth.json").read_bytes())["targets"]
    for name, target in known.items():
        members = orjson.loads((lab.folder / "truth" / f"{name}.json").read_bytes())
        is_right = np.array(target["right"])[truth["source"]] > 0
        assert members == truth["id"][is_right].tolist()
        assert target["regret_of_equal_shares_nats"] > 0.2
        lines = (lab.folder / "targets" / f"{name}.jsonl").read_bytes().splitlines()
        assert len(lines) == 120
        assert set(orjson.loads(lines[0])) == {"text"}


def test_the_recipe_is_valid_and_its_budgets_can_be_met_by_the_right_shares(lab: Laboratory) -> None:
    recipe = load_recipe(lab.recipe)
    assert recipe.duplicates == "keep"
    assert [arm.method for arm in recipe.arms] == ["dsir", "fresh_random"]
    known = orjson.loads((lab.folder / "truth" / "truth.json").read_bytes())["targets"]
    for name, target in known.items():
        budget = recipe.budget_of(name)
        assert max(target["right"]) * budget.amount < 1 / 15
        assert budget.unit == "fraction"


def test_verdicts_know_the_right_choice_and_what_is_wrong_with_others(
    lab: Laboratory, truth: dict[str, np.ndarray]
) -> None:
    chosen = {
        "right": chosen_of(truth, {0: 0.4, 1: 0.25, 3: 0.2, 6: 0.15}),
        "one": chosen_of(truth, {0: 1.0}),
        "corrupted": chosen_of(truth, {14: 1.0}),
        "copies": chosen_of(truth, {13: 0.4, 1: 0.25, 3: 0.2, 6: 0.15}),
        "everything": set(truth["id"].tolist()),
    }
    found = {verdict.arm: verdict for verdict in judge_laboratory(lab.folder, chosen)}
    assert list(found) == list(chosen)
    right = found["right"]
    assert right.finds_it
    assert right.precision == 1
    assert right.distance < 0.02
    assert right.regret_nats < 0.002
    assert right.sentence == "right finds the right choice"
    one = found["one"]
    assert one.distance == pytest.approx(0.6)
    assert (one.precision, one.decoy_share) == (1, 0)
    assert not one.beats_random  # one source alone says nothing of the pairs of the others
    assert "0.60 from the best" in one.sentence
    corrupted = found["corrupted"]
    assert (corrupted.decoy_share, corrupted.precision) == (1, 0)
    assert corrupted.beats_random
    assert not corrupted.finds_it
    assert "though it beats random" in corrupted.sentence
    copies = found["copies"]
    assert copies.regret_nats < 0.002  # the same chain: only the copies give it away
    assert not copies.avoids_decoys
    assert copies.repeated_share > 0.2
    everything = found["everything"]
    assert everything.regret_nats == pytest.approx(everything.random_regret_nats, abs=1e-12)
    assert not everything.beats_random
    assert right.random_regret_nats > everything.random_regret_nats  # fewer words, further off by chance
    table = verdict_table(list(found.values()))
    assert table.splitlines()[2].startswith("| right | 100.0% | 0.0% |")
    assert table.count("| yes |") == 1


def test_the_single_source_is_judged_by_its_own_truth(lab: Laboratory, truth: dict[str, np.ndarray]) -> None:
    chosen = {"it": chosen_of(truth, {11: 1.0}), "blend": chosen_of(truth, {0: 0.6, 1: 0.4})}
    it, blend = judge_laboratory(lab.folder, chosen, target="single")
    assert it.finds_it
    assert it.regret_nats == pytest.approx(0, abs=1e-12)
    assert blend.precision == 0


def test_what_cannot_be_judged_is_named(lab: Laboratory, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nowhere"):
        judge_laboratory(lab.folder, {"x": ["nowhere"]})
    with pytest.raises(DataError, match="arm `x`: expected ids of the pool, found none"):
        judge_laboratory(lab.folder, {"x": []})
    with pytest.raises(DataError, match="expected a laboratory, found none"):
        judge_laboratory(tmp_path, {"x": ["d0000001"]})
    with pytest.raises(DataError, match="found 'mixed'"):
        judge_laboratory(lab.folder, {"x": ["d0000001"]}, target="mixed")
    with pytest.raises(RecipeError, match="found 'huge'"):
        write_laboratory(tmp_path, size="huge")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="found 2000"):
        words(2000)
