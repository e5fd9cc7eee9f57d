"""Runs one job of a comparison as a process of its own with one thread; needs nothing but Python.

Peers' interpreters, which do not have Prill, import it too: it lies beside the scripts.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

__all__ = ["run_alone"]

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)


def run_alone(name: str, command: list[str]) -> dict[str, Any]:
    """The job's figures: the JSON object of the last line it writes; its error ends the comparison."""
    environment = {**os.environ, **_ONE_THREAD, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures
