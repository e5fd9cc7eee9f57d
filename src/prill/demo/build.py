"""Writes the demonstration's folder: corpus shards, two target samples and the recipe that uses them.

Half of the documents of each target's kind, chosen by a keyed hash of their text, become the target
sample; the other half stay in the corpus, unmarked, where a method has to find them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from prill.demo.machine_text import MachineDocument, documents, is_documented_code
from prill.errors import ResourceError

__all__ = ["RECIPE", "build_demo", "ensure_demo"]

SOURCE_BYTES = 3_500_000
N_SHARDS = 4
MIN_SAMPLE = 8

TARGETS: dict[str, Callable[[MachineDocument], bool]] = {
    "reference_prose": lambda document: document.source == "reference",
    "documented_code": is_documented_code,
}

RECIPE = """\
# The demonstration of Prill: which part of this machine's own text teaches reference prose, or
# well-documented code, best? Change a number and run it again: prill run recipe.yaml
name: the text of this Python installation
seed: 0

corpus:
  paths: [corpus/*.parquet]

targets:
  reference_prose: {paths: [targets/reference_prose.jsonl]}
  documented_code: {paths: [targets/documented_code.jsonl]}

budget: 5%            # of the pool's tokens, for each target

arms:
  - method: dsir

trials:
  size: nano          # 0.3 M parameters besides the embedding
  tokens: 250k        # a trial; the random control gets as many
  seeds: 3

output: run
"""


def ensure_demo(folder: Path) -> Path:
    """The demonstration's recipe in `folder`, made on the first call and kept as it is afterwards."""
    recipe = folder / "recipe.yaml"
    return recipe if recipe.exists() else build_demo(folder)


def build_demo(folder: Path, *, source_bytes: int = SOURCE_BYTES) -> Path:
    """Write corpus, targets and recipe into `folder`; returns the recipe's path, which is written last.

    Args:
        folder: made when missing.
        source_bytes: how much text one source may give, bytes of UTF-8.
    Raises:
        ResourceError: this Python installation lacks one of the two targets' kinds of text.
    """
    from prill.run.atomic import atomic_write

    pool, samples = _split(documents(source_bytes))
    for name, sample in samples.items():
        if len(sample) < MIN_SAMPLE:
            raise ResourceError(
                f"at least {MIN_SAMPLE} documents expected for `{name}`, found {len(sample)}",
                where="this Python installation",
                hint="use a Python with the standard library's sources, or `prill run` on your own corpus",
            )
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    (folder / "targets").mkdir(exist_ok=True)
    for name, sample in samples.items():
        lines = (orjson.dumps({"id": d.id, "text": d.text}) for d in sample)
        atomic_write(folder / "targets" / f"{name}.jsonl", b"\n".join(lines) + b"\n")
    for shard in range(N_SHARDS):
        _write_shard(
            folder / "corpus" / f"machine-{shard:05d}-of-{N_SHARDS:05d}.parquet", pool[shard::N_SHARDS]
        )
    recipe = folder / "recipe.yaml"
    atomic_write(recipe, RECIPE.encode())
    return recipe


def _split(
    found: Iterable[MachineDocument],
) -> tuple[list[MachineDocument], dict[str, list[MachineDocument]]]:
    pool: list[MachineDocument] = []
    samples: dict[str, list[MachineDocument]] = {name: [] for name in TARGETS}
    for document in found:
        is_sample = hashlib.sha256(document.text.encode()).digest()[0] % 2 == 0
        kind = next((name for name, belongs in TARGETS.items() if is_sample and belongs(document)), None)
        (samples[kind] if kind else pool).append(document)
    return pool, samples


def _write_shard(path: Path, rows: list[MachineDocument]) -> None:
    import pyarrow as pa

    from prill.corpus.writers import write_parquet

    columns = {
        key: pa.array([getattr(d, key) for d in rows], pa.large_string()) for key in ("id", "text", "source")
    }
    write_parquet(path, pa.table(columns))
