"""Teaching: how much a student's exam improves after a few steps on a group of documents.

Every group starts from the same checkpoint with its optimiser's moments and gets the same number of steps,
rows and tokens; so do groups drawn at random from the whole pool, which everything is measured against.
Groups are copies of the student in one stack.

Source: Ning et al. 2024, arXiv:2406.14629 (learning by teaching); the version by update steps on groups of
pretraining documents is ours. Legend: G groups, R exams, S students, C controls of random text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.checkpoints import Warmed, end_of_text, exam_of
from prill.features.clusters import Clusters
from prill.features.feature import Given, WholeFeature
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.picking import all_places, tokens_at
from prill.run.atomic import atomic_write

if TYPE_CHECKING:
    from prill.lm.data import Rows, TokenStream

__all__ = ["Gains", "Taught", "gains_of"]


@dataclass(frozen=True, kw_only=True)
class Taught(WholeFeature):
    """Exam losses of one student after lessons on each cluster, and on random text of equal tokens.

    Attributes:
        student: a checkpoint with moments.
        clusters: the groups.
        targets: whose fit items are the exams.
        n_steps, n_rows: of a lesson, in rows of the student's length.
        n_random: C.
        n_exam_tokens: of each target at most.
        longest: tokens of a document that count.
        rate_share: learning rate as a share of the checkpoint's.
        n_together: lessons in one stack.
    """

    kind: ClassVar[str] = "taught"
    is_apart: ClassVar[bool] = True
    student: Warmed
    clusters: Clusters
    targets: tuple[str, ...]
    n_steps: int = 8
    n_rows: int = 2
    n_random: int = 8
    n_exam_tokens: int = 2048
    longest: int = 512
    rate_share: float = 1.0
    n_together: int = 16

    @property
    def label(self) -> str:
        proxy = self.student.proxy
        return f"teach clusters to the {proxy.size} model ({proxy.use})"

    @property
    def files(self) -> tuple[str, ...]:
        return ("taught.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from safetensors.numpy import save

        from prill.lm.copies import Copies, TrainingState
        from prill.lm.data import TokenStream

        state = TrainingState.load(given.file(self.student))
        length, prefix = state.shape.seq_len, end_of_text(given)
        groups, numbers = self.groups(given, n_tokens=self.n_steps * self.n_rows * length)
        exams = [exam_of(given, name, self.n_exam_tokens, length) for name in self.targets]
        examined = Copies(state, 1)
        before = examined.losses(exams)[0]
        flops, after, n_tokens = examined.flops, [], []
        for first in range(0, len(groups), self.n_together):
            here = groups[first : first + self.n_together]
            docs = tokens_at(given, np.concatenate(here), longest=self.longest)
            streams, at = [], 0
            for group in here:
                own = docs[at : at + len(group)]
                streams.append(TokenStream.from_documents(list(own), eos=prefix, name="a lesson"))
                at += len(group)
            copies = Copies(state, len(here))
            for step in range(self.n_steps):
                copies.step(self.rows(streams, step, length), state.rate * self.rate_share)
            after.append(copies.losses(exams))
            flops += copies.flops
            n_tokens += [stream.n_tokens for stream in streams]
        losses = np.concatenate(after)
        arrays = {
            "before": before,
            "after": np.ascontiguousarray(losses[: len(numbers)]),
            "random": np.ascontiguousarray(losses[len(numbers) :]),
            "group": numbers,
            "n_tokens": np.array(n_tokens[: len(numbers)], np.int64),
        }
        atomic_write(paths[0], save(dict(sorted(arrays.items()))))
        return {"n_groups": len(numbers), "n_random": self.n_random, "flops": flops}

    def groups(self, given: Given, *, n_tokens: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """(shard, row) of the documents of each cluster and then of each control; and the clusters' numbers.

        Documents are taken in keyed order until they hold the tokens of a lesson; a cluster with less is read
        again from its start.

        Raises:
            DataError: no document that may be chosen has a cluster.
        """
        place, keys, sizes = all_places(given)
        cluster = np.empty(len(place), np.int64)
        for shard in range(given.pool.n_shards):
            here = place[:, 0] == shard
            cluster[here] = self.clusters.read(given, shard)[0][place[here, 1]]
        if not (cluster >= 0).any():
            raise DataError("expected documents with a cluster, found none that may be chosen")
        sizes = np.minimum(sizes, self.longest)

        def lesson(rows: NDArray[np.int64], use: str) -> NDArray[np.int64]:
            draws = keyed_uniform(derive_seed(given.seed, use), keys[rows])
            order = rows[np.lexsort((place[rows, 1], place[rows, 0], draws))]
            before = np.cumsum(sizes[order]) - sizes[order]
            return place[order[before < n_tokens]]

        numbers = np.unique(cluster[cluster >= 0])
        found = [lesson(np.flatnonzero(cluster == number), "lesson") for number in numbers.tolist()]
        every = np.flatnonzero(cluster >= 0)
        found += [lesson(every, f"lesson of random text {c}") for c in range(self.n_random)]
        return found, numbers

    def rows(self, streams: Sequence[TokenStream], step: int, length: int) -> Rows:
        """The rows of a step, the same places of every stream, (K, B, T)."""
        from prill.lm.data import rows_of, stack_rows

        numbers = np.arange(step * self.n_rows, (step + 1) * self.n_rows)
        return stack_rows([rows_of(stream, numbers, seq_len=length) for stream in streams])


@dataclass(frozen=True, kw_only=True)
class Gains:
    """What lessons gave over random text, nats a token.

    Attributes:
        gain: mean over students, float64, (G, R).
        error: standard error over students, paired, (G, R); NaN for one student.
        noise: deviation of the controls' own gains, (R,): what a lesson of equal tokens scatters by.
    """

    gain: NDArray[np.float64]
    error: NDArray[np.float64]
    noise: NDArray[np.float64]


def gains_of(before: NDArray[np.float64], after: NDArray[np.float64], random: NDArray[np.float64]) -> Gains:
    """Gain = (before - after) - mean over controls of (before - random), a mean over students.

    Args:
        before: each student's exam losses, (S, R).
        after: behind each lesson, (S, G, R).
        random: behind each control, (S, C, R).
    """
    own = before[:, None] - after
    control = before[:, None] - random
    paired = own - control.mean(axis=1, keepdims=True)
    n_students, n_controls = len(before), random.shape[1]
    error = np.full(paired.shape[1:], np.nan)
    if n_students > 1:
        error = paired.std(axis=0, ddof=1) / n_students**0.5
    scatter = (control - control.mean(axis=1, keepdims=True)).mean(axis=0)
    noise = scatter.std(axis=0, ddof=1) if n_controls > 1 else np.full(before.shape[1], np.nan)
    return Gains(gain=paired.mean(axis=0), error=error, noise=noise)
