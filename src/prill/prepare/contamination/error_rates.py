"""How often the finding errs, measured on the user's own corpus and tasks.

Items are printed into documents of a sample, verbatim and lightly edited, and counted as found when the
rule names them: recall, by length of the item and by edit. Decoys, made from items but not items, are printed
into others: a document that is then acted upon is a false hit. What the rule finds in the sample as it
is, is listed with its surroundings for a person to judge.

Precision is stated for a corpus with as many decoys as items; in a real one decoys are rarer. Items with
fewer words than the rule acts upon have a recall of 0 by design and are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prill.corpus.batch import BATCH_BYTES, Batch
from prill.features.item_index import Item
from prill.features.keyed import derive_seed
from prill.prepare.contamination.measure import Contamination
from prill.prepare.contamination.planting import DECOYS, EDITS, Edit, Lexicon, planted, rendered
from prill.prepare.contamination.policy import Hits, counting_hits
from prill.stats.proportions import Proportion, wilson

__all__ = ["LENGTHS", "ErrorRates", "Rate", "SeenHit", "estimate_errors"]

LENGTHS = (4, 8, 13, 20, 50)
"""First lengths of the buckets of items, words of passage, question and answer; the first begins at 1."""

LIGHT = tuple(name for name in EDITS if name != "one word replaced")
"""Edits that count as light for items of any length; one word of five is not."""

_TEXT_CHARACTERS = 20_000
_WORD_CHARACTERS = 40  # a longer one replaces no word
_AROUND = 80  # characters
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One share: of items of one length printed in one way, how many were found; or of decoys."""

    length: str
    kind: str
    share: Proportion


