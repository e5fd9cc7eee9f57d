"""Tokenizers: train a byte-level BPE, load any `tokenizer.json`, count and encode documents.

Training is deterministic: pair counts are integers that are summed whatever the number of threads, ties go
to the lower pair of ids, and the alphabet is all 256 bytes in a fixed order, so the same texts give the same
file. Text is never mistaken for a special token: `<|endoftext|>` written inside a document is encoded as
the characters it is made of. Documents above `PIECE_CHARACTERS` are encoded in pieces that are cut before a
space, so that memory stays bounded; counting and encoding cut alike.

Source: Sennrich et al. 2016, arXiv:1508.07909 (BPE); Radford et al. 2019 (bytes as the alphabet, and the
pattern that splits words), section 2.2. Differs: none in the method; the vocabulary is trained on the pool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from prill.errors import DataError, RecipeError, printable
from prill.run.atomic import machine_errors

__all__ = [
    "END_OF_TEXT",
    "PIECE_CHARACTERS",
    "TextTokenizer",
    "load_tokenizer",
    "text_pieces",
    "train_bpe",
]

END_OF_TEXT: Final = "<|endoftext|>"
PIECE_CHARACTERS: Final = 262_144

_OTHER_ENDS: Final = ("<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "<EOS>", "[EOS]")
_SMALLEST_VOCABULARY: Final = 257
_LARGEST_VOCABULARY: Final = 1_000_000
_BATCH_CHARACTERS: Final = 1024 * 1024
_LARGEST_FILE_BYTES: Final = 256 * 1024 * 1024


def train_bpe(texts: Iterable[str], vocab_size: int) -> bytes:
    """A byte-level BPE tokenizer trained on `texts`, as the content of a `tokenizer.json`.

    Pairs that occur once are not merged, so a small sample can give fewer tokens than asked for.

    Args:
        texts: the sample, in a fixed order; the caller bounds it.
        vocab_size: tokens wanted, at least 257: the bytes and `<|endoftext|>`, which is token 0.
    Raises:
        RecipeError: `vocab_size` is out of range.
        DataError: there is no text.
    """
    if not _SMALLEST_VOCABULARY <= vocab_size <= _LARGEST_VOCABULARY:
        message = f"expected {_SMALLEST_VOCABULARY} to {_LARGEST_VOCABULARY}, found {vocab_size}"
        raise RecipeError(message, where="vocab_size", hint="a usual size for small proxy models is 16384")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    n_texts = 0

    def pieces() -> Iterator[str]:
        nonlocal n_texts
        for text in texts:
            n_texts += bool(text)
            yield from text_pieces(text)

    tokenizer.train_from_iterator(pieces(), trainer)
    if not n_texts:
        raise DataError(
            "expected text to train a tokenizer on, found none", hint="check the pool and its filters"
        )
    return str(tokenizer.to_str()).encode()


def load_tokenizer(source: Path | str | bytes, *, eos: str | None = None) -> TextTokenizer:
    """A tokenizer from the path or the content of a `tokenizer.json`.

    Args:
        source: a path, or the content as bytes.
        eos: the token that ends a document; default: `<|endoftext|>` or another usual name.
    Raises:
        DataError: missing, not JSON, not a tokenizer, or without a token that ends a document.
    """
    where = "tokenizer.json" if isinstance(source, bytes) else str(source)
    content = source if isinstance(source, bytes) else _content(Path(source))
    tokenizer = _parsed(content, where)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # do not read special tokens out of text
    names = (eos,) if eos is not None else (END_OF_TEXT, *_OTHER_ENDS)
    found = next((name for name in names if tokenizer.token_to_id(name) is not None), None)
    if found is None:
        message = f"expected a token that ends a document ({', '.join(names)}), found none"
        raise DataError(message, where=where, hint=f"add {names[0]} as a special token of the tokenizer")
    return TextTokenizer(tokenizer, content, int(tokenizer.token_to_id(found)))


class TextTokenizer:
    """Counts and encodes documents. Special tokens are never added and never read out of text.

    Attributes:
        vocab_size: one above the highest token id.
        eos_id: the token that ends a document.
        eos: its text.
        sha256: of the `tokenizer.json`.
        content: the `tokenizer.json`.
    """

    def __init__(self, tokenizer: Any, content: bytes, eos_id: int) -> None:
        self._tokenizer = tokenizer
        self.content = content
        self.eos_id = eos_id
        self.eos = str(tokenizer.id_to_token(eos_id))
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.vocab_size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.content, self.eos_id))

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """Token ids of each text, uint32, without the end-of-document token."""
        parts: list[list[npt.NDArray[np.uint32]]] = [[] for _ in texts]
        for pieces, owners in _piece_groups(texts):
            for owner, item in zip(owners, self._encode(pieces), strict=True):
                parts[owner].append(np.array(item.ids, dtype=np.uint32))
        return [group[0] if len(group) == 1 else np.concatenate(group) for group in parts]

    def count_batch(self, texts: pa.Array) -> npt.NDArray[np.int64]:
        """Tokens of each document of a large_string array, shape (D,), without the end-of-document token."""
        counts = np.zeros(len(texts), dtype=np.int64)
        for pieces, owners in _piece_groups(text.as_py() for text in texts):
            lengths = np.array([len(item) for item in self._encode(pieces)], dtype=np.int64)
            np.add.at(counts, np.asarray(owners, dtype=np.int64), lengths)
        return counts

    def token_bytes(self) -> npt.NDArray[np.int64] | None:
        """UTF-8 bytes that each token id stands for in a text, shape (vocab_size,).

        None unless tokens are runs of the text's own bytes: a byte-level tokenizer without a normaliser that
        puts no space before a text.
        """
        settings = self.settings()
        before = settings.get("pre_tokenizer") or {}
        parts = [before, *before.get("pretokenizers", [])]
        is_exact = settings.get("normalizer") is None and any(
            part.get("type") == "ByteLevel" and not part.get("add_prefix_space") for part in parts
        )
        if not is_exact:
            return None
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, number in self._tokenizer.get_vocab(with_added_tokens=True).items():
            lengths[number] = len(token)  # in the byte-level alphabet a character is a byte
        return lengths

    def end_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        """Where each token of each text ends, characters from the start of the text; for any tokenizer."""
        parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in texts]
        done = [0] * len(texts)
        for pieces, owners in _piece_groups(texts):
            found = self._tokenizer.encode_batch(pieces, add_special_tokens=False)
            for owner, piece, item in zip(owners, pieces, found, strict=True):
                ends = np.array([stop for _, stop in item.offsets], dtype=np.int64)
                parts[owner].append(done[owner] + ends)
                done[owner] += len(piece)
        return [np.concatenate(group) for group in parts]

    def decode(self, tokens: npt.NDArray[Any]) -> str:
        """The text of token ids; special tokens become nothing."""
        return str(self._tokenizer.decode([int(token) for token in tokens]))

    def settings(self) -> dict[str, Any]:
        """The tokenizer as the library understood it: `tokenizer.json` with every default written out."""
        return dict(orjson.loads(self._tokenizer.to_str()))

    def normalise(self, text: str) -> str:
        """What the tokenizer's normaliser makes of a text; the text itself when it has none."""
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def _encode(self, pieces: list[str]) -> list[Any]:
        return list(self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False))


