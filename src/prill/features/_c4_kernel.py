"""The line rules of C4: which lines go and why, what is cut inside those that stay, what text is left.

Each line is judged in the order of the public code: a word too long, citations taken out, no end of a
sentence, too few words, a phrase. Two readings differ in small things, which `nested` tells apart: the
published filters count words before citations go, and leave white space and brackets that only then stand
free; the other reading counts and strips afterwards, so that a second run finds nothing left to do.

Legend: D documents, C counts (`C4_COUNTS`), S spans.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._c4_phrases_kernel import CURLY, JAVASCRIPT, LOREM, POLICY, find_phrases
from prill.features._citations_kernel import may_cite, without_citations
from prill.features._classes_kernel import ROOM, inside
from prill.features._jit import inlined, kernel, set_bits, trailing_zeros
from prill.features._lines_kernel import find_breaks, split_lines, strip
from prill.features._vector_kernel import STEP, space_flags, terminal_flags

__all__ = ["C4_COUNTS", "C4_KINDS", "judge_lines"]

C4_KINDS = (
    "blank line",
    "word too long",
    "no end of a sentence",
    "too few words",
    "javascript",
    "policy notice",
    "citation",
    "space",
    "line break",
)
"""What a span is; the first six are whole lines, and the last is replaced by a newline."""

C4_COUNTS = (
    "n_sentences",
    "has_lorem_ipsum",
    "has_curly_bracket",
    "n_kept_lines",
    *("n_lines_" + kind.replace(" ", "_") for kind in C4_KINDS[1:6]),
)
"""Columns of the counts, in order."""

_SPACE, _MARK, _CONTINUED = np.uint8(0x40), np.uint8(0x09), np.uint8(0x02)
_KEPT, _BLANK, _LONG, _OPEN, _FEW, _SCRIPT, _NOTICE = -1, 0, 1, 2, 3, 4, 5
_CITATION, _TRIM, _LINE_BREAK = 6, 7, 8
_NEWLINE, _DOT = 10, 0x2E


@inlined
def _count_words(classes: NDArray[np.uint8], start: int, stop: int, enough: int) -> int:
    """Words that white space parts, all of them or at least `enough`."""
    n, last = 0, np.uint64(1)
    for base in range(start, stop, STEP):
        spaces = space_flags(classes, base) | ~inside(base, stop)
        n += set_bits(~spaces & ((spaces << np.uint64(1)) | last))
        last = spaces >> np.uint64(63)
        if n >= enough:
            break
    return n


@inlined
def _has_long_word(classes: NDArray[np.uint8], start: int, stop: int, longest: int) -> bool:
    """Whether a word has more than `longest` characters."""
    n, found = 0, False
    if stop - start > longest:
        for i in range(start, stop):
            if (classes[i] & _SPACE) != 0:
                n = 0
            elif (classes[i] & _CONTINUED) == 0:
                n += 1
                found |= n > longest
    return found


@inlined
def _ends_sentence(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether the line ends with . ? ! or a straight quote, and not with three dots."""
    if stop <= start:
        return False
    last = data[stop - 1]
    dotted = stop - start >= 3 and last == _DOT and data[stop - 2] == _DOT and data[stop - 3] == _DOT
    ends = last == _DOT or last == 0x3F or last == 0x21 or last == 0x22 or last == 0x27
    return bool(ends and not dotted)


@inlined
def _count_sentences(classes: NDArray[np.uint8], start: int, stop: int) -> int:
    """One, and one more for each end mark behind which, after other marks, white space stands."""
    n, after = 1, start
    for base in range(start, stop, STEP):
        ends = terminal_flags(classes, base) & inside(base, stop)
        while ends != 0:
            i = base + trailing_zeros(ends)
            ends &= ends - np.uint64(1)
            if i >= after:
                after = i + 1
                while after < stop and (classes[after] & _MARK) != 0:
                    after += 1
                n += int(after < stop and (classes[after] & _SPACE) != 0)
    return n


@inlined
def _judge_words(classes: NDArray[np.uint8], start: int, stop: int, rules: NDArray[np.int64]) -> int:
    """_BLANK, _LONG or _FEW when the words of a line are a reason to go, else _KEPT."""
    if start >= stop:
        return _BLANK
    if rules[0] >= 0 and _has_long_word(classes, start, stop, rules[0]):
        return _LONG
    return _FEW if _count_words(classes, start, stop, rules[3]) < rules[3] else _KEPT


