"""Fixtures for whole runs."""

from pathlib import Path

import pytest
from small_study import build_study

from prill.demo.machine_text import MachineDocument, documents


@pytest.fixture(scope="session")
def machine_text() -> list[MachineDocument]:
    """Some text of every source of this Python installation."""
    return documents(120_000)


@pytest.fixture
def study(tmp_path: Path, machine_text: list[MachineDocument]) -> Path:
    """A folder with a pool in two formats, two targets and a recipe; returns the recipe."""
    return build_study(tmp_path / "study", machine_text)
