"""Judges choices from a laboratory of chains, exactly and without training.

The ids that an arm chose give the shares of its sources, and those its regret: what a learner that has read
the choice without end pays on the target beyond the best mixture. A choice is right if it avoids the decoys,
comes near the best shares, and beats a random choice.

Source: none. A random choice is one of as many words: the fewer they are, the further its shares are by
chance from the pool's, and the higher its regret; the mean over some draws is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.errors import DataError
from prill.study.laboratory.bigram_lab import BigramLab, lab_targets, scaled_lab
from prill.study.laboratory.writing import LAB_VERSION

__all__ = ["MOST_DECOYS", "NEAR", "Verdict", "judge_laboratory", "verdict_table"]

MOST_DECOYS = 0.05
"""Share of the chosen words that decoys may have; equal shares give them a fifth."""
NEAR = 0.1
"""Total variation to w* below which the shares are right."""
N_RANDOM = 32
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of one arm's choice. Shares are of words.

    Attributes:
        arm: its name.
        n_documents, n_words: how much it chose.
        precision: share of the right sources.
        decoy_share: share of the decoys.
        repeated_share: share of documents that it also chose in an earlier copy.
        distance: total variation to w*.
        regret_nats: L(w) - L(w*), nats a word, for a learner that read such a choice without end.
        random_regret_nats: mean over random choices of as many words.
        shares: of each source, in the order of the truth.
    """

    arm: str
    n_documents: int
    n_words: int
    precision: float
    decoy_share: float
    repeated_share: float
    distance: float
    regret_nats: float
    random_regret_nats: float
    shares: tuple[float, ...]

    @property
    def avoids_decoys(self) -> bool:
        """Decoys have next to nothing of the choice."""
        return self.decoy_share < MOST_DECOYS

    @property
    def is_near(self) -> bool:
        """Its shares are about the best ones."""
        return self.distance < NEAR

    @property
    def beats_random(self) -> bool:
        """Its regret is smaller than that of a random choice."""
        return self.regret_nats < self.random_regret_nats - ROUNDING

    @property
    def finds_it(self) -> bool:
        """All three."""
        return self.avoids_decoys and self.is_near and self.beats_random

    @property
    def sentence(self) -> str:
        """Whether it finds the right choice, and if not, what fails."""
        failures = [
            text
            for is_right, text in (
                (self.avoids_decoys, f"{self.decoy_share:.0%} of its words are decoys"),
                (self.is_near, f"its shares are {self.distance:.2f} from the best"),
                (
                    self.beats_random,
                    f"its regret of {self.regret_nats:.3f} nats is no less than random's "
                    f"{self.random_regret_nats:.3f}",
                ),
            )
            if not is_right
        ]
        if not failures:
            return f"{self.arm} finds the right choice"
        beats = (
            f", though it beats random ({self.regret_nats:.3f} nats against {self.random_regret_nats:.3f})"
        )
        return f"{self.arm} does not find it: {'; '.join(failures)}{beats if self.beats_random else ''}"


def judge_laboratory(
    folder: Path, chosen: Mapping[str, Collection[str]], *, target: str = "blend"
) -> list[Verdict]:
    """A verdict on every arm's choice for one target, in the order given.

    Args:
        folder: of `write_laboratory`.
        chosen: ids of the documents that each arm chose.
        target: `blend` or `single`.
    Raises:
        DataError: the folder holds no laboratory of this version or no such target, an arm chose nothing,
            or an id that the pool does not hold.
    """
    lab = _laboratory(folder, target)
    documents = read_columns(folder / "truth" / "documents.parquet")
    place = {name: number for number, name in enumerate(documents["id"].to_pylist())}
    source, n_words, original = (documents[name].to_numpy() for name in ("source", "n_symbols", "original"))
    draws = np.random.default_rng(0)
    orders = [draws.permutation(len(source)) for _ in range(N_RANDOM)]

    def random_regret(amount: int) -> float:
        """Of choices that end with the document that fills `amount` words."""
        taken = [order[: int(np.searchsorted(np.cumsum(n_words[order]), amount)) + 1] for order in orders]
        return float(np.mean([lab.regret(_shares(lab, source[rows], n_words[rows])) for rows in taken]))

    found = []
    for arm, ids in chosen.items():
        unknown = sorted(set(ids) - place.keys())
        if unknown or not ids:
            raise DataError(
                f"arm `{arm}`: expected ids of the pool, found {unknown[0] if unknown else 'none'}",
                where=str(folder),
            )
        rows = np.array(sorted(place[name] for name in set(ids)), np.int64)
        shares = _shares(lab, source[rows], n_words[rows])
        decoys = np.array([s.is_decoy for s in lab.sources])
        found.append(
            Verdict(
                arm=arm,
                n_documents=len(rows),
                n_words=int(n_words[rows].sum()),
                precision=float(shares[lab.right > 0].sum()),
                decoy_share=float(shares[decoys].sum()),
                repeated_share=1 - len(np.unique(original[rows])) / len(rows),
                distance=lab.distance(shares),
                regret_nats=lab.regret(shares),
                random_regret_nats=random_regret(int(n_words[rows].sum())),
                shares=tuple(shares.tolist()),
            )
        )
    return found


def verdict_table(verdicts: Collection[Verdict]) -> str:
    """The verdicts as a Markdown table, best regret first."""
    head = "| arm | right sources | decoys | copies | TV to w* | regret, nats a word | finds it |"
    lines = [head, "|" + "---|" * 7]
    for one in sorted(verdicts, key=lambda v: (v.regret_nats, v.arm)):
        lines.append(
            f"| {one.arm} | {one.precision:.1%} | {one.decoy_share:.1%} | {one.repeated_share:.1%} "
            f"| {one.distance:.3f} | {one.regret_nats:.4f} | {'yes' if one.finds_it else 'no'} |"
        )
    return "\n".join(lines)


def _shares(lab: BigramLab, source: NDArray[Any], n_words: NDArray[Any]) -> NDArray[np.float64]:
    sums = np.bincount(source, n_words, len(lab.sources))
    return np.asarray(sums / sums.sum())


def _laboratory(folder: Path, target: str) -> BigramLab:
    """The laboratory that was written, made again from its seed."""
    path = folder / "truth" / "truth.json"
    if not path.is_file():
        raise DataError("expected a laboratory, found none", where=str(path), hint="write one: `prill lab`")
    truth = orjson.loads(path.read_bytes())
    if truth.get("version") != LAB_VERSION:
        raise DataError(
            f"expected a laboratory of version {LAB_VERSION}, found {truth.get('version')}", where=str(path)
        )
    known = lab_targets(scaled_lab(truth["seed"], n_symbols=truth["n_symbols"]))
    if target not in known:
        raise DataError(f"expected a target of {', '.join(known)}, found {target!r}", where=str(path))
    lab = known[target]
    if abs(lab.loss(lab.right) - truth["targets"][target]["entropy_rate_nats"]) > 1e-9:
        raise DataError(
            f"expected the chains of seed {truth['seed']}, found others",
            where=str(path),
            hint="this version of numpy draws other numbers; write the laboratory again",
        )
    return lab
