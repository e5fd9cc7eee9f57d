"""Writes the laboratory of chains as files that every method reads: a pool, a target, the truth, a recipe.

Symbols become short pronounceable words, so that methods of text see text. A document's id tells nothing of
its source, and sources are written to the truth alone, which no recipe reads but to judge.

    lab/
      recipe.yaml              ready for `prill run` and `prill compare`
      pool/pool-0.parquet ...  id, text
      targets/blend.jsonl ...  text; of a mixture of four sources, and of a single one
      truth/documents.parquet  id, source, n_symbols, original
      truth/blend.json ...     ids of the documents of right sources
      truth/truth.json         sources; w* and exact losses of each target
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.writers import write_parquet
from prill.errors import RecipeError
from prill.run.atomic import atomic_write
from prill.study.laboratory.bigram_lab import BigramLab, lab_targets, scaled_lab
from prill.study.laboratory.chains import sample_documents

__all__ = ["LAB_VERSION", "Laboratory", "Size", "words", "write_laboratory"]

LAB_VERSION = 1
Size = Literal["small", "full"]
N_SYMBOLS = 64
SHORTEST, LONGEST = 64, 512


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """How much is written, and how long trials last."""

    pool_symbols: int
    target_documents: int
    n_files: int
    trials: str


_SCALES: dict[str, _Scale] = {
    "small": _Scale(
        pool_symbols=300_000,
        target_documents=120,
        n_files=2,
        trials="{size: pico, tokens: 24k, checkpoints: [1.0], seeds: 2, rows: 4, row_tokens: 128, "
        "eval_tokens: 4000}",
    ),
    "full": _Scale(
        pool_symbols=20_000_000,
        target_documents=300,
        n_files=8,
        trials="{size: pico, tokens: 1M, checkpoints: [0.25, 0.5, 1.0], seeds: 3, control_multiple: 4}",
    ),
}

RECIPE = """\
# The laboratory of chains, {size}, seed {seed}: the right choice is known (truth/), methods do not see it.
name: laboratory of chains ({size}, seed {seed})
seed: {seed}
corpus: {{paths: [pool/*.parquet]}}
targets:
  blend: {{paths: [targets/blend.jsonl], members: truth/blend.json, budget: 10%}}
  single: {{paths: [targets/single.jsonl], members: truth/single.json, budget: 5%}}
duplicates: keep  # one source writes every document {n_copies} times; a method should see through it
tokenizer: {{vocab_size: 512}}
budget: 10%
arms:
{arms}
unfit: leave_out
trials: {trials}
output: run
"""


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """What was written: the recipe, and how much text."""

    folder: Path
    recipe: Path
    n_documents: int
    n_symbols: int


def write_laboratory(
    folder: Path,
    *,
    size: Size = "small",
    seed: int = 0,
    arms: Sequence[str] = ("dsir", "fresh_random"),
    has_trials: bool = True,
) -> Laboratory:
    """Write pool, target, truth and recipe; the same files for the same arguments.

    Args:
        folder: made if missing; files of an earlier laboratory are replaced.
        size: `small` takes seconds (0.3 M words), `full` has 20 M words and 300 target documents.
        seed: of the chains and the documents.
        arms: methods of the recipe, with their default settings.
        has_trials: whether the recipe trains proxies too; the verdicts here need none.
    Raises:
        RecipeError: no such size, or no arms.
        ResourceError: the disk is full or not writable.
    """
    if size not in _SCALES or not arms:
        raise RecipeError(
            f"expected a size of {', '.join(_SCALES)} and at least one arm, found {size!r}, {list(arms)}",
            where="laboratory",
        )
    scale, lab = _SCALES[size], scaled_lab(seed, n_symbols=N_SYMBOLS)
    rng = np.random.default_rng([seed, 1])
    for name in ("pool", "targets", "truth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    n_documents, n_symbols = _write_pool(folder, lab, scale, rng)
    for name, target in lab_targets(lab).items():
        _write_target(folder / "targets" / f"{name}.jsonl", target, scale.target_documents, rng)
    atomic_write(folder / "truth" / "truth.json", orjson.dumps(_truth(lab, size, seed), option=_PRETTY))
    recipe = RECIPE.format(
        size=size,
        seed=seed,
        n_copies=max(source.n_copies for source in lab.sources),
        arms="\n".join(f"  - {{method: {arm}}}" for arm in arms),
        trials=scale.trials if has_trials else "null",
    )
    atomic_write(folder / "recipe.yaml", recipe.encode())
    return Laboratory(
        folder=folder, recipe=folder / "recipe.yaml", n_documents=n_documents, n_symbols=n_symbols
    )


_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS


def words(n_symbols: int) -> list[str]:
    """A word of three letters for each symbol: consonant, vowel, consonant, at most 1,280 of them.

    Raises:
        RecipeError: there are not so many.
    """
    syllables = ["".join(part) for part in itertools.product("bdfgklmnprstvzhj", "aeiou", "bdgklmnprstvzfhj")]
    if not 0 < n_symbols <= len(syllables):
        raise RecipeError(f"expected 1 to {len(syllables)} symbols, found {n_symbols}", where="laboratory")
    return [syllables[number * len(syllables) // n_symbols] for number in range(n_symbols)]


def _lengths(n_documents: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.integers(SHORTEST, LONGEST + 1, n_documents)


def _write_pool(folder: Path, lab: BigramLab, scale: _Scale, rng: np.random.Generator) -> tuple[int, int]:
    """Every source gets about as many symbols; documents are shuffled, then numbered."""
    documents: list[NDArray[np.int64]] = []
    sources: list[int] = []
    originals: list[int] = []
    each = max(1, 2 * scale.pool_symbols // (len(lab.sources) * (SHORTEST + LONGEST)))
    for number, source in enumerate(lab.sources):
        n_written = max(1, each // source.n_copies)
        for document in source.documents(_lengths(n_written, rng), rng):
            originals += [len(documents)] * source.n_copies
            sources += [number] * source.n_copies
            documents += [document] * source.n_copies
    order = rng.permutation(len(documents))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ids = [f"d{number:07d}" for number in range(len(order))]
    vocabulary = np.array(words(lab.n_symbols), object)
    texts = [" ".join(vocabulary[documents[number]]) for number in order.tolist()]
    for index, part in enumerate(np.array_split(np.arange(len(order)), scale.n_files)):
        first, stop = int(part[0]), int(part[-1]) + 1
        table = {
            "id": pa.array(ids[first:stop]),
            "text": pa.array(texts[first:stop], pa.large_string()),
        }
        write_parquet(folder / "pool" / f"pool-{index}.parquet", pa.table(table))
    source_of = np.array(sources)[order]
    n_symbols = np.array([len(documents[number]) for number in order.tolist()], np.int64)
    truth = {
        "id": pa.array(ids),
        "source": source_of,
        "n_symbols": n_symbols,
        "original": place[np.array(originals)[order]],
    }
    write_parquet(folder / "truth" / "documents.parquet", pa.table(truth))
    for name, target in lab_targets(lab).items():
        members = [ids[number] for number in np.flatnonzero(target.right[source_of] > 0).tolist()]
        atomic_write(folder / "truth" / f"{name}.json", orjson.dumps(members))
    return len(ids), int(n_symbols.sum())


def _write_target(path: Path, lab: BigramLab, n_documents: int, rng: np.random.Generator) -> None:
    vocabulary = np.array(words(lab.n_symbols), object)
    found = sample_documents(lab.target_chain, _lengths(n_documents, rng), rng)
    lines = [orjson.dumps({"text": " ".join(vocabulary[document])}) + b"\n" for document in found]
    atomic_write(path, b"".join(lines))


def _truth(lab: BigramLab, size: str, seed: int) -> dict[str, Any]:
    """What is exactly known."""
    equal = np.full(len(lab.sources), 1 / len(lab.sources))
    alone = np.eye(len(lab.sources))
    return {
        "version": LAB_VERSION,
        "size": size,
        "seed": seed,
        "n_symbols": lab.n_symbols,
        "sources": [{"name": source.name, "kind": source.kind} for source in lab.sources],
        "targets": {
            name: {
                "right": target.right.tolist(),
                "entropy_rate_nats": target.loss(target.right),
                "regret_of_equal_shares_nats": target.regret(equal),
                "regret_of_each_alone_nats": [target.regret(shares) for shares in alone],
            }
            for name, target in lab_targets(lab).items()
        },
    }
