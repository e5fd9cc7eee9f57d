"""One pool for all tests of methods that train small models: they share what they ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from made_text import KINDS, documents
from pool_of import opened, recipe_of
from prill.pipeline.features import Features


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    """Documents as `KINDS` says, and a target of each of the kinds `a` and `b`."""
    pool = [
        *documents(60, seed=1),
        *documents(60, seed=2, kind="b"),
        *documents(20, seed=5, kind="noise"),
        "two words",
        "",
    ]
    assert len(pool) == len(KINDS)
    folder = tmp_path_factory.mktemp("kinds")
    targets = {"a": documents(40, seed=4), "b": documents(40, seed=3, kind="b")}
    with opened(recipe_of(folder, pool, targets), folder) as features:
        yield features