@inlined
def _judge_text(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    kind: int,
    rules: NDArray[np.int64],
    phrases: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> int:
    """Why a line goes, or _KEPT, given what its words say."""
    if kind in (_BLANK, _LONG):
        return kind
    if rules[2] != 0 and not _ends_sentence(data, start, stop):
        return _OPEN
    if kind == _KEPT:
        found = find_phrases(data, start, stop, phrases) & rules[4]
        if found & LOREM:
            counts[1] = 1
        elif found & JAVASCRIPT:
            kind = _SCRIPT
        elif found & CURLY:
            counts[2] = 1
        elif found & POLICY:
            kind = _NOTICE
    return kind


@inlined
def _put(spans: NDArray[np.int64], n: int, first: int, start: int, stop: int, kind: int) -> int:
    """Append a span unless it is empty; the new number of spans.

    A line that goes for the same reason as the one before it joins it; the document's spans begin at `first`.
    """
    if stop > start:
        if n > first and kind <= _NOTICE and spans[n - 1, 1] == start and spans[n - 1, 2] == kind:
            spans[n - 1, 1] = stop
        else:
            spans[n, 0], spans[n, 1], spans[n, 2] = start, stop, kind
            n += 1
    return n


@inlined
def _put_cuts(
    spans: NDArray[np.int64],
    n: int,
    base: int,
    a0: int,
    a: int,
    b: int,
    b0: int,
    cuts: NDArray[np.int64],
    n_cuts: int,
) -> int:
    """Append what is cut inside a line a0..b0 of which a..b stays; the new number of spans."""
    n = _put(spans, n, n, a0 - base, a - base, _TRIM)
    for j in range(n_cuts):
        if a <= cuts[2 * j] < b:
            n = _put(spans, n, n, cuts[2 * j] - base, cuts[2 * j + 1] - base, _CITATION)
    return _put(spans, n, n, b - base, b0 - base, _TRIM)


@inlined
def _copy(
    source: NDArray[np.uint8], start: int, stop: int, left: NDArray[np.uint8], n: int, first: int
) -> int:
    """Append a line to the text that is left, which begins at `first`; its new end."""
    if left.shape[0] == 0:
        return n
    if n > first:
        left[n] = _NEWLINE
        n += 1
    for i in range(stop - start):
        left[n + i] = source[start + i]
    return n + stop - start


@inlined
def _count_byte(data: NDArray[np.uint8], start: int, stop: int, byte: int) -> int:
    n = 0
    for i in range(start, stop):
        n += int(data[i] == byte)
    return n


@inlined
def _judge_document(
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    base: int,
    stop: int,
    bounds: NDArray[np.uint32],
    n_lines: int,
    rules: NDArray[np.int64],
    phrases: NDArray[np.uint8],
    words: NDArray[np.uint8],
    decimals: NDArray[np.int64],
    line: NDArray[np.uint8],
    line_classes: NDArray[np.uint8],
    places: NDArray[np.int64],
    cuts: NDArray[np.int64],
    counts: NDArray[np.int64],
    spans: NDArray[np.int64],
    n_spans: int,
    left: NDArray[np.uint8],
    n_left: int,
) -> tuple[int, int]:
    """Judge the lines of data[base:stop]; the new numbers of spans and of bytes left."""
    first_span, first_left, end = n_spans, n_left, base
    nested = rules[5] != 0
    for k in range(n_lines):
        a0, b0 = base + np.int64(bounds[2 * k]), base + np.int64(bounds[2 * k + 1])
        after = base + np.int64(bounds[2 * k + 2]) if k + 1 < n_lines else stop
        a, b = strip(classes, a0, b0)
        s = e = n = n_cuts = 0
        if rules[1] != 0 and may_cite(data, a, b):
            n, n_cuts = without_citations(
                data, classes, a, b, nested, words, decimals, line, line_classes, places, cuts
            )
        if n_cuts > 0 and nested:
            s, e = strip(line_classes, 0, n)
            kind = _judge_words(line_classes, s, e, rules)
        else:
            e = n
            kind = _judge_words(classes, a, b, rules)
        if n_cuts > 0:
            kind = _judge_text(line, s, e, kind, rules, phrases, counts)
        else:
            kind = _judge_text(data, a, b, kind, rules, phrases, counts)
        if kind != _KEPT:
            counts[3 + kind] += int(kind > 0)
            from_ = end if counts[3] > 0 else a0
            to = b0 if counts[3] > 0 and k + 1 < n_lines else after
            n_spans = _put(spans, n_spans, first_span, from_ - base, to - base, kind)
            end = b0
            continue
        if counts[3] > 0 and not (a0 - end == 1 and data[end] == _NEWLINE):
            n_spans = _put(spans, n_spans, first_span, end - base, a0 - base, _LINE_BREAK)
        counts[3] += 1
        if n_cuts == 0:
            counts[0] += _count_sentences(classes, a, b)
            n_left = _copy(data, a, b, left, n_left, first_left)
        else:
            counts[0] += _count_sentences(line_classes, s, e)
            n_left = _copy(line, s, e, left, n_left, first_left)
            a, b = (places[s], places[e - 1] + 1) if s < e else (b, b)
        n_spans = _put_cuts(spans, n_spans, base, a0, a, b, b0, cuts, n_cuts)
        end = b0
        if k + 1 == n_lines:
            n_spans = _put(spans, n_spans, n_spans, b0 - base, stop - base, _TRIM)
    return n_spans, n_left


@inlined
def _grown(array: NDArray[np.int64], n_held: int, n_more: int) -> NDArray[np.int64]:
    if array.shape[0] >= n_held + n_more:
        return array
    grown = np.empty((2 * (n_held + n_more), 3), np.int64)
    grown[:n_held] = array[:n_held]
    return grown


@kernel
def judge_lines(
    offsets_D1: NDArray[np.int64],
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    rules: NDArray[np.int64],
    phrases: NDArray[np.uint8],
    words: NDArray[np.uint8],
    decimals: NDArray[np.int64],
    counts_DC: NDArray[np.int64],
    spans_D1: NDArray[np.int64],
    left: NDArray[np.uint8],
    left_D1: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Judge the lines of every document.

    Args:
        offsets_D1, data: the documents, ROOM bytes behind them; offsets_D1[0] == 0.
        classes: class bytes (`_classes_kernel`).
        rules: longest word in characters or -1; whether citations are removed; whether a line must end a
            sentence; fewest words; sum of the phrases looked for; whether nested citations go too, and words
            are counted after citations went.
        phrases, words: `phrase_table`, `citation_words`.
        decimals: the zeros of all decimal digits, sorted code points.
        counts_DC: receives the counts, int64, (D, C), zero before.
        spans_D1: receives where the spans of each document begin.
        left, left_D1: receive the text that is left and where each document begins; no text if `left` is
            empty.
    Returns:
        Start, stop (bytes from the start of the document) and kind of each span, int64, shape (S, 3).
    """
    longest = 0
    for d in range(offsets_D1.shape[0] - 1):
        longest = max(longest, offsets_D1[d + 1] - offsets_D1[d])
    breaks, bounds = np.empty(longest + STEP, np.uint32), np.empty(2 * longest + 2, np.uint32)
    line, line_classes = np.empty(longest + ROOM, np.uint8), np.empty(longest + ROOM, np.uint8)
    places, cuts = np.empty(longest + ROOM, np.int64), np.empty(longest + ROOM, np.int64)
    spans = np.empty((1024, 3), np.int64)
    n_spans = n_left = 0
    for d in range(offsets_D1.shape[0] - 1):
        base, stop = offsets_D1[d], offsets_D1[d + 1]
        spans_D1[d], left_D1[d] = n_spans, n_left
        n_breaks = find_breaks(classes, base, stop, breaks)
        n_lines = split_lines(data, base, stop, breaks, n_breaks, bounds)
        n_brackets = _count_byte(data, base, stop, 0x5D) if rules[1] != 0 else 0
        spans = _grown(spans, n_spans, 4 * n_lines + n_brackets)
        n_spans, n_left = _judge_document(
            data,
            classes,
            base,
            stop,
            bounds,
            n_lines,
            rules,
            phrases,
            words,
            decimals,
            line,
            line_classes,
            places,
            cuts,
            counts_DC[d],
            spans,
            n_spans,
            left,
            n_left,
        )
    spans_D1[offsets_D1.shape[0] - 1], left_D1[offsets_D1.shape[0] - 1] = n_spans, n_left
    return spans[:n_spans]
