"""The recipes that newcomers copy are valid."""

from pathlib import Path

import pytest

from prill.recipe import load_any_recipe

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_valid_recipe(path: Path) -> None:
    assert load_any_recipe(path).name
