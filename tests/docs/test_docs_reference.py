"""The pages made from the code are those that are committed."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "maker"),
    [
        ("recipe.md", "recipe_page"),
        ("methods.md", "methods_page"),
        ("objectives.md", "objectives_page"),
    ],
)
def test_generated_pages_are_current(page: str, maker: str) -> None:
    made = runpy.run_path(str(DOCS / "make_reference.py"))[maker]()
    assert (DOCS / page).read_text(encoding="utf-8") == made, "run `make docs`"
