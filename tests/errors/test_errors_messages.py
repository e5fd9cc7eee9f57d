"""One error type for users: whole across processes, harmless in a terminal, with near names."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError, PrillError, Problem, RecipeError, ResourceError, near, printable, told_of


def test_an_error_says_where_what_and_what_to_do() -> None:
    error = DataError("`text` must be a string, found null", where="a.parquet, row 4", hint="drop it")
    assert str(error) == "a.parquet, row 4: `text` must be a string, found null\nhint: drop it"


@pytest.mark.parametrize(("kind", "code"), [(RecipeError, 2), (DataError, 3), (ResourceError, 4)])
def test_the_class_says_who_must_act(kind: type[PrillError], code: int) -> None:
    assert kind("x").exit_code == code


def test_several_problems_cross_a_process_boundary_whole() -> None:
    error = RecipeError.of([Problem(message="one", where="a:1"), Problem(message="two", hint="mend it")])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is RecipeError
    assert copy.problems == error.problems
    assert str(copy) == "a:1: one\ntwo\nhint: mend it"


@given(st.text())
def test_printable_text_has_no_control_character_and_is_short(text: str) -> None:
    shown = printable(text, limit=50)
    assert shown.isprintable()
    assert printable("") == ""


def test_near_names_are_suggested_and_far_ones_listed() -> None:
    assert near("disr", ["dsir", "random"]) == "did you mean 'dsir'?"
    assert near("zzz", ["dsir", "random"]) == "known: dsir, random"


def test_errors_raised_within_say_whose_they_are() -> None:
    with pytest.raises(DataError) as caught, told_of("arm `a`"):
        raise DataError.of([Problem(message="x", where="shard 0"), Problem(message="y", hint="z")])
    assert str(caught.value) == "arm `a`, shard 0: x\narm `a`: y\nhint: z"
