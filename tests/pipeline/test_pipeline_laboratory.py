"""`prill lab`: what methods choose where the right choice is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_study import prill

pytestmark = pytest.mark.slow


def test_dsir_finds_a_single_source_and_not_the_proportions_of_a_blend(tmp_path: Path) -> None:
    """The known failure: a sum over a long document lets the likeliest sources take all."""
    told = prill("lab", tmp_path / "lab", "-m", "dsir", "-m", "fresh_random", "--quiet").stdout
    blend, single = told.split("target single")
    assert "dsir does not find it: its shares are" in blend
    assert "dsir finds the right choice" in single
    for part in (blend, single):
        assert "fresh_random does not find it" in part
        assert "| arm | right sources | decoys |" in part
