"""A base spread over two processes: the trajectory of one, its checkpoint and its export."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from base_models import make_base  # noqa: E402
from worker_sharded import KINDS, N_STEPS, all_rows  # noqa: E402

from prill.errors import RecipeError  # noqa: E402
from prill.lm.bases.base import TransformersBase  # noqa: E402
from prill.lm.bases.sharded import ShardedTrainer  # noqa: E402
from prill.lm.bases.stored import load_scorer  # noqa: E402
from prill.lm.distributed import World  # noqa: E402
from prill.lm.optimizer import AdamSettings, StackedAdamW  # noqa: E402

WORKER = Path(__file__).with_name("worker_sharded.py")
CPU = torch.device("cpu")


def run(*arguments: str) -> list[tuple[int, str]]:
    """Exit code and standard error of both processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), *arguments],
            env={**os.environ, **place, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=240)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


def alone(base: Path, kind: str, n_steps: int) -> tuple[list[tuple[float, float]], Any]:
    """Losses and norms of one process, and the trained model."""
    start = TransformersBase(folder=base, **KINDS[kind].base)
    model = start.learner([4], n_extra=0, dtype=KINDS[kind].dtype, device=CPU)
    blank = torch.zeros_like(model.flat)
    optimizer = StackedAdamW(
        AdamSettings(clip_norm=0.5), n_decayed=model.n_decayed, first=blank, second=blank.clone()
    )
    told = []
    for step in range(n_steps):
        loss, gradient = model.losses_and_gradient(model.pack(all_rows(step)))
        told.append((float(loss), float(optimizer.step(model.flat, gradient, [1e-2]))))
    return told, model


def test_two_processes_train_as_one_and_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    for kind, settings in KINDS.items():
        make_base(tmp_path / kind, settings.model)
    done = run(str(tmp_path))
    assert [code for code, _ in done] == [0, 0], done[0][1][-2000:] + done[1][1][-2000:]
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0] == told[1]
    for kind in KINDS:
        expected, trained = alone(tmp_path / kind, kind, N_STEPS)
        is_exact = KINDS[kind].dtype == torch.float32
        (losses, norms), (wanted_losses, wanted_norms) = np.transpose(told[0][kind]), np.transpose(expected)
        if not is_exact:  # a step that follows another's rounding to 8 bits goes elsewhere
            np.testing.assert_allclose(losses[0], wanted_losses[0], rtol=1e-3)
            np.testing.assert_allclose(norms[0], wanted_norms[0], rtol=1e-2)
            continue
        np.testing.assert_allclose(losses, wanted_losses, rtol=1e-5)
        np.testing.assert_allclose(norms, wanted_norms, rtol=1e-4)
        scorer = load_scorer(tmp_path / f"{kind}-trained", dtype=KINDS[kind].dtype, device=CPU)
        rows = scorer.pack(all_rows(9))
        found, wanted = scorer.token_losses(rows), trained.token_losses(rows)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_process_has_nothing_to_share(tmp_path: Path) -> None:
    base = TransformersBase(folder=make_base(tmp_path))
    with pytest.raises(RecipeError, match="spread over at least two processes, found one"):
        ShardedTrainer.open(base, World(), AdamSettings(), seed=0, n_extra=0, dtype=torch.float32, device=CPU)
