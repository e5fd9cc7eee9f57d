"""Averages of one run's snapshots in place of a decay: which weights, and the averaged model on disk.

Along a constant learning rate, theta_j = theta_0 + sum of the updates g_1 .. g_j. A mean with weights c_j
is therefore theta_0 + sum of d_i g_i with d_i = c_i + c_(i+1) + ...: to first order the run whose rate was
multiplied by d_i. So a decay chooses the weights (`decay_weights`), and equal weights are a linear decay.
The gradients along a decayed path would differ: it is an approximation, and none for an arm that is compared
with truly decayed ones. Average all arms, or none; stay within one stable phase and one stage of the data.

Snapshots come from a training with `schedule: constant` (each token count saves one). Files are read
one at a time and checked as they are, and summed in fp64: memory is a model and its sum, however many there
are; of a sharded folder, one shard.

Source: LAWA: Kaddour 2022, arXiv:2209.14981; SWA: Izmailov et al. 2018, arXiv:1803.05407; the identity: the
algebra above. Optimiser states are never averaged. K snapshots, in the order of training.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from prill.errors import DataError, RecipeError
from prill.lm.schedule import Curve, Phase
from prill.lm.tensorfile import read_header, read_tensors, require_finite, write_tensors
from prill.run.atomic import atomic_write, machine_errors, make_folder

__all__ = ["average_models", "decay_weights", "ema_weights", "uniform_weights", "weights_of_multipliers"]

OWN_CONFIG, OWN_WEIGHTS, WHERE = "model.json", "model.safetensors", "checkpoint averaging"


def uniform_weights(n_snapshots: int, *, last: int | None = None) -> list[float]:
    """LAWA: equal weights on the `last` snapshots, default all; 0 on those before.

    >>> uniform_weights(4, last=2)
    [0.0, 0.0, 0.5, 0.5]
    """
    n_last = n_snapshots if last is None else last
    if not 1 <= n_last <= n_snapshots:
        raise RecipeError(f"a window takes 1 to {n_snapshots} snapshots, found {n_last}", where=WHERE)
    return [0.0] * (n_snapshots - n_last) + [1 / n_last] * n_last


def ema_weights(n_snapshots: int, *, beta: float) -> list[float]:
    """An exponential moving average that started with nothing: beta^(K - j), scaled to sum to 1.

    Args:
        n_snapshots: K.
        beta: decay from one snapshot to the next; for b a step and snapshots every s steps it is b^s. 0 is
            the last snapshot alone.
    """
    if n_snapshots < 1 or not 0 <= beta < 1:
        raise RecipeError(
            f"an average needs a snapshot and 0 <= beta < 1, found {n_snapshots} and {beta}", where=WHERE
        )
    found = [beta ** (n_snapshots - 1 - j) for j in range(n_snapshots)]
    return [weight / math.fsum(found) for weight in found]


def weights_of_multipliers(multipliers: Sequence[float]) -> list[float]:
    """Weights c_1 .. c_K whose mean has the rate multipliers d_1 .. d_K: c_j = d_j - d_(j+1).

    They sum to d_1; where d_1 < 1 the rest belongs to the snapshot before the first.

    Raises:
        RecipeError: multipliers rise, or leave 0 to 1: an average cannot warm up.

    >>> weights_of_multipliers([1, 0.5, 0.25])
    [0.5, 0.25, 0.25]
    """
    following = [*multipliers[1:], 0.0]
    if (
        not multipliers
        or multipliers[0] > 1
        or any(a < b for a, b in zip(multipliers, following, strict=True))
    ):
        raise RecipeError(
            f"rate multipliers must fall from at most 1 and end at 0 or above, found {list(multipliers)}",
            where=WHERE,
        )
    return [a - b for a, b in zip(multipliers, following, strict=True)]


def decay_weights(steps: Sequence[int], *, curve: Curve = "linear", floor: float = 0.0) -> list[float]:
    """Weights whose mean stands for a decay from the first snapshot to the last.

    The updates between two snapshots get the decay's rate at the middle of their interval.

    Args:
        steps: steps (or tokens) of the snapshots, rising; the first is where the decay would begin.
        curve: of the decay.
        floor: rate at its end, as a share of the constant one.
    Raises:
        RecipeError: fewer than two snapshots, or steps that do not rise.
    """
    if len(steps) < 2 or any(b <= a for a, b in pairwise(steps)):
        raise RecipeError(f"a decay needs two or more rising snapshots, found {list(steps)}", where=WHERE)
    decay = Phase(start=0, stop=steps[-1] - steps[0], first=1.0, last=floor, curve=curve)
    middles = [(a + b) / 2 - steps[0] for a, b in pairwise(steps)]
    found = weights_of_multipliers([decay.value(middle) for middle in middles])
    return [1.0 - math.fsum(found), *found]


def average_models(folders: Sequence[Path], weights: Sequence[float], into: Path) -> list[Path]:
    """Write the weighted mean of models of equal layout; returns the files.

    Works on Prill's own folders and on `transformers` folders whose weight files have the same names. Files
    other than weights are those of the last snapshot. Types stay as they are; sums are fp64. Snapshots of
    weight 0 are not read.

    Args:
        folders: snapshots of one run, in order.
        weights: one each; they sum to 1.
        into: made if absent.
    Raises:
        RecipeError: the weights do not sum to 1, or are not one a folder.
        DataError: layouts or stages differ, or a file is absent, damaged or not finite.
        ResourceError: the disk is full or not writable.
    """
    if len(folders) != len(weights) or not math.isclose(math.fsum(weights), 1.0, abs_tol=1e-9):
        raise RecipeError(
            f"an average needs one weight a snapshot that sum to 1, found {len(folders)} snapshots and "
            f"{len(weights)} weights that sum to {math.fsum(weights)}",
            where=WHERE,
        )
    taken = [(folder, weight) for folder, weight in zip(folders, weights, strict=True) if weight]
    files = sorted(path.name for path in taken[-1][0].glob("*.safetensors"))
    if not files:
        raise DataError(
            "expected a model in safetensors, found none", where=str(taken[-1][0]), hint="convert it first"
        )
    is_own = (taken[-1][0] / OWN_CONFIG).is_file()
    make_folder(into)
    note = {"averaged": [{"folder": folder.name, "weight": weight} for folder, weight in taken]}
    about = _own_config(taken, note) if is_own else note
    written = []
    for name in files:
        parts = [(folder / name, weight) for folder, weight in taken]
        write_tensors(into / name, _mean(parts, is_own=is_own), about)
        written.append(into / name)
    if is_own:
        atomic_write(into / OWN_CONFIG, json.dumps(about, indent=1, sort_keys=True).encode() + b"\n")
        return [*written, into / OWN_CONFIG]
    return written + _copied(taken[-1][0], into)


def _mean(parts: Sequence[tuple[Path, float]], *, is_own: bool) -> dict[str, torch.Tensor]:
    """The mean of one file of all snapshots, in the type of the last; integers must be equal."""
    sums: dict[str, torch.Tensor] = {}
    last: dict[str, torch.Tensor] = {}
    for path, weight in parts:
        found, _ = read_tensors(path, is_own=is_own)
        if last:
            _check_layout(path, last, found)
        for name, tensor in found.items():
            if tensor.is_floating_point():
                require_finite(name, tensor, path)
                add = tensor.double().mul_(weight)
                sums[name] = sums[name].add_(add) if name in sums else add
        last = found
    return {name: sums[name].to(tensor.dtype) if name in sums else tensor for name, tensor in last.items()}


def _check_layout(path: Path, one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    for name in sorted({*one, *other}):
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.shape != b.shape or a.is_floating_point() != b.is_floating_point():
            raise DataError(
                f"snapshots must have the same parameters: {name} is {_told(a)} in the one before, "
                f"found {_told(b)}",
                where=str(path),
            )
        if not a.is_floating_point() and not torch.equal(a, b):
            raise DataError(f"the whole numbers in {name} must be equal in all snapshots", where=str(path))


def _told(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"


def _own_config(taken: Sequence[tuple[Path, float]], note: Mapping[str, Any]) -> dict[str, Any]:
    """The header of the mean: the last snapshot's, once shape and stage are known to be equal."""
    configs = [(folder, read_header(folder / OWN_WEIGHTS)) for folder, _ in taken]
    last = configs[-1][1]
    for folder, config in configs:
        if config.get("shape") != last.get("shape"):
            raise DataError(
                f"snapshots must have one shape, {last.get('shape')}, found {config.get('shape')}",
                where=str(folder),
            )
        stages = [config.get("meta", {}).get("stage"), last.get("meta", {}).get("stage")]
        if stages[0] != stages[1]:
            raise DataError(
                f"snapshots must be of one stage of the data, {stages[1]!r}, found {stages[0]!r}",
                where=str(folder),
                hint="an average across a change of data blends the stages: take later snapshots only",
            )
    return {**last, "meta": {**last.get("meta", {}), **note}}


def _copied(source: Path, into: Path) -> list[Path]:
    """Configuration, tokenizer and index of the last snapshot."""
    found = [
        path for path in sorted(source.iterdir()) if path.suffix in {".json", ".txt", ".model", ".jinja"}
    ]
    for path in found:
        with machine_errors(into / path.name):
            shutil.copyfile(path, into / path.name)
    return [into / path.name for path in found]
