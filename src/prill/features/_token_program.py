"""A byte-level BPE `tokenizer.json` as tables for the kernels, or the name of the part that refuses.

Understood: BPE over bytes, with or without `ignore_merges`; `ByteLevel`, with `Split`, `Digits` and
`Punctuation` before it; Unicode normal forms (other normalisers work too, through the library); added tokens
that are not special are looked for in the text. Anything else raises `Refused`, and the library does it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from prill.features._merge_kernel import fill_merges, word_hash
from prill.features._pretoken_classes import N_CODE_POINTS, probe_members
from prill.features._pretoken_regex import Atom, Refused
from prill.features._pretoken_table import GPT2_PATTERN, SplitTable, split_table

__all__ = ["Phrases", "TokenProgram", "read_program"]

_FORMS: Final = frozenset({"NFC", "NFD", "NFKC", "NFKD"})
_NEVER_IN_UTF8: Final = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})
_PROBE: Final = Atom("a class of the library")


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """Added tokens to look for, the longest first, as `mark_phrases` takes them.

    Attributes:
        ids: of the tokens; empty when only the library can tell where they apply.
    """

    pairs: NDArray[np.bool_]
    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    ids: NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class TokenProgram:
    """Everything the kernels need of one tokenizer; arrays as `count_tokens` describes them.

    Attributes:
        forms: the normaliser's Unicode normal forms; empty: it has none; None: another normaliser.
        adds_space: a space is put before a text that does not begin with one.
    """

    stages: NDArray[np.int64]
    entries: NDArray[np.uint32]
    classes: NDArray[np.uint8]
    ascii_classes: NDArray[np.uint8]
    byte_ids: NDArray[np.uint32]
    merges: NDArray[np.uint64]
    word_slots: NDArray[np.int32]
    word_offsets: NDArray[np.int64]
    words: NDArray[np.uint8]
    phrases: Phrases | None
    special: Phrases | None
    forms: tuple[str, ...] | None
    adds_space: bool


def read_program(settings: dict[str, Any], normalise: Callable[[str], str]) -> TokenProgram:
    """The tables of a tokenizer.

    Args:
        settings: of `TextTokenizer.settings`.
        normalise: the library's normaliser.
    Raises:
        Refused: the tokenizer has a part that the kernels do not follow.
    """
    model = _model(settings["model"])
    vocab: dict[str, int] = model["vocab"]
    splits, adds_space = _splits(settings["pre_tokenizer"])
    stages, entries = [], [np.empty(0, np.uint32)]
    for split in splits:
        stages.append((sum(map(len, entries)), split.n_classes, int(split.drops_gaps)))
        entries.append(split.entries)
    classes = np.array([split.classes for split in splits], np.uint8).reshape(-1, N_CODE_POINTS)
    words = _words(vocab) if model.get("ignore_merges") else _words({})
    forms = _forms(settings["normalizer"])
    can_cut = forms is not None and not adds_space and not any(split.drops_gaps for split in splits)
    phrases, special = _phrases(settings["added_tokens"], normalise, can_cut=can_cut)
    ascii_classes = np.full((len(splits), 256), 255, np.uint8)
    ascii_classes[:, :128] = classes[:, :128]
    return TokenProgram(
        stages=np.array(stages, np.int64).reshape(-1, 3),
        entries=np.concatenate(entries),
        classes=classes,
        ascii_classes=ascii_classes,
        byte_ids=_byte_ids(vocab),
        merges=_merges(vocab, model["merges"]),
        word_slots=words[0],
        word_offsets=words[1],
        words=words[2],
        phrases=phrases,
        special=special,
        forms=forms,
        adds_space=adds_space,
    )


def _model(model: dict[str, Any]) -> dict[str, Any]:
    if model.get("type") != "BPE":
        raise Refused(f"a model of type {model.get('type')}")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise Refused(f"`{name}` of the model")
    if model.get("byte_fallback"):
        raise Refused("`byte_fallback` of the model")
    return model


def _forms(normalizer: dict[str, Any] | None) -> tuple[str, ...] | None:
    if normalizer is None:
        return ()
    if normalizer["type"] == "Sequence":
        inner = [_forms(part) for part in normalizer["normalizers"]]
        return None if None in inner else tuple(form for forms in inner for form in forms or ())
    return (normalizer["type"],) if normalizer["type"] in _FORMS else None


def _splits(pre_tokenizer: dict[str, Any] | None) -> tuple[list[SplitTable], bool]:
    """The patterns that split the text, in order, and whether a space is put before it."""
    if pre_tokenizer is None:
        raise Refused("no pre-tokenizer")
    is_sequence = pre_tokenizer["type"] == "Sequence"
    parts = pre_tokenizer["pretokenizers"] if is_sequence else [pre_tokenizer]
    if not parts or parts[-1]["type"] != "ByteLevel":
        raise Refused("a pre-tokenizer that does not end in ByteLevel")
    last = parts[-1]
    if last["add_prefix_space"] and len(parts) > 1:
        raise Refused("`add_prefix_space` behind another pre-tokenizer")
    splits = [_split(part) for part in parts[:-1]]
    if last["use_regex"]:
        splits.append(_pattern_table(GPT2_PATTERN, drops_gaps=False))
    return splits, bool(last["add_prefix_space"])


def _split(part: dict[str, Any]) -> SplitTable:
    kind = part["type"]
    if kind == "Split":
        ((how, pattern),) = part["pattern"].items()
        drops_gaps = part["behavior"] == "Removed" and part["invert"]
        if part["behavior"] != "Isolated" and not drops_gaps:
            raise Refused(f"a Split of behaviour {part['behavior']}")
        if how == "String":
            pattern = "".join(f"\\{c}" if not c.isalnum() and c.isascii() else c for c in pattern)
        return _pattern_table(pattern, drops_gaps=drops_gaps)
    if kind == "Digits":
        return _probe_table(kind, is_single=part["individual_digits"])
    if kind == "Punctuation" and part["behavior"] in ("Isolated", "Contiguous"):
        return _probe_table(kind, is_single=part["behavior"] == "Isolated")
    raise Refused(f"the pre-tokenizer {kind}")


@functools.lru_cache(maxsize=16)
def _pattern_table(pattern: str, *, drops_gaps: bool) -> SplitTable:
    return split_table(pattern, drops_gaps=drops_gaps)


@functools.lru_cache(maxsize=4)
def _probe_table(kind: str, *, is_single: bool) -> SplitTable:
    """The table of `Digits` or `Punctuation`: one character a word, or a run; and what lies between."""
    from tokenizers import pre_tokenizers

    probe = pre_tokenizers.Digits() if kind == "Digits" else pre_tokenizers.Punctuation("contiguous")
    inside = probe_members(probe)
    sets = {Atom("\\d"): inside, Atom("\\D"): ~inside}
    return split_table(r"\d|\D+" if is_single else r"\d+|\D+", sets=sets)


def _bytes_of_letters() -> dict[str, int]:
    """The byte that each letter of the byte-level alphabet stands for. Source: Radford et al. 2019, code."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(own)]
    return {**{chr(b): b for b in own}, **{chr(256 + k): b for k, b in enumerate(others)}}


