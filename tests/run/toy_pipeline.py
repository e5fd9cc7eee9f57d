"""A small pipeline for fault tests: `python toy_pipeline.py RUN_FOLDER N_WORKERS [NAP_S]`."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

from prill.engine.local import LocalEngine
from prill.errors import PrillError
from prill.run.atomic import atomic_path, atomic_write
from prill.run.directory import RunDirectory
from prill.run.record import Record
from prill.run.signals import Stop, leave, stop_on_signals

N_PARTS = 6
RECIPE = {"corpus": {"paths": ["toy"]}, "n_parts": N_PARTS}


def make_part(item: tuple[int, str, str, float]) -> int:
    """Write 20 kB that depend only on the index and the parent's bytes, slowly and in pieces."""
    index, path, source, nap_s = item
    seed = Path(source).read_bytes() if source else b"toy"
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        for piece in range(5):
            file.write(hashlib.sha512(seed + bytes([index, piece])).digest() * 64)
            file.flush()
            time.sleep(nap_s)
    return 5 * 64 * 64


def run_parts(
    run: RunDirectory, engine: LocalEngine, name: str, parents: list[Record], nap_s: float
) -> Record:
    step = run.step(name, version=1, settings={"n_parts": N_PARTS}, parents=parents)
    if step.record is not None:
        return step.record
    sources = [str(run.path / output.path) for output in parents[0].outputs] if parents else [""] * N_PARTS
    todo = [index for index in range(N_PARTS) if not step.usable_part(step.part(index, ".bin"))]
    items = [(index, str(step.part(index, ".bin")), sources[index], nap_s) for index in todo]
    engine.map(
        make_part,
        items,
        kind="processes",
        name=name,
        on_result=lambda i, n: step.finish_part(step.part(todo[i], ".bin"), {"n_bytes": n}),
    )
    parts = [step.part(index, ".bin") for index in range(N_PARTS)]
    return step.finish(parts, {"n_bytes": sum(step.part_facts(part)["n_bytes"] for part in parts)})


def main() -> int:
    folder, n_workers = Path(sys.argv[1]), int(sys.argv[2])
    nap_s = float(sys.argv[3]) if len(sys.argv) > 3 else 0.01
    try:
        with stop_on_signals(), RunDirectory.open(folder, RECIPE) as run:
            engine = LocalEngine(n_workers)
            first = run_parts(run, engine, "count", [], nap_s)
            second = run_parts(run, engine, "score", [first], nap_s)
            merge = run.step("merge", version=1, settings={}, parents=[second])
            if merge.record is None:
                digests = "".join(output.sha256 for output in second.outputs)
                atomic_write(merge.folder / "all.txt", digests.encode())
                merge.finish([merge.folder / "all.txt"])
    except Stop as stop:
        sys.stderr.write(str(stop))
        return stop.exit_code
    except PrillError as error:
        sys.stderr.write(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    leave(main())
