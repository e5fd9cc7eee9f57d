"""One process of a sharded training, for `test_lm_sharded`: trains tiny bases and tells their losses.

Argument: folder with a base of each kind, where what comes out goes too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from base_models import divided_rows

from prill.errors import PrillError
from prill.lm.bases.adapters import Lora
from prill.lm.bases.base import TransformersBase
from prill.lm.bases.sharded import ShardedTrainer
from prill.lm.data import Rows
from prill.lm.distributed import World, joined
from prill.lm.optimizer import AdamSettings


class Kind(NamedTuple):
    model: str
    base: dict[str, Any]
    dtype: torch.dtype


KINDS = {
    "whole": Kind("llama", {}, torch.float32),
    "half": Kind("llama", {}, torch.bfloat16),
    "lora": Kind("gemma2", {"lora": Lora(rank=2), "is_checkpointed": True}, torch.float32),
}
N_ROWS, N_STEPS = 3, 4
CPU = torch.device("cpu")


def all_rows(step: int) -> Rows:
    """Rows of a step whose numbers of trained tokens are far from equal."""
    rows = divided_rows([[7, 17], [3, 20, 1], [24]], seed=step)
    keep = np.random.default_rng(step).random(rows.inputs.shape) < np.linspace(0.2, 1, N_ROWS)[:, None]
    return part(rows, 0, N_ROWS, np.where(keep, 1.5, 0.0).astype(np.float32))


def part(rows: Rows, first: int, count: int, weights: Any) -> Rows:
    here = slice(first, first + count)
    return Rows(
        inputs=rows.inputs[:, here],
        targets=rows.targets[:, here],
        positions=rows.positions[:, here],
        segments=rows.segments[:, here],
        weights=weights[:, here],
    )


def trained(folder: Path, kind: str, world: World) -> list[tuple[float, float]]:
    """Losses and norms of four steps; after two, another trainer goes on from a checkpoint."""
    start = TransformersBase(folder=folder / kind, **KINDS[kind].base)
    told: list[tuple[float, float]] = []
    for n_steps in (2, N_STEPS):
        trainer = ShardedTrainer.open(
            start,
            world,
            AdamSettings(clip_norm=0.5),
            seed=4,
            n_extra=0,
            dtype=KINDS[kind].dtype,
            device=CPU,
        )
        if told:
            assert trainer.read_state(folder) == {"kind": kind}
        for step in range(len(told), n_steps):
            rows = all_rows(step)
            first, count = world.part(0, N_ROWS)
            told.append(trainer.step(part(rows, first, count, rows.weights), 1e-2))
        trainer.write_state(folder, {"kind": kind})
    trainer.save(folder / f"{kind}-trained", {})
    return told


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined(CPU) as world:
        told = {kind: trained(folder, kind, world) for kind in KINDS}
        (folder / f"told-{world.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except PrillError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
