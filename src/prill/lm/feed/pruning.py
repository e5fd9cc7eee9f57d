"""Which rows an epoch reads, decided from the losses that training has seen: SeTa and InfoBatch.

A planner is a pure function of the rows' latest losses, the epoch's number and a seed. SeTa thins the rows at
random, groups them by loss, and reads a window of groups that slides from easy to hard and around; InfoBatch
thins the rows whose loss is below the mean and weighs those it keeps by what it dropped. Both end on (nearly)
all rows.

Sources: Zhou et al. 2025, arXiv:2503.13385 (SeTa); Qin et al. 2024, arXiv:2303.04947 (InfoBatch). N rows.
Differs: draws are keyed by seed, epoch and row (the reference's order on one process has no seed); groups are
the exact optimum (the reference starts k-means from a fixed seed).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.lm.data import Ints, row_order
from prill.lm.feed.loss_groups import loss_groups

__all__ = ["InfoBatch", "Planner", "SeTa", "Visits", "saved_share", "window"]

MOST_PRUNED = 0.9
"""The reference keeps at least a tenth whatever it is asked; here more is refused."""


@dataclass(frozen=True, kw_only=True)
class Visits:
    """The rows of one epoch.

    Attributes:
        rows: their numbers in reading order, int64, (n,), each at most once.
        weights: factor of each row's loss, float32, (n,).
    """

    rows: Ints
    weights: NDArray[np.float32]


class Planner(Protocol):
    """Decides an epoch. `delta` is the share of the training behind which the planner ends on all rows."""

    @property
    def delta(self) -> float: ...

    @property
    def initial_loss(self) -> float | None: ...

    def plan(self, losses: NDArray[np.float64], epoch: int, *, is_last: bool, seed: int) -> Visits:
        """The visits of an epoch.

        Args:
            losses: latest loss of every row, nats a token, float64, (N,).
            epoch: number from 0.
            is_last: more than `delta` of the training is done.
            seed: of this training.
        """
        ...

    def as_record(self) -> dict[str, Any]:
        """Name, version and settings, JSON-able."""
        ...


@dataclass(frozen=True, kw_only=True)
class SeTa:
    """Random thinning, then a window over groups of like loss.

    Args:
        prune: share of the rows that thinning leaves out, 0 to 0.9.
        n_groups: G groups of like loss.
        window_scale: share of the groups that are read.
        delta: share of the training behind which the window opens: a random 1 - prune of all rows.
        initial_loss: loss of a row that was never read; None: the mean of those read. The reference's is 3.
    Raises:
        RecipeError: a value is out of bounds.
    """

    prune: float = 0.0
    n_groups: int = 10
    window_scale: float = 0.5
    delta: float = 0.875
    initial_loss: float | None = None

    def __post_init__(self) -> None:
        _check_shares(self.prune, self.delta)
        if self.n_groups < 1 or not 0 < self.window_scale <= 1:
            raise RecipeError(
                f"SeTa needs a group and a window of 0 to 1, found {self.n_groups} and {self.window_scale}",
                where="seta",
            )

    def plan(self, losses: NDArray[np.float64], epoch: int, *, is_last: bool, seed: int) -> Visits:
        """The rows of an epoch, all of weight 1."""
        n_rows = len(losses)
        kept = _shuffled(n_rows, seed, epoch, "thin")[: max(1, _kept(n_rows, self.prune))]
        if not is_last:
            kept = kept[self._is_inside(losses[kept], epoch)]
        rows = kept[_shuffled(len(kept), seed, epoch, "order")]
        return Visits(rows=rows, weights=np.ones(len(rows), np.float32))

    def _is_inside(self, losses: NDArray[np.float64], epoch: int) -> NDArray[np.bool_]:
        """Which of the thinned rows lie in the window."""
        if losses.min() == losses.max():  # nothing to tell them apart: stretches of the random order
            groups = np.arange(len(losses)) * self.n_groups // len(losses)
        else:
            groups = loss_groups(losses, self.n_groups)
        start, stop = window(int(groups.max()) + 1, self.window_scale, epoch)
        return np.asarray((groups >= start) & (groups < stop))

    def as_record(self) -> dict[str, Any]:
        return {"name": "seta", "version": 1, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class InfoBatch:
    """Soft pruning: rows below the mean loss are thinned, and those kept of them weighed up by as much.

    The expected gradient of an epoch is that of all rows.

    Args:
        prune: share of the rows below the mean that is left out, 0 to 0.9.
        delta: share of the training behind which all rows are read, with weight 1.
        initial_loss: as in `SeTa`.
    Raises:
        RecipeError: a value is out of bounds.
    """

    prune: float = 0.5
    delta: float = 0.875
    initial_loss: float | None = None

    def __post_init__(self) -> None:
        _check_shares(self.prune, self.delta)

    def plan(self, losses: NDArray[np.float64], epoch: int, *, is_last: bool, seed: int) -> Visits:
        """The rows of an epoch; those kept from below the mean weigh 1 / (1 - prune)."""
        order = _shuffled(len(losses), seed, epoch, "thin")
        is_below = losses < losses.mean() if losses.min() < losses.max() else np.zeros(len(losses), np.bool_)
        if is_last:
            is_below[:] = False
        below = order[is_below[order]]
        kept = below[: _kept(len(below), self.prune)]
        weights = np.ones(len(losses), np.float32)
        weights[kept] = 1 / (1 - self.prune)
        rows = np.concatenate([order[~is_below[order]], kept])
        rows = rows[_shuffled(len(rows), seed, epoch, "order")]
        return Visits(rows=rows, weights=weights[rows])

    def as_record(self) -> dict[str, Any]:
        return {"name": "infobatch", "version": 1, **asdict(self)}


def window(n_groups: int, scale: float, call: int) -> tuple[int, int]:
    """First group of the window and the first behind it, in the `call`-th planned epoch, from 0.

    The first epoch reads all groups; after that the window starts one further each time, from 1, and around.
    Its length is rounded half to even, at least 1.

    Source: the reference's sampler.
    """
    length = max(1, round(n_groups * scale))
    if call == 0:
        return 0, n_groups
    start = call % (n_groups - length + 1)
    return start, start + length


def saved_share(n_visits: int, n_rows: int, n_epochs: int) -> float:
    """Share of the visits of `n_epochs` full epochs that pruning left out."""
    return 1 - n_visits / (n_rows * n_epochs)


def _check_shares(prune: float, delta: float) -> None:
    if not 0 <= prune <= MOST_PRUNED or not 0 <= delta <= 1:
        raise RecipeError(
            f"pruning must be a share of 0 to {MOST_PRUNED}, delta one of 0 to 1; found {prune} and {delta}",
            where="pruning",
            hint=f"the reference turns larger shares into {MOST_PRUNED} without a word",
        )


def _kept(count: int, prune: float) -> int:
    """Whole rows that thinning keeps; 10 rows thinned by 0.9 leave 1, whatever the rounding of 1 - 0.9."""
    return int(round(count * (1 - prune), 6))


def _shuffled(count: int, seed: int, epoch: int, use: str) -> Ints:
    """0 to `count` in the order of a hash of seed, epoch, use and number."""
    key = int.from_bytes(hashlib.sha256(f"prill-prune-1:{seed}:{epoch}:{use}".encode()).digest()[:8], "big")
    return row_order(0, count, seed=key, block=max(2, count), total=count)
