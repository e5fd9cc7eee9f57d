"""The run directory: made, resumed, refused, repaired."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prill.errors import DataError, InternalError, RecipeError, ResourceError
from prill.run.atomic import TEMPORARY_PREFIX, atomic_write
from prill.run.directory import RunDirectory, read_run
from prill.run.events import read_events
from prill.run.record import RECORD_NAME, Record
from prill.run.verify import verify

RECIPE = {"select": {"budget": 0.05, "seed": 0}, "corpus": {"paths": ["a.jsonl"]}}


def make_parts(run: RunDirectory, n_parts: int = 3, *, seed: int = 0) -> tuple[Record, list[int]]:
    """A step of small parts; returns its record and which parts were computed now."""
    step = run.step("count", version=1, settings={"seed": seed, "n_parts": n_parts})
    made: list[int] = []
    if step.record is not None:
        return step.record, made
    for index in range(n_parts):
        path = step.part(index, ".bin")
        if not step.usable_part(path):
            atomic_write(path, bytes([index + seed]) * 100)
            step.finish_part(path, {"n_rows": 10 * (index + 1)})
            made.append(index)
    parts = [step.part(index, ".bin") for index in range(n_parts)]
    n_rows = sum(step.part_facts(part)["n_rows"] for part in parts)
    return step.finish(parts, {"n_rows": n_rows}), made


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "events.jsonl")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_a_finished_step_is_reused_and_its_record_tells_the_lineage(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "out", RECIPE) as run:
        counted, made = make_parts(run)
        assert made == [0, 1, 2]
        scored = run.step(
            "score", version=2, settings={}, parents=[counted], inputs=[{"path": "a", "size": 1}]
        )
        atomic_write(scored.folder / "scores.bin", b"scores")
        record = scored.finish([scored.folder])
    assert record.parents == {"count": counted.fingerprint}
    assert [o.path for o in record.outputs] == [f"steps/{scored.folder.name}/scores.bin"]
    with RunDirectory.open(tmp_path / "out", RECIPE) as run:
        again, made = make_parts(run)
    assert made == []
    assert again == counted
    assert again.counts == {"n_rows": 60}
    assert [r.step for r in read_run(tmp_path / "out").records] == ["count", "score"]
    assert verify(tmp_path / "out").is_whole


def test_two_runs_in_two_places_have_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with RunDirectory.open(tmp_path / name, RECIPE) as run:
            make_parts(run)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    text = b"".join(contents(tmp_path / "one").values()).decode("latin1")
    assert str(tmp_path) not in text


def test_a_folder_that_is_not_ours_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(
        RecipeError, match=r"expected an empty folder or a run of Prill.*thesis\.tex"
    ) as caught:
        RunDirectory.open(tmp_path, RECIPE, accept_changes=True)
    assert caught.value.exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(RecipeError, match="found a file"):
        RunDirectory.open(tmp_path / "out", RECIPE)


def test_another_recipe_is_refused_field_by_field(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, RECIPE):
        pass
    changed = {"select": {"budget": 0.1, "seed": 0}, "corpus": {"paths": ["a.jsonl", "b.jsonl"]}, "name": "x"}
    with pytest.raises(RecipeError) as caught:
        RunDirectory.open(tmp_path, changed)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path}: this folder holds a run of another recipe (3 changed fields)"
    assert lines[1:4] == [
        'corpus.paths[1]: (absent) -> "b.jsonl"',
        'name: (absent) -> "x"',
        "select.budget: 0.05 -> 0.1",
    ]
    assert "--accept-changes" in lines[4]


def test_accepted_changes_reuse_the_steps_that_did_not_change(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run, seed=0)
        make_parts(run, seed=1)
    with RunDirectory.open(tmp_path, {**RECIPE, "name": "x"}, accept_changes=True) as run:
        assert [change[0] for change in run.changes] == ["name"]
        assert make_parts(run, seed=0)[1] == []
        assert make_parts(run, seed=2)[1] == [0, 1, 2]
    assert [r.settings["seed"] for r in read_run(tmp_path).records] == [0, 2]
    with RunDirectory.open(tmp_path, {**RECIPE, "name": "x"}) as run:
        assert run.changes == ()


def test_one_and_one_point_zero_are_a_change(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {"a": 1}):
        pass
    with pytest.raises(RecipeError, match=r"a: 1 -> 1\.0"):
        RunDirectory.open(tmp_path, {"a": 1.0})


def test_a_step_name_from_data_is_refused(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        for name in ("../up", "", "a/b", "A", ".hidden", "a\n"):
            with pytest.raises(InternalError, match="step name"):
                run.step(name, version=1, settings={})


def test_outputs_outside_the_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x")
    with RunDirectory.open(tmp_path / "out", RECIPE) as run:
        step = run.step("count", version=1, settings={})
        (step.folder / "link").symlink_to(tmp_path / "elsewhere")
        for path in (
            tmp_path / "elsewhere",
            step.folder / "link",
            step.folder / ".." / ".." / ".." / "elsewhere",
        ):
            with pytest.raises(InternalError, match="inside the run directory"):
                step.finish([path])
        with pytest.raises(InternalError, match="found none"):
            step.finish([step.part(0)])


def test_the_lock_names_its_holder_and_is_given_back(tmp_path: Path) -> None:
    with (
        RunDirectory.open(tmp_path, RECIPE),
        pytest.raises(ResourceError, match=r"another run holds this folder \(pid \d+, host .*, started 2"),
    ):
        RunDirectory.open(tmp_path, RECIPE)
    with RunDirectory.open(tmp_path, RECIPE):
        pass
    assert not (tmp_path / "prill-run.lock").exists()


def test_a_lock_file_of_a_dead_holder_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "prill-run.lock").write_text('{"pid": 999999999, "host": "gone"}')
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run)
    assert verify(tmp_path).n_steps == 1


def test_temporary_files_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run)
    (tmp_path / "steps" / f"{TEMPORARY_PREFIX}0-x").write_bytes(b"half")
    with RunDirectory.open(tmp_path, RECIPE):
        pass
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [flip, cut, zero, delete, empty]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["part-00001.bin", RECORD_NAME])
def test_damage_to_a_finished_step_is_repaired(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run)
    before = contents(tmp_path)
    (victim,) = tmp_path.rglob(name)
    damage(victim)
    assert not verify(tmp_path).is_whole
    with RunDirectory.open(tmp_path, RECIPE) as run:
        _, made = make_parts(run)
    assert made == ([1] if name != RECORD_NAME else [0, 1, 2])
    assert contents(tmp_path) == before
    kinds = [event["event"] for event in read_events(tmp_path)]
    assert {"output_discarded", "record_discarded", "part_discarded"} & set(kinds)
    assert verify(tmp_path).is_whole


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["part-00001.bin", "parts.jsonl"])
def test_damage_to_an_unfinished_step_is_redone(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    with RunDirectory.open(tmp_path / "whole", RECIPE) as run:
        make_parts(run)
    with RunDirectory.open(tmp_path / "cut", RECIPE) as run:
        step = run.step("count", version=1, settings={"seed": 0, "n_parts": 3})
        for index in range(2):
            atomic_write(step.part(index, ".bin"), bytes([index]) * 100)
            step.finish_part(step.part(index, ".bin"), {"n_rows": 10 * (index + 1)})
        atomic_write(step.part(2, ".bin"), b"whole file, but not yet in the journal")
    (victim,) = (tmp_path / "cut").rglob(name)
    damage(victim)
    with RunDirectory.open(tmp_path / "cut", RECIPE) as run:
        _, made = make_parts(run)
    assert 2 in made
    assert 1 in made
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_marker_is_one_error_and_can_be_accepted(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run)
    before = contents(tmp_path)
    damage(tmp_path / "prill-run.json")
    with pytest.raises((DataError, RecipeError), match=r"prill-run\.json") as caught:
        RunDirectory.open(tmp_path, RECIPE)
    assert "--accept-changes" in str(caught.value)
    with RunDirectory.open(tmp_path, RECIPE, accept_changes=True) as run:
        assert make_parts(run)[1] == []
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_list_of_steps_is_written_anew(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run)
    before = contents(tmp_path)
    damage(tmp_path / "prill-steps.json")
    assert not verify(tmp_path).is_whole
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run)
    assert contents(tmp_path) == before


def test_a_record_edited_by_hand_is_not_trusted(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run)
    (path,) = tmp_path.rglob(RECORD_NAME)
    content = json.loads(path.read_text())
    content["counts"]["n_rows"] = 61
    path.write_text(json.dumps(content))
    (problem,) = verify(tmp_path).problems
    assert "changed" in problem.message


def test_verify_counts_what_it_read_and_finds_lost_parents(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        counted, _ = make_parts(run)
        child = run.step("score", version=1, settings={}, parents=[counted])
        atomic_write(child.part(0), b"x")
        child.finish([child.part(0)])
        run.step("select", version=1, settings={})
    seen: list[str] = []
    checked = verify(tmp_path, seen.append)
    assert (checked.n_steps, checked.n_files, checked.n_bytes, checked.n_unfinished) == (2, 4, 301, 1)
    assert len(seen) == 4
    (tmp_path / "steps" / f"count-{counted.fingerprint[:12]}" / RECORD_NAME).unlink()
    messages = [p.message for p in verify(tmp_path).problems]
    assert any("parent 'count'" in message for message in messages)
    with pytest.raises(RecipeError, match="expected a run of Prill"):
        verify(tmp_path / "steps")


def test_parents_of_one_name_are_all_bound(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        first, _ = make_parts(run, seed=0)
        second, _ = make_parts(run, seed=1)
        both = run.step("join", version=1, settings={}, parents=[first, second])
        one = run.step("join", version=1, settings={}, parents=[second])
    assert len(both.identity.parents) == 2
    assert both.fingerprint != one.fingerprint


def test_parts_of_a_finished_step_are_usable_and_never_removed(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, RECIPE) as run:
        make_parts(run)
        step = run.step("count", version=1, settings={"seed": 0, "n_parts": 3})
        assert step.usable_part(step.part(1, ".bin"))
        assert not step.usable_part(step.part(9, ".bin"))
        assert step.part_facts(step.part(1, ".bin")) == {"n_rows": 20}
        assert step.part(1, ".bin").exists()


def test_the_index_has_the_order_of_asking_whatever_finishes_first(tmp_path: Path) -> None:
    def work(folder: Path, finishing: list[str]) -> None:
        with RunDirectory.open(folder, {"a": 1}) as run:
            steps = {name: run.step(name, version=1, settings={}) for name in ("one", "two", "three")}
            for name in finishing:
                if steps[name].record is None:
                    part = steps[name].part(0)
                    part.write_text(name)
                    steps[name].finish([part])

    work(tmp_path / "a", ["one", "two", "three"])
    work(tmp_path / "b", ["three", "one"])  # stopped here
    assert [record.step for record in read_run(tmp_path / "b").records] == ["one", "three"]
    work(tmp_path / "b", ["two"])
    assert (tmp_path / "a" / "prill-steps.json").read_bytes() == (
        tmp_path / "b" / "prill-steps.json"
    ).read_bytes()
