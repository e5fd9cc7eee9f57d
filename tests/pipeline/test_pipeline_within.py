"""A whole run whose methods act within training: equal tokens, subsets drawn anew."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_study import build_study, prill

from prill.demo.machine_text import MachineDocument

pytestmark = pytest.mark.slow

TRIALS = "{size: pico, tokens: 11k, checkpoints: [1.0], seeds: 2, rows: 4, row_tokens: 64, eval_tokens: 1500}"
ARMS = """
arms:
  - {method: seta, settings: {groups: 4}}
  - {method: rs2, settings: {rounds: 3}}
  - {method: fresh_random}
"""


def study(folder: Path, machine_text: list[MachineDocument]) -> Path:
    recipe = build_study(folder, machine_text, trials=TRIALS)
    text = recipe.read_text().replace("  code: {paths: [code.jsonl]}\n", "")
    recipe.write_text(text + ARMS)
    return recipe


def table(run: Path, pattern: str) -> dict[str, list[object]]:
    (path,) = run.glob(pattern)
    return dict(pq.read_table(path).to_pydict())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, machine_text: list[MachineDocument]) -> Path:
    recipe = study(tmp_path_factory.mktemp("within") / "study", machine_text)
    prill("run", recipe, "--quiet")
    return recipe.parent / "run"


def test_all_arms_train_on_the_same_tokens_and_the_pruned_ones_read_theirs_again(finished: Path) -> None:
    tokens: dict[str, set[object]] = {}
    passes: dict[str, float] = {}
    for path in finished.glob("steps/trials-*/part-*.parquet"):
        rows = pq.read_table(path).to_pydict()
        for arm, n_tokens, n_epochs in zip(rows["arm"], rows["n_tokens"], rows["n_epochs"], strict=True):
            tokens.setdefault(arm, set()).add(n_tokens)
            passes[arm] = max(passes.get(arm, 0.0), n_epochs)
    assert len(tokens) == 4
    assert len({frozenset(found) for found in tokens.values()}) == 1
    assert passes["seta:prose"] == pytest.approx(4, rel=0.02)
    assert passes["random"] < 1


def test_every_round_of_every_seed_is_another_subset_of_the_pool(finished: Path) -> None:
    rows = table(finished, "steps/samples-*/samples.parquet")
    subsets: dict[tuple[object, ...], set[tuple[object, object]]] = {}
    for arm, seed, number, shard, row in zip(
        rows["arm"], rows["seed"], rows["round"], rows["shard"], rows["row"], strict=True
    ):
        subsets.setdefault((arm, seed, number), set()).add((shard, row))
    drawn = {key: found for key, found in subsets.items() if str(key[0]).startswith(("rs2", "fresh"))}
    assert len(drawn) == 2 * 3 + 2
    assert len({frozenset(found) for found in drawn.values()}) == len(drawn)
    for seed in (0, 1):  # without replacement, while the pool lasts
        rounds = [drawn["rs2:prose", seed, number] for number in range(3)]
        assert not rounds[0] & rounds[1]
