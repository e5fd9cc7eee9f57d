"""The graph of features: each computed once, needs before users, and again only when it must be."""

from collections import Counter
from pathlib import Path

import numpy as np
from toy_features import Lengths, Model, Scaled

from pool_of import opened, recipe_of
from prill.corpus.columns import read_columns
from prill.engine.local import LocalEngine
from prill.pipeline.arms import uses
from prill.pipeline.features import closure

TEXTS = ["one", "two words", "three", "four and more", "five"]
TARGETS = {"a": ["x", "y", "z"], "b": ["p", "q", "r"]}


def marks(folder: Path) -> Counter[str]:
    path = folder / "marks"
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


def test_a_shared_need_is_computed_once_and_found_again(tmp_path: Path) -> None:
    small, large = Model(size=2, marks=tmp_path), Model(size=3, marks=tmp_path)
    asked = [Scaled(models=(small,), marks=tmp_path), Scaled(models=(small, large), marks=tmp_path)]
    recipe = recipe_of(tmp_path, TEXTS, TARGETS)
    for _ in range(2):  # the second session finds everything
        with opened(recipe, tmp_path) as features:
            features.resolve(asked)
            parts = [
                np.concatenate([read_columns(p)["value"] for p in features.done[f].parts]) for f in asked
            ]
            assert [features.flops(f) for f in (small, large, asked[0])] == [20.0, 30.0, 7.0]
        np.testing.assert_array_equal(parts[0], [2 * len(text) for text in TEXTS])
        np.testing.assert_array_equal(parts[1], [5 * len(text) for text in TEXTS])
        assert marks(tmp_path) == {"model-2": 1, "model-3": 1, "scaled": 4}  # two features, two shards


def test_models_that_are_ready_are_built_side_by_side_in_other_processes(tmp_path: Path) -> None:
    import os

    models = [Model(size=size, marks=tmp_path) for size in (1, 2)]
    recipe = recipe_of(tmp_path, TEXTS, TARGETS)
    with opened(recipe, tmp_path, engine=LocalEngine(2)) as features:
        features.resolve(models)
    processes = {int(line.split()[1]) for line in (tmp_path / "marks").read_text().splitlines()}
    assert os.getpid() not in processes


def test_a_lost_part_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    model = Model(size=2, marks=tmp_path)
    asked = Scaled(models=(model,), marks=tmp_path)
    recipe = recipe_of(tmp_path, TEXTS, TARGETS)
    with opened(recipe, tmp_path) as features:
        features.resolve([asked])
        before = [part.read_bytes() for part in features.done[asked].parts]
        features.done[asked].parts[1].unlink()
    with opened(recipe, tmp_path) as features:
        features.resolve([asked])
        assert [part.read_bytes() for part in features.done[asked].parts] == before
    assert marks(tmp_path) == {"model-2": 1, "scaled": 3}


def test_another_target_changes_what_reads_it_and_leaves_texts_alone(tmp_path: Path) -> None:
    reads = Model(size=1, targets=("a",), marks=tmp_path)
    texts = Lengths(marks=tmp_path)
    for sample in (["x", "y", "z"], ["x", "y", "z", "new"]):
        recipe = recipe_of(tmp_path, TEXTS, {**TARGETS, "a": sample})
        with opened(recipe, tmp_path) as features:
            features.resolve([reads, texts])
    assert marks(tmp_path) == {"model-1": 2, "lengths": 2}  # two shards, once


def test_names_settings_and_digests(tmp_path: Path) -> None:
    small = Model(size=2, marks=tmp_path)
    elsewhere = Model(size=2, marks=tmp_path / "elsewhere")
    assert small == elsewhere  # a path decides nothing
    assert small.name == elsewhere.name
    assert small.settings == {"size": 2}
    assert (
        len(
            {
                small.name,
                Model(size=3, marks=tmp_path).name,
                Model(size=2, targets=("a",), marks=tmp_path).name,
            }
        )
        == 3
    )
    scaled = Scaled(models=(small, Model(size=3, marks=tmp_path)), marks=tmp_path)
    assert [depth for depth, _ in closure([scaled, small])] == [0, 0, 1]


def test_the_trace_names_every_user() -> None:
    from prill.methods.scored import scored

    asked = {
        name: scored("dsir", {"length": length}, ["t"], Path())
        for name, length in (("x", "mean"), ("y", "sum"))
    }
    ngrams, *_ = uses(asked)
    assert ngrams.arms == ("x", "y")
    assert len(uses(asked)) == 5  # counts once; a fit and scores for each