@dataclass(frozen=True, kw_only=True)
class SeenHit:
    """A hit in the sample as it is, for a person to judge."""

    text: int
    task: str
    item: str
    part: str
    coverage: float
    before: str
    found: str
    after: str


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """What `estimate_errors` found.

    Attributes:
        recall: by length of the item, for each edit, and `light edits` for all but `one word replaced`.
        false_hits: by length of the item, for each kind of decoy.
        precision: by length; found items among all that was found, as many decoys as items.
        before: share of the sample's documents that the rule acts upon as they are.
        seen: some of those hits.
    """

    recall: tuple[Rate, ...]
    false_hits: tuple[Rate, ...]
    precision: tuple[Rate, ...]
    before: Proportion
    seen: tuple[SeenHit, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a report."""
        return asdict(self)


def estimate_errors(
    made: Contamination,
    texts: Sequence[str],
    *,
    seed: int,
    word_rate: float = 0.05,
    cut_rate: float = 0.1,
    n_seen: int = 20,
) -> ErrorRates:
    """Plant items and decoys in a sample of documents and count what is found.

    Args:
        made: the measure whose rule is tried.
        texts: documents of the corpus, at least one that the rule does not act upon; the first 20,000
            characters of each are used. Items longer than that are not tried.
        seed: of the recipe; every item and edit draws from a generator of its own.
        word_rate: share of words replaced, rounded to whole words.
        cut_rate: share of words cut off the end, rounded down.
        n_seen: hits of the untouched sample to list at most.
    """
    shortened = [text[:_TEXT_CHARACTERS] for text in texts]
    found = list(_found(made, shortened))
    clean = [text for text, items in zip(shortened, found, strict=True) if not items]
    if not clean:
        clean = [""]
    items = _tried_items(made)
    words = sorted({word for item in items for word in _WORD.findall(item.question)}) or ["word"]
    words = [word for word in words if len(word) <= _WORD_CHARACTERS] or ["word"]
    lexicon = Lexicon(words=words, word_rate=word_rate, cut_rate=cut_rate)
    tried = {kind: _tried(made, clean, kind, EDITS[kind], lexicon, seed) for kind in EDITS}
    fooled = {kind: _tried(made, clean, kind, DECOYS[kind], lexicon, seed) for kind in DECOYS}
    fooled["items of another task"] = _strangers(made, clean, lexicon, seed)
    light = [outcome for kind in LIGHT for outcome in tried[kind]]
    decoys = [outcome for outcomes in fooled.values() for outcome in outcomes]
    recall = [*_rates(tried), *_rates({"light edits": light})]
    return ErrorRates(
        recall=tuple(recall),
        false_hits=tuple(_rates(fooled)),
        precision=tuple(_precision(light, decoys)),
        before=wilson(len(texts) - sum(not items for items in found), len(texts)),
        seen=tuple(_seen(made, shortened, found, n_seen)),
    )


def _tried(
    made: Contamination, clean: Sequence[str], kind: str, edit: Edit, lexicon: Lexicon, seed: int
) -> list[tuple[str, bool]]:
    """Length of each item that the edit applies to, and whether it was found; for decoys, anything."""
    lengths, names, texts = [], [], []
    for item in _tried_items(made):
        rng = _generator(seed, kind, item)
        piece = edit(item, lexicon, rng)
        if piece is not None:
            lengths.append(_length(made, item))
            names.append((item.task, item.name))
            texts.append(planted(clean[int(rng.integers(0, len(clean)))], piece, rng))
    found = _found(made, texts)
    if kind in DECOYS:
        return [(length, bool(items)) for length, items in zip(lengths, found, strict=True)]
    return [(length, name in items) for length, name, items in zip(lengths, names, found, strict=True)]


def _strangers(
    made: Contamination, clean: Sequence[str], lexicon: Lexicon, seed: int
) -> list[tuple[str, bool]]:
    """Length of each item of a task, and whether an index of the other tasks finds anything in its text."""
    outcomes = []
    tasks = dict.fromkeys(item.task for item in made.items)
    for task in tasks if len(tasks) > 1 else ():
        others = tuple(item for item in made.items if item.task != task)
        own = tuple(item for item in _tried_items(made) if item.task == task)
        blind = Contamination(spec=made.spec, items=others, digest=made.digest)
        texts, lengths = [], []
        for item in own:
            rng = _generator(seed, "items of another task", item)
            texts.append(planted(clean[int(rng.integers(0, len(clean)))], rendered(item), rng))
            lengths.append(_length(made, item))
        outcomes += [
            (length, bool(items)) for length, items in zip(lengths, _found(blind, texts), strict=True)
        ]
    return outcomes


def _tried_items(made: Contamination) -> list[Item]:
    """The items that a document of the sample has room for."""
    return [item for item in made.items if len(rendered(item)) <= _TEXT_CHARACTERS]


def _generator(seed: int, use: str, item: Item) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, f"contamination.errors:{use}:{item.task}/{item.name}"))


def _found(made: Contamination, texts: Sequence[str]) -> Iterator[set[tuple[str, str]]]:
    """The items, as task and id, that the rule finds in each text."""
    start = 0
    while start < len(texts):
        stop, n_bytes = start, 0
        while stop < len(texts) and (n_bytes < BATCH_BYTES or stop == start):
            n_bytes += len(texts[stop].encode())
            stop += 1
        hits, counts = _judged(made, texts[start:stop])
        items: list[set[tuple[str, str]]] = [set() for _ in range(stop - start)]
        tasks, names = hits.field("task")[counts].tolist(), hits.field("item")[counts].tolist()
        for d, task, name in zip(hits.document[counts].tolist(), tasks, names, strict=True):
            items[d].add((task, name))
        yield from items
        start = stop


def _judged(made: Contamination, texts: Sequence[str]) -> tuple[Hits, np.ndarray[Any, np.dtype[np.bool_]]]:
    columns = made(Batch(shard=0, first_row=0, columns={"text": pa.array(texts, pa.large_string())}))
    hits = Hits(pa.array(columns["contamination_hits"]))
    return hits, counting_hits(made.spec, hits)


def _length(made: Contamination, item: Item) -> str:
    """Name of the item's bucket of lengths."""
    n_words = len(_WORD.findall(rendered(item)))
    if not item.passage and n_words < made.spec.chosen("min_words"):
        return f"below {made.spec.chosen('min_words')}: not acted upon"
    first = max((edge for edge in LENGTHS if edge <= n_words), default=LENGTHS[0])
    k = LENGTHS.index(first)
    return f"{first}-{LENGTHS[k + 1] - 1}" if k + 1 < len(LENGTHS) else f"{first} and more"


def _rates(tried: Mapping[str, list[tuple[str, bool]]]) -> list[Rate]:
    rates = []
    for kind, outcomes in tried.items():
        for length in _in_order(outcomes):
            own = [is_found for bucket, is_found in outcomes if bucket == length]
            rates.append(Rate(length=length, kind=kind, share=wilson(sum(own), len(own))))
    return rates


def _precision(items: list[tuple[str, bool]], decoys: list[tuple[str, bool]]) -> list[Rate]:
    """Found items among all found, with the decoys' rate scaled to as many trials as the items had."""
    rates = []
    for length in _in_order(items):
        right = [is_found for bucket, is_found in items if bucket == length]
        wrong = [is_found for bucket, is_found in decoys if bucket == length]
        n_wrong = round(sum(wrong) * len(right) / max(1, len(wrong)))
        share = wilson(sum(right), sum(right) + n_wrong)
        rates.append(Rate(length=length, kind="as many decoys as items", share=share))
    return rates


def _in_order(outcomes: Sequence[tuple[str, bool]]) -> list[str]:
    """Buckets that occur, by their first length; what is not acted upon comes first."""
    found = {length for length, _ in outcomes}
    return sorted(found, key=lambda name: -1 if name.startswith("below") else int(re.split(r"\D", name)[0]))


def _seen(
    made: Contamination, texts: Sequence[str], found: Sequence[set[tuple[str, str]]], n_seen: int
) -> Iterator[SeenHit]:
    """Hits of the first documents that have any."""
    numbers = [number for number, items in enumerate(found) if items][:n_seen]
    hits, counts = _judged(made, [texts[number] for number in numbers])
    rows = np.flatnonzero(counts)[:n_seen]
    fields = {name: hits.field(name) for name in ("task", "item", "part", "coverage", "start", "stop")}
    for row in rows.tolist():
        number = numbers[int(hits.document[row])]
        raw = texts[number].encode()
        start, stop = int(fields["start"][row]), int(fields["stop"][row])
        yield SeenHit(
            text=number,
            task=str(fields["task"][row]),
            item=str(fields["item"][row]),
            part=str(fields["part"][row]),
            coverage=float(fields["coverage"][row]),
            before=raw[:start].decode()[-_AROUND:],
            found=raw[start:stop].decode(),
            after=raw[stop:].decode()[:_AROUND],
        )
