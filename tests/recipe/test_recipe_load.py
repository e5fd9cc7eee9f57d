"""A recipe is checked whole, and every problem is told with its place."""

import json
from pathlib import Path

import jsonschema
import pytest

from prill.errors import RecipeError
from prill.recipe import PrepareRecipe, json_schema
from prill.recipe.load import load_any_recipe, load_recipe, parse_preparation, parse_recipe
from prill.recipe.quantity import parse_amount

GOOD = """
corpus: {paths: [a.parquet]}
targets:
  prose: {paths: [prose.jsonl]}
budget: 5%
"""

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def problems_of(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, name="r.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_short_recipe_gets_defaults() -> None:
    recipe = parse_recipe(GOOD, name="r.yaml")
    assert recipe.arms[0].method == "dsir"
    assert recipe.trials is not None
    assert recipe.trials.tokens == 500_000
    assert str(recipe.budget) == "5% of the eligible tokens"


def test_all_problems_are_told_at_once_with_line_and_near_name() -> None:
    told = problems_of(GOOD + "tirals: {}\nseed: -1\narms: [{method: disr}]\n")
    assert len(told) == 3
    assert any(
        t.startswith("r.yaml:6:1 (tirals): unknown key `tirals`") and "did you mean 'trials'?" in t
        for t in told
    )
    assert any("r.yaml:7:1 (seed)" in t for t in told)
    assert any("r.yaml:8:" in t and "did you mean 'dsir'?" in t for t in told)


def test_an_unknown_nested_key_names_its_neighbours() -> None:
    (told,) = problems_of(GOOD + "trials: {sedes: 3}\n")
    assert "did you mean 'seeds'?" in told


def test_an_unknown_target_key_is_found_below_a_free_name() -> None:
    (told,) = problems_of(GOOD.replace("{paths: [prose.jsonl]}", "{paths: [p], helt_out: 0.5}"))
    assert "did you mean 'held_out'?" in told


@pytest.mark.parametrize("budget", ["0", "-5%", "120%", "lots", "5 apples", "[]", "null"])
def test_an_impossible_budget_is_refused(budget: str) -> None:
    told = problems_of(GOOD.replace("5%", budget))
    assert all("r.yaml:5" in t for t in told)


def test_method_settings_are_checked_before_anything_runs() -> None:
    (told,) = problems_of(GOOD + "arms: [{method: dsir, settings: {n_bukets: 5}}]\n")
    assert "n_bukets" in told


def test_the_control_cannot_be_named_as_an_arm() -> None:
    (told,) = problems_of(GOOD + "arms: [{method: random}]\n")
    assert "compulsory control" in told


def test_two_arms_of_one_method_need_names() -> None:
    (told,) = problems_of(GOOD + "arms: [{method: dsir}, {method: dsir}]\n")
    assert "different names" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "second time"),
        ("a: [1\n", "valid YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "plain data"),
        ("a: !!binary aGk=\n", "plain data"),
        ("a: &x [*x]\n", "values expected"),
        ("? [1]\n: 2\n", "a key must be a word"),
        ("- 1\n", "a mapping"),
        ("", "a mapping"),
        ("a: " + "[" * 100 + "]" * 100, "levels"),
        ("x" * 1_000_001, "bytes expected"),
        (
            "a: &a [1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"b{i}: &b{i} [{','.join(['*' + ('a' if i == 0 else f'b{i - 1}')] * 9)}]\n" for i in range(9)
            ),
            "values expected",
        ),
        ("a: 1\n---\nb: 2\n", "valid YAML"),
        ("a: \x01\n", "valid YAML"),
    ],
)
def test_hostile_yaml_is_one_clear_error(text: str, said: str) -> None:
    assert said in problems_of(text)[0]


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="prill demo"):
        load_recipe(tmp_path / "none.yaml")


def test_a_recipe_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid_and_fit_the_published_schema(path: Path) -> None:
    import yaml

    recipe = load_any_recipe(path)
    assert isinstance(recipe, PrepareRecipe) == path.stem.startswith("prepare")
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema(type(recipe)))


def test_a_preparation_needs_a_corpus_only_and_tells_all_problems() -> None:
    made = parse_preparation("corpus: {paths: [a.parquet]}", name="p.yaml")
    assert made.prepare.near is not None
    assert made.prepare.contamination is None
    with pytest.raises(RecipeError) as caught:
        parse_preparation(
            "corpus: {paths: [a]}\nprepare:\n  near: {bandz: 3}\n  rules: {presets: [c5]}\n", name="p.yaml"
        )
    rules, near = sorted(str(problem) for problem in caught.value.problems)[::-1]
    assert near.startswith("p.yaml:3:")
    assert "unknown key `bandz`" in near
    assert "did you mean 'bands'?" in near
    assert "found 'c5'" in rules


def test_the_schema_describes_every_field() -> None:
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]
    lacking = [
        f"{model.get('title')}.{name}"
        for model in models
        for name, field in model.get("properties", {}).items()
        if "description" not in field
    ]
    assert lacking == []
    json.dumps(schema)


@pytest.mark.parametrize(
    ("text", "n"), [("500k", 500_000), ("2M tokens", 2_000_000), (7, 7), ("1e6", 1_000_000)]
)
def test_amounts_are_read_as_written(text: object, n: int) -> None:
    assert parse_amount(text, unit="tokens") == n


@pytest.mark.parametrize("text", ["half", "3 apples", "2 MB", True, 1.5, None, "-3"])
def test_an_amount_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected|more than|greater"):
        parse_amount(text, unit="tokens")
