"""Budgets as people write them, and the ones that cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from prill.errors import RecipeError
from prill.select import Budget, Policy


@pytest.mark.parametrize(
    ("written", "amount", "unit"),
    [
        ("5%", 0.05, "fraction"),
        ("100 %", 1.0, "fraction"),
        ("2M tokens", 2e6, "tokens"),
        ("2 million tokens", 2e6, "tokens"),
        ("1.5B tokens", 1.5e9, "tokens"),
        ("500_000 tokens", 5e5, "tokens"),
        ("1,000 documents", 1e3, "documents"),
        ("1 token", 1.0, "tokens"),
        ("3k docs", 3e3, "documents"),
        ("10 MB", 1e7, "bytes"),
        ("1GiB", 2.0**30, "bytes"),
        ("1e6 bytes", 1e6, "bytes"),
        ("0.05 fraction", 0.05, "fraction"),
        ({"amount": 0.05, "unit": "fraction"}, 0.05, "fraction"),
    ],
)
def test_written_budgets_are_read(written: object, amount: float, unit: str) -> None:
    budget = Budget.parse(written)  # type: ignore[arg-type]
    assert (budget.amount, budget.unit) == (amount, unit)
    assert Budget.parse(budget) is budget
    assert Budget.model_validate(budget.model_dump()) == budget


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0 tokens", "more than zero, found '0 tokens'"),
        ("-5 tokens", "more than zero"),
        ("0%", "more than zero"),
        ("150%", "at most 1 .*found 1.5"),
        ("0.5 tokens", "at least one of its unit"),
        ("500", "expected a unit after the amount|expected a unit"),
        (5, "expected a unit"),
        ("2M", "expected a unit after the amount, found '2M'"),
        ("2M tokns", "did you mean 'tokens'"),
        ("lots", "expected an amount and a unit, found 'lots'"),
        ({"amount": 1, "unit": "words"}, "unit: .*'words'"),
        ({"amount": 1, "unit": "tokens", "extra": 1}, "extra"),
        ({"amount": float("nan"), "unit": "tokens"}, "amount"),
    ],
)
def test_impossible_budgets_are_refused_with_the_value(written: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Budget.parse(written)  # type: ignore[arg-type]


def test_a_fraction_is_resolved_exactly() -> None:
    assert Budget.parse("5%").resolve(40) == 2
    assert Budget.parse("29%").resolve(100) == 29  # 0.29 * 100 is 28.999... in floats
    assert Budget.parse("7 documents").resolve(3) == 7
    assert str(Budget.parse("5%")) == "5% of the eligible tokens"
    assert str(Budget.parse("2M tokens")) == "2,000,000 tokens"


def test_a_budget_can_be_a_field_of_a_recipe() -> None:
    class Recipe(BaseModel):
        budget: Budget

    assert Recipe.model_validate({"budget": "5%"}).budget.unit == "fraction"
    with pytest.raises(ValidationError, match="expected a unit"):
        Recipe.model_validate({"budget": "5"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "threshold"}, "needs `threshold`"),
        ({"threshold": 1.0}, "refuse it"),
        ({"quotas": {"a": 1.0}}, "need `strata`, found strata null"),
        ({"strata": "source", "quotas": {"a": 0.5}}, "add up to 1, found 0.5"),
        ({"strata": "source", "quotas": {"a": -1.0, "b": 2.0}}, "between 0 and 1"),
        ({"temprature": 1.0}, "Extra inputs"),
        ({"kind": "quantile"}, "needs `share`"),
        ({"share": 0.5}, "kind quantile needs `share`, the other kinds refuse it"),
        ({"kind": "quantile", "share": 1.5}, "less than or equal to 1"),
        ({"kind": "band", "band": [0.7, 0.3]}, "0 <= low < high <= 1"),
        ({"band": [0.3, 0.7]}, "only kind band has a `band`"),
        ({"temperature": 0.0}, "greater than 0"),
    ],
)
def test_policies_that_contradict_themselves_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Policy.model_validate(fields)


def test_every_field_of_a_policy_is_described() -> None:
    assert all(field.description for field in Policy.model_fields.values())


def test_reading_a_recipe_loads_no_arithmetic() -> None:
    code = "import sys, prill.select; sys.exit('pyarrow' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
