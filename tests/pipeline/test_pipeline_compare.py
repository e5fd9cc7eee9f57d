"""`prill compare`: what each choice holds, counted from the files, and the features it took."""

from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from pool_of import recipe_of
from prill.errors import DataError, RecipeError
from prill.pipeline.arms import policy_of
from prill.pipeline.run import rewrite_report, run_recipe
from prill.recipe.model import ArmSpec, Recipe

MEMBERS = [f"proof lemma theorem induction {word} holds" for word in ("one", "two", "three", "four", "five")]
OTHERS = [f"cheap pills online {word} buy now" for word in ("red", "blue", "green", "grey", "pink") * 3]


def write(folder: Path, *, members: object, **fields: object) -> Path:
    texts = [f"{text} {number}" for number, text in enumerate(MEMBERS + OTHERS)]
    targets = {"proofs": [f"a lemma and its proof by induction {number}" for number in range(8)]}
    recipe = recipe_of(folder, texts, targets, arms=[{"method": "dsir", "policy": {"kind": "top_k"}}])
    (folder / "members.json").write_bytes(orjson.dumps(members))
    stored = recipe.model_dump(mode="json", exclude_defaults=True)
    stored["targets"]["proofs"] |= {"members": "members.json", "budget": "25%"}
    stored |= {"trials": None, **fields}
    path = folder / "recipe.yaml"
    path.write_bytes(orjson.dumps(stored))
    return path


def compare(path: Path) -> dict[str, object]:
    outcome = run_recipe(
        path, output=None, n_workers=2, is_quiet=True, accept_changes=False, is_comparison=True
    )
    assert outcome.comparison is not None
    assert "| dsir |" in outcome.comparison.read_text()
    found: dict[str, object] = orjson.loads(outcome.comparison.with_suffix(".json").read_bytes())
    return found


def test_precision_is_counted_in_tokens_of_the_written_dataset(tmp_path: Path) -> None:
    ids = [f"d{number}" for number in range(len(MEMBERS))]
    found = compare(write(tmp_path, members={"pool_member_ids": ids}))
    rows = {row["arm"]: row for row in found["rows"]}  # type: ignore[attr-defined]
    chosen = pq.read_table(tmp_path / "run" / "dataset" / "proofs" / "dsir", columns=["id", "prill_tokens"])
    tokens = dict(zip(*(chosen[name].to_pylist() for name in chosen.column_names), strict=True))
    right = sum(n for name, n in tokens.items() if name in ids)
    assert rows["dsir"]["precision"] == pytest.approx(right / sum(tokens.values()))
    assert rows["dsir"]["n_tokens"] == sum(tokens.values())
    assert rows["dsir"]["precision"] == 1.0
    assert rows["random"]["precision"] < 0.4
    assert rows["dsir"]["kl_nats"] > 0
    assert [feature["arms"] for feature in found["features"]] == [["dsir"]]  # type: ignore[attr-defined]
    report = (tmp_path / "run" / "report.html").read_bytes()
    assert "100.0\xa0% of them the target" in report.decode()
    assert rewrite_report(tmp_path / "run").report.read_bytes() == report


def test_members_that_are_no_ids_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a list of ids expected"):
        compare(write(tmp_path, members={"other": 1}))


REFUSED = {"method": "dclm", "settings": {"min_positives": 100}}  # the target has eight documents


def test_an_arm_that_cannot_work_is_left_out_and_told(tmp_path: Path) -> None:
    arms = [REFUSED, {"method": "dsir"}, {**REFUSED, "name": "again"}]
    recipe = write(tmp_path, members=[], arms=arms, unfit="leave_out")
    outcome = run_recipe(
        recipe, output=None, n_workers=2, is_quiet=True, accept_changes=False, is_comparison=True
    )
    assert outcome.comparison is not None
    assert [(one.arm, "at least 100" in one.why) for one in outcome.left_out] == [
        ("dclm", True),
        ("again", True),
    ]
    assert "- `dclm` was left out: " in outcome.comparison.read_text()
    assert sorted(path.name for path in (tmp_path / "run" / "dataset" / "proofs").iterdir()) == ["dsir"]
    assert any("`dclm` was left out" in warning for warning in outcome.data.warnings)


@pytest.mark.parametrize("unfit", ["stop", "leave_out"])
def test_nothing_but_arms_that_cannot_work_stop_the_run(tmp_path: Path, unfit: str) -> None:
    with pytest.raises(DataError, match="at least 100"):
        compare(write(tmp_path, members=[], arms=[REFUSED], unfit=unfit))


def test_arms_all_leave_out_unless_the_recipe_says_otherwise() -> None:
    recipe = {"corpus": {"paths": ["a"]}, "targets": {"t": {"paths": ["b"]}}, "budget": "5%"}
    assert Recipe.model_validate({**recipe, "arms": "all"}).unfit == "leave_out"
    assert Recipe.model_validate({**recipe, "arms": "all", "unfit": "stop"}).unfit == "stop"
    assert Recipe.model_validate(recipe).unfit == "stop"


def test_a_policy_that_says_nothing_of_unjudged_documents_leaves_that_to_the_method() -> None:
    def kept(**policy: object) -> str:
        return policy_of(ArmSpec.model_validate({"method": "heuristics", "policy": policy})).on_non_finite

    assert kept(kind="gumbel") == "exclude"  # the method's own default
    assert kept(kind="gumbel", on_non_finite="stop") == "stop"


def test_strata_of_a_method_that_tells_none_are_refused_before_anything_runs(tmp_path: Path) -> None:
    arms = [{"method": "dsir", "policy": {"strata": "source x method"}}]
    with pytest.raises(RecipeError, match="a method that tells strata"):
        run_recipe(
            write(tmp_path, members=[], arms=arms),
            output=None,
            n_workers=1,
            is_quiet=True,
            accept_changes=False,
        )
    assert not (tmp_path / "run").exists()