def _rebuild(content: bytes, eos_id: int) -> TextTokenizer:
    tokenizer = load_tokenizer(content)
    tokenizer.eos_id = eos_id
    return tokenizer


def _content(path: Path) -> bytes:
    with machine_errors(path):
        try:
            if path.stat().st_size > _LARGEST_FILE_BYTES:
                message = f"expected a tokenizer.json of at most {_LARGEST_FILE_BYTES} bytes"
                raise DataError(f"{message}, found {path.stat().st_size}", where=str(path))
            return path.read_bytes()
        except FileNotFoundError as error:
            raise DataError("expected a tokenizer.json, found no such file", where=str(path)) from error
        except IsADirectoryError as error:
            hint = "name the file tokenizer.json in the folder"
            raise DataError(
                "expected a tokenizer.json, found a folder", where=str(path), hint=hint
            ) from error


def _parsed(content: bytes, where: str) -> Any:
    hint = "use the tokenizer.json of a fast Hugging Face tokenizer"
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        message = f"expected JSON, found an error at character {error.pos}"
        raise DataError(message, where=where, hint=hint) from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict):
        raise DataError("expected a tokenizer with a `model`, found other JSON", where=where, hint=hint)
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises nothing narrower
        said = printable(str(error))
        hint = "the file may come from a newer version of the tokenizers library"
        raise DataError(
            f"expected a tokenizer, found one that cannot be loaded: {said}", where=where, hint=hint
        ) from error


def text_pieces(text: str) -> Iterator[str]:
    """The text, cut before spaces into pieces of at most `PIECE_CHARACTERS`.

    No word of a byte-level tokenizer crosses from a character into the space after it, so these cuts
    change nothing; text without such a space is cut where the limit falls.
    """
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        stop = start + PIECE_CHARACTERS
        cut = _last_cut(text, start, stop)
        yield text[start:cut]
        start = cut
    yield text[start:] if start else text


def _last_cut(text: str, start: int, stop: int) -> int:
    position = stop
    while (space := text.rfind(" ", start + 1, position)) >= 0:
        if not (text[space - 1].isspace() or text[space + 1].isspace()):
            return space
        position = space
    return stop


def _piece_groups(texts: Iterable[str]) -> Iterator[tuple[list[str], list[int]]]:
    """Pieces of the texts, about `_BATCH_CHARACTERS` at a time, each with the position of its text."""
    pieces: list[str] = []
    owners: list[int] = []
    size = 0
    for owner, text in enumerate(texts):
        for piece in text_pieces(text):
            if pieces and size + len(piece) > _BATCH_CHARACTERS:
                yield pieces, owners
                pieces, owners, size = [], [], 0
            pieces.append(piece)
            owners.append(owner)
            size += len(piece)
    if pieces:
        yield pieces, owners
