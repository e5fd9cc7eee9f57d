"""A fixture for tests of small models: runs of `pool_of` stay in this process, with one thread of torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inline_engine import InlineEngine

import pool_of

__all__ = ["inline"]


@pytest.fixture(scope="module", autouse=True)
def inline() -> Iterator[None]:
    """Importing it into a module is enough."""
    torch = pytest.importorskip("torch")
    before, threads = pool_of.LocalEngine, torch.get_num_threads()
    torch.set_num_threads(1)
    pool_of.LocalEngine = InlineEngine  # type: ignore[misc]
    yield
    pool_of.LocalEngine = before  # type: ignore[misc]
    torch.set_num_threads(threads)
