"""How many tokens DSIR's choice saves, beside the planted documents themselves.

    python bench/multiples.py CORPUS_FOLDER TARGETS_FOLDER OUTPUT [--seeds 3] [--control 2M]

For every target whose members in the pool are known (TARGETS/NAME.jsonl and NAME.members.json), with a
budget equal to the planted share: trains proxies on DSIR's choice, on the planted documents (the oracle) and
on random text, and prints with how many times fewer tokens each choice reaches the loss that random text
reaches with the control's tokens. Methods are fitted on one half of the target sample and judged on the
other. The run can be stopped and repeated; it goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from prill.corpus.writers import write_parquet
from prill.engine.local import LocalEngine
from prill.pipeline import steps
from prill.pipeline.choose import CHOICE_COLUMNS
from prill.pipeline.inputs import available_cores, check_inputs
from prill.pipeline.trials import Proof, arm_name, prove
from prill.pipeline.walk import Done, Walk
from prill.recipe.load import parse_recipe
from prill.recipe.model import CONTROL, ArmSpec
from prill.recipe.quantity import parse_amount
from prill.run.directory import RunDirectory
from prill.run.progress import choose_progress
from prill.select.budget import Budget
from prill.stats import Crossing, combine_multiples, crossing
from prill.study.trials import bits_per_byte

ARM_TOKENS = 400_000
CHECKPOINTS = [0.2, 0.3, 0.45, 0.65, 1.0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("targets", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--control", default="2M", help="tokens of the random control")
    asked = parser.parse_args()
    control = parse_amount(asked.control, unit="tokens")
    members = {
        p.name.split(".")[0]: set(json.loads(p.read_text())["pool_member_ids"])
        for p in asked.targets.glob("*.members.json")
    }
    recipe = parse_recipe(_recipe(asked, sorted(members), control), name="bench")
    with (
        choose_progress() as progress,
        RunDirectory.open(asked.output, recipe.model_dump(mode="json")) as run,
    ):
        corpus, targets = check_inputs(recipe, Path.cwd())
        engine = LocalEngine(available_cores())
        walk = Walk(recipe=recipe, base=Path.cwd(), run=run, engine=engine, progress=progress, corpus=corpus)
        pool = steps.prepare_pool(walk, targets, steps.store_targets(walk, targets))
        arm = recipe.arms[0]
        features = steps.features_of(walk, pool, targets)
        scored = features.done[steps.score(features, [arm])[arm.label]]
        choices = []
        for name in targets:
            oracle, n_tokens = _oracle(walk, pool, scored, name, members[name])
            budget = Budget(amount=n_tokens, unit="tokens")
            at_budget = Walk(**{**vars(walk), "recipe": recipe.model_copy(update={"budget": budget})})
            choices += [steps.choose(at_budget, arm, name, pool, scored), oracle]
        proof = prove(walk, pool, targets, choices)
    for name in targets:
        print(_told(proof, name, control))


def _recipe(asked: argparse.Namespace, names: list[str], control: int) -> str:
    return json.dumps(
        {
            "corpus": {"paths": [str(asked.corpus.resolve() / "*.parquet")]},
            "targets": {
                name: {"paths": [str((asked.targets / f"{name}.jsonl").resolve())]} for name in names
            },
            "budget": "5%",
            "trials": {
                "tokens": ARM_TOKENS,
                "checkpoints": CHECKPOINTS,
                "seeds": asked.seeds,
                "control_multiple": control / ARM_TOKENS,
            },
        }
    )


def _oracle(
    walk: Walk, pool: steps.Pool, scored: Done, target: str, ids: set[str]
) -> tuple[steps.Choice, int]:
    """The planted documents as if a method had chosen them, and their tokens."""
    read, eligible, tokens = pool.parts()
    shards = walk.corpus.shards
    tables = steps.PoolTables(
        read_parts=read,
        eligible_parts=eligible,
        token_parts=tokens,
        score_parts=list(scored.parts),
        target=target,
    )

    def build(paths: list[Path]) -> dict[str, int]:
        total = 0
        for shard, path in zip(shards, paths[:-1], strict=True):
            found = pa.concat_arrays([b.columns["id"] for b in walk.corpus.batches(shard, ("text", "id"))])
            is_member = np.array([name in ids for name in found.to_pylist()])
            table = tables(shard.index)
            kept = table.filter(pa.array(is_member & table["eligible"].to_numpy()))
            total += int(kept["n_tokens"].to_numpy().sum())
            write_parquet(path, kept.select(CHOICE_COLUMNS))
        paths[-1].write_text("{}")
        return {"n_tokens": total}

    files = [*(f"part-{shard.index:05d}.parquet" for shard in shards), "audit.json"]
    done = walk.at_once(
        f"oracle-{target}",
        version=1,
        settings={},
        parents=[scored, pool.tokens, pool.eligible],
        files=files,
        build=build,
    )
    choice = steps.Choice(arm=ArmSpec(method="dsir", name="oracle"), target=target, done=done, tables=tables)
    return choice, int(done.record.counts["n_tokens"])


def _told(proof: Proof, target: str, control: int) -> str:
    rows = bits_per_byte(proof.evals, f"target:{target}")
    curves: dict[tuple[str, int], dict[int, float]] = {}
    for arm, seed, n_tokens, bpb in rows:
        curves.setdefault((arm, seed), {})[n_tokens] = bpb
    lines = [f"{target}: tokens to reach what random text reaches with {control:,}"]
    for label in ("dsir", "oracle"):
        arm, found = arm_name(label, target), []
        for seed in sorted(s for a, s in curves if a == CONTROL):
            longest = max(curves[CONTROL, seed])
            level = curves[CONTROL, seed][longest]
            tokens, losses = zip(*sorted(curves[arm, seed].items()), strict=True)
            reached = crossing(tokens, losses, level)
            flipped = {"exact": "exact", "at_least": "at_most", "at_most": "at_least"}[reached.bound]
            found.append(Crossing(n_tokens=longest / reached.n_tokens, bound=flipped))
        all_seeds = combine_multiples(found)
        between = (
            f", 95 % {all_seeds.low:.1f} to {all_seeds.high:.1f}"
            if all_seeds.low
            else f" ({all_seeds.bound})"
        )
        final = {t: np.mean([curves[arm, s][t] for a, s in curves if a == arm]) for t in curves[arm, 0]}
        shown = ", ".join(f"{t:,}: {bpb:.3f}" for t, bpb in sorted(final.items()))
        lines.append(
            f"  {label:<7} {all_seeds.value or 0:5.1f} times fewer{between}, {all_seeds.n_seeds} seeds; "
            f"bits per byte at {shown}"
        )
    random = {
        t: np.mean([curves[CONTROL, s][t] for a, s in curves if a == CONTROL]) for t in curves[CONTROL, 0]
    }
    lines.append(
        "  random  bits per byte at " + ", ".join(f"{t:,}: {bpb:.3f}" for t, bpb in sorted(random.items()))
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