def _byte_ids(vocab: dict[str, int]) -> NDArray[np.uint32]:
    ids = np.zeros(256, np.uint32)
    for letter, byte in _bytes_of_letters().items():
        if byte in _NEVER_IN_UTF8:
            continue
        if letter not in vocab:
            raise Refused(f"no token for the byte 0x{byte:02X}")
        ids[byte] = vocab[letter]
    return ids


def _merges(vocab: dict[str, int], merges: list[list[str] | str]) -> NDArray[np.uint64]:
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
    keys = np.array([vocab[a] << 32 | vocab[b] for a, b in pairs], np.uint64)
    values = np.array([rank << 32 | vocab[a + b] for rank, (a, b) in enumerate(pairs)], np.uint64)
    table = np.full(2 << max(4, (2 * len(pairs)).bit_length()), np.iinfo(np.uint64).max, np.uint64)
    fill_merges(keys, values, table)
    return table


def _words(vocab: dict[str, int]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint8]]:
    """The table of whole words: slots by hash, and the bytes of every token id."""
    if not vocab:
        return np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.uint8)
    letters = _bytes_of_letters()
    contents: list[bytes] = [b""] * (max(vocab.values()) + 1)
    for word, token in vocab.items():
        if all(letter in letters for letter in word):
            contents[token] = bytes(letters[letter] for letter in word)
    offsets = np.concatenate([[0], np.cumsum([len(content) for content in contents])]).astype(np.int64)
    data = np.frombuffer(b"".join(contents), np.uint8).copy()  # writable, as the empty one: one type
    slots = np.full(1 << (2 * len(contents)).bit_length(), -1, np.int32)
    for token, content in enumerate(contents):
        if content:
            slot = word_hash(data, int(offsets[token]), len(content)) & (len(slots) - 1)
            while slots[slot] >= 0:
                slot = (slot + 1) & (len(slots) - 1)
            slots[slot] = token
    return slots, offsets, data


def _phrases(
    added: list[dict[str, Any]], normalise: Callable[[str], str], *, can_cut: bool
) -> tuple[Phrases | None, Phrases | None]:
    """The added tokens that the library reads out of text, those that are not special; and the special."""
    plain = {token["content"]: token for token in added if not token["special"] and token["content"]}
    contents = {*plain, *map(normalise, plain)} - {""}
    is_exact = can_cut and contents == set(plain)
    is_exact &= len({token["normalized"] for token in plain.values()}) == 1
    is_exact &= not any(t["lstrip"] or t["rstrip"] or t["single_word"] for t in plain.values())
    ids = {content: token["id"] for content, token in plain.items()}
    special = [token["content"] for token in added if token["special"] and token["content"]]
    return _listed(contents, ids if is_exact else {}), _listed(special, {})


def _listed(contents: Iterable[str], ids: dict[str, int]) -> Phrases | None:
    ordered = sorted(contents, key=lambda content: (-len(content.encode()), content))
    if not ordered:
        return None
    texts = [content.encode() for content in ordered]
    pairs = np.zeros(65536, np.bool_)
    for text in texts:
        first = text[0] * 256
        if len(text) == 1:
            pairs[first : first + 256] = True
        else:
            pairs[first + text[1]] = True
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return Phrases(
        pairs=pairs,
        data=np.frombuffer(b"".join(texts), np.uint8),
        offsets=offsets,
        ids=np.array([ids[content] for content in ordered] if ids else [], np.uint32),
    )
