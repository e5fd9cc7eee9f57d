"""Language scores: a byte automaton that finds features, and a naive Bayes table that weighs them.

An entry of the automaton is the row of the next state (upper 16 bits) and the state's place among those that
share the row (lower 16 bits), so that a step waits for one load. Weights are half floats, 144 of a row.

Legend: D documents, L labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._byte_mask_kernel import code_at
from prill.features._composition_kernel import IS_LOWER, IS_UPPER, UNSTABLE
from prill.features._jit import inlined, kernel, prefetch

__all__ = ["GROUP", "ROW", "WALKERS", "mark_odd", "score_languages"]

ROW = 144
"""Weights of a feature, half floats; the labels, and zeros behind them."""

GROUP = 4
"""Rows that are added at once."""

WALKERS = 8
"""Documents that are walked at once: each waits for memory while the others go on."""

_AHEAD = 20
_NEGLIGIBLE = np.float32(-25.0)  # e to this power is below a float's last digit beside 1

_LANES = 16
_HALVES = ir.VectorType(ir.IntType(16), _LANES)
_HALF_FLOATS = ir.VectorType(ir.HalfType(), _LANES)
_FLOATS = ir.VectorType(ir.FloatType(), _LANES)


def _add_rows(typingctx: Any, weights: Any, rows: Any, factors: Any, first: Any, sums: Any) -> Any:
    """sums[:ROW] += factors[k] * weights[rows[k]:rows[k] + ROW], half floats, for GROUP k from `first`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def pointer(k: int) -> Any:
            return context.make_array(signature.args[k])(context, builder, args[k]).data

        def number(k: int) -> Any:
            return ir.IntType(64)(k)

        sources, factors = [], []
        for k in range(GROUP):
            at = builder.add(args[3], number(k))
            row = builder.load(builder.gep(pointer(1), [at]))
            sources.append(builder.bitcast(builder.gep(pointer(0), [row]), _HALVES.as_pointer()))
            factor = builder.load(builder.gep(pointer(2), [at]))
            one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), factor, ir.IntType(32)(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
            factors.append(builder.shuffle_vector(one, ir.Constant(_FLOATS, ir.Undefined), zeros))
        target = builder.bitcast(pointer(4), _FLOATS.as_pointer())
        for lane in range(ROW // _LANES):
            place = builder.gep(target, [number(lane)])
            total = builder.load(place, align=4)
            for source, factor in zip(sources, factors, strict=True):
                half = builder.load(builder.gep(source, [number(lane)]), align=2)
                weight = builder.fpext(builder.bitcast(half, _HALF_FLOATS), _FLOATS)
                total = builder.fadd(total, builder.fmul(weight, factor))
            builder.store(total, place, align=4)
        return context.get_dummy_value()

    return types.void(weights, rows, factors, types.intp, sums), codegen


add_rows: Any = intrinsic(_add_rows)


@inlined
def _prefix_stop(data: NDArray[np.uint8], start: int, stop: int, n_bytes: int) -> int:
    """Where the first n_bytes of a document end, not within a character."""
    if stop - start <= n_bytes:
        return stop
    end = start + n_bytes
    while end > start and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


@kernel
def mark_odd(
    starts_D: NDArray[np.int64],
    ends_D: NDArray[np.int64],
    data: NDArray[np.uint8],
    n_bytes: int,
    table: NDArray[np.uint16],
    stops_D: NDArray[np.int64],
    is_odd_D: NDArray[np.bool_],
) -> None:
    """Where each document's first n_bytes end, and whether they may be all upper case or not composed.

    Args:
        table: of every code point (`composition.composition_table`).
    """
    for d in range(starts_D.shape[0]):
        start = starts_D[d]
        stop = _prefix_stop(data, start, ends_D[d], n_bytes)
        stops_D[d] = stop
        high, lower, upper = np.uint8(0), np.uint8(0), np.uint8(0)
        for i in range(start, stop):
            byte = data[i]
            high |= byte
            lower |= np.uint8(np.uint8(byte - np.uint8(0x61)) < 26)
            upper |= np.uint8(np.uint8(byte - np.uint8(0x41)) < 26)
        unstable = False
        if high >= 0x80:
            i, last = start, 0
            while i < stop:
                if data[i] < 0x80:
                    last = 0
                    i += 1
                    continue
                code, i = code_at(data, i, stop)
                entry = int(table[code])
                order = entry & 0xFF
                unstable |= order == UNSTABLE or (order != 0 and last > order)
                last = order
                lower |= np.uint8(entry & IS_LOWER != 0)
                upper |= np.uint8(entry & IS_UPPER != 0)
        is_odd_D[d] = unstable or (upper != 0 and lower == 0)


@inlined
def _step(entry: np.uint32, byte: np.uint8, moves: NDArray[np.uint32], order: NDArray[np.uint8]) -> np.uint32:
    row, column = entry >> np.uint32(16), np.uint32(order[byte])
    after: np.uint32 = moves[(row << np.uint32(8)) | column]
    return after


@inlined
def _walk(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    moves: NDArray[np.uint32],
    order: NDArray[np.uint8],
    root: np.uint32,
    path: NDArray[np.uint32],
) -> None:
    """The entries that WALKERS documents meet, one row of `path` each; together as long as all have bytes."""
    together = stops[0] - starts[0]
    for k in range(1, WALKERS):
        together = min(together, stops[k] - starts[k])
    entries = np.empty(WALKERS, np.uint32)
    entries[:] = root
    for i in range(together):
        for k in range(WALKERS):
            entries[k] = _step(entries[k], data[starts[k] + i], moves, order)
            path[k, i] = entries[k]
    for k in range(WALKERS):
        entry = entries[k]
        for i in range(together, stops[k] - starts[k]):
            entry = _step(entry, data[starts[k] + i], moves, order)
            path[k, i] = entry


@inlined
def _find_features(
    path: NDArray[np.uint32],
    n: int,
    first_state: NDArray[np.uint32],
    feature: NDArray[np.int32],
    counts: NDArray[np.int32],
    found: NDArray[np.int64],
) -> int:
    """Count feature f in counts[f + 1], list the rows of the different ones; how many."""
    n_found = 0
    for i in range(n):  # without branches, which nothing could foresee
        entry = path[i]
        f = np.int64(feature[first_state[entry >> np.uint32(16)] + (entry & np.uint32(0xFFFF))])
        found[n_found] = f * ROW
        n_found += (f >= 0) & (counts[f + 1] == 0)
        counts[f + 1] += 1
    return n_found


@inlined
def _sum_up(
    n_found: int,
    weights: NDArray[np.uint16],
    log_counts: NDArray[np.float32],
    counts: NDArray[np.int32],
    found: NDArray[np.int64],
    factors: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Weigh the features of `found`, and make `counts` zero again."""
    sums[:] = 0.0
    for k in range(n_found):
        f = found[k] // ROW
        n = np.int64(counts[f + 1])
        counts[f + 1] = 0
        factors[k] = log_counts[n] if n < log_counts.shape[0] else np.float32(np.log1p(float(n)))
    for k in range(n_found, n_found + GROUP + _AHEAD):
        found[k] = 0
        factors[k] = 0.0
    for k in range(0, n_found, GROUP):
        for j in range(k + _AHEAD, k + _AHEAD + GROUP):
            for part in range(0, ROW, 32):
                prefetch(weights, np.uint64(found[j] + part))
        add_rows(weights, found, factors, k, sums)


@inlined
def _decide(
    sums: NDArray[np.float32],
    prior: NDArray[np.float32],
    label_of: NDArray[np.int64],
    n_bytes: int,
    merged: NDArray[np.float32],
) -> tuple[int, np.float32]:
    """The likeliest label and its probability at a temperature of sqrt(n_bytes)."""
    scale = np.float32(1.0 / np.sqrt(float(n_bytes)))
    highest = np.float32(-np.inf)
    for c in range(prior.shape[0]):
        sums[c] = (sums[c] + prior[c]) * scale
        highest = max(highest, sums[c])
    total = np.float32(0.0)
    merged[:] = 0.0
    for c in range(prior.shape[0]):
        if sums[c] - highest > _NEGLIGIBLE:
            likelihood = np.float32(np.exp(sums[c] - highest))
            total += likelihood
            merged[label_of[c]] += likelihood
    best = 0
    for c in range(prior.shape[0]):
        if merged[c] > merged[best]:
            best = c
    return best, merged[best] / total


@kernel
def score_languages(
    starts_D: NDArray[np.int64],
    stops_D: NDArray[np.int64],
    data: NDArray[np.uint8],
    moves: NDArray[np.uint32],
    order: NDArray[np.uint8],
    first_state: NDArray[np.uint32],
    feature: NDArray[np.int32],
    root: np.uint32,
    weights: NDArray[np.uint16],
    log_counts: NDArray[np.float32],
    prior: NDArray[np.float32],
    label_of: NDArray[np.int64],
    best_D: NDArray[np.int32],
    probability_D: NDArray[np.float32],
) -> None:
    """The likeliest label of data[start:stop] and its probability; label -1 where no feature occurs.

    Args:
        order: the column of `moves` that each byte has.
        log_counts: log(1 + n), for n below its length.
        label_of: the class, of several with the same label, that stands for them.
    """
    n_documents = starts_D.shape[0]
    longest = 0
    for d in range(n_documents):
        longest = max(longest, stops_D[d] - starts_D[d])
    counts = np.zeros(weights.shape[0] // ROW + 1, np.int32)
    path = np.empty((WALKERS, longest), np.uint32)
    found = np.empty(longest + GROUP + _AHEAD, np.int64)
    factors = np.empty(longest + GROUP + _AHEAD, np.float32)
    sums, merged = np.empty(ROW, np.float32), np.empty(prior.shape[0], np.float32)
    starts, stops = np.zeros(WALKERS, np.int64), np.zeros(WALKERS, np.int64)
    for first in range(0, n_documents, WALKERS):
        n_group = min(WALKERS, n_documents - first)
        stops[:] = 0
        starts[:] = 0
        starts[:n_group] = starts_D[first : first + n_group]
        stops[:n_group] = stops_D[first : first + n_group]
        _walk(data, starts, stops, moves, order, root, path)
        for k in range(n_group):
            n = stops[k] - starts[k]
            n_found = _find_features(path[k], n, first_state, feature, counts, found)
            best_D[first + k], probability_D[first + k] = -1, 0.0
            if n_found > 0:
                _sum_up(n_found, weights, log_counts, counts, found, factors, sums)
                best, probability = _decide(sums, prior, label_of, n, merged)
                best_D[first + k], probability_D[first + k] = best, probability
