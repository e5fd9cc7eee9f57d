"""Methods are found by name, tell a near name, and describe themselves."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pool_of import run_method
from prill.errors import RecipeError
from prill.features.keyed import keyed_uniform
from prill.features.ngrams import hash_documents
from prill.methods.registry import describe, get_method, list_methods, overview


def test_every_method_is_found_and_tells_all_about_itself() -> None:
    assert {"dsir", "random"} <= set(list_methods())
    for name in list_methods():
        cls = get_method(name)
        assert cls.info.name == name
        assert all(vars(cls.info).values())
        assert cls.version >= 1
        assert cls.operations_per_byte >= 0
        assert "kind" in cls.default_policy
        if not cls.needs_settings:
            assert cls(cls.Settings()).columns(["t"])[0].name == "t"
        for field_name, field in cls.Settings.model_fields.items():
            assert field.description, (name, field_name)
        page = describe(name)
        assert cls.info.formula.splitlines()[0] in page
        assert all(field_name in page for field_name in cls.Settings.model_fields)
        assert name in overview()


def test_unknown_name_suggests_the_near_one() -> None:
    with pytest.raises(RecipeError, match="did you mean 'dsir'"):
        get_method("dsri")


def test_settings_refuse_unknown_keys() -> None:
    for name in list_methods():
        with pytest.raises(ValidationError, match="extra"):
            get_method(name).Settings.model_validate({"no_such_setting": 1})


def test_random_scores_are_the_keyed_draws_for_every_target(tmp_path: Path) -> None:
    texts = ["one", "two", "three", "four", "five"]
    scores = run_method("random", texts, {"a": texts[:2], "b": texts[3:]}, {"seed": 3}, tmp_path)
    assert list(scores) == ["a", "b"]
    keys = hash_documents(pa.array(texts, pa.large_string()))[1]
    for column in scores.values():
        np.testing.assert_array_equal(column, keyed_uniform(3, keys))


def test_listing_methods_compiles_nothing() -> None:
    import subprocess

    code = (
        "import sys; from prill.methods.registry import overview as f; f(); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
