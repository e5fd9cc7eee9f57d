"""Personal data and secrets in text, as spans: where they are, never what they are.

Kinds: e-mail addresses, IP addresses, phone numbers, payment cards (Luhn), IBANs (remainder 97), keys and
secrets (formats that services publish, private key blocks, web tokens, and quoted values that look drawn at
random behind names such as `api_key =`), and US social security numbers. Bounds of numbers are ASCII word
characters, so that text of scripts without spaces may touch them; letters of Latin script with accents belong
to an address they touch.

Legend: D documents, S spans.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import ResourceError

__all__ = [
    "IBAN_LENGTHS",
    "PHONE_CODES",
    "PII_KINDS",
    "PII_VERSION",
    "PiiKind",
    "find_spans",
    "strict_phones",
]

PII_VERSION: Final = 1
"""Version of the grammars; it changes whenever a span changes."""

PiiKind: TypeAlias = Literal[
    "email", "ip address", "phone number", "card number", "iban", "secret", "us ssn"
]  # fmt: skip

PII_KINDS: Final[tuple[PiiKind, ...]] = (
    "email", "ip address", "phone number", "card number", "iban", "secret", "us ssn",
)  # fmt: skip
"""Kinds, in the order of the kernel's numbers."""

_BLOCK_WORDS: Final = (b"-----BEGIN ", b"-----END ", b"PRIVATE KEY")
_KEYS: Final = (
    ("AKIA ASIA", 2, 16, 16, 2),
    ("AIza", 3, 35, 35, 0),
    ("ghp_ gho_ ghu_ ghs_ ghr_", 0, 36, 255, 0),
    ("github_pat_", 2, 22, 255, 0),
    ("glpat-", 3, 20, 255, 0),
    ("xoxa- xoxb- xoxe- xoxp- xoxr- xoxs-", 1, 10, 255, 0),
    ("sk-", 3, 20, 255, 1),
    ("sk_live_ sk_test_", 0, 16, 255, 0),
    ("hf_", 0, 34, 34, 0),
    ("npm_", 0, 36, 36, 0),
    ("pypi-", 3, 50, 512, 0),
)
"""What keys begin with; 1 for dashes and 2 for underscores behind it besides letters and digits; least and
most bytes there; 1 where capitals, small letters and digits must occur, 2 where there are only capitals and
digits."""

_IBANS: Final = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28
EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26
IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28
NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25
SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
IBAN_LENGTHS: Final = {entry[:2]: int(entry[2:]) for entry in _IBANS.split()}
"""Letters and digits of an IBAN by country."""

_TWO_DIGITS: Final = (
    20, 27, *range(30, 35), 36, 39, 40, 41, *range(43, 50), *range(51, 59), *range(60, 67), 81, 82, 84, 86,
    *range(90, 96), 98,
)  # fmt: skip
_TENS: Final = (21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99)
PHONE_CODES: Final = frozenset((1, 7, *_TWO_DIGITS, *(10 * tens + k for tens in _TENS for k in range(10))))
"""Country codes of phones; those of three digits by their first two."""


def find_spans(
    text: pa.Array,
    kinds: Collection[PiiKind] = PII_KINDS,
    *,
    public_only: bool = True,
    skip_references: bool = False,
) -> NDArray[np.int64]:
    """All spans of the wanted kinds, without overlaps: of two that overlap the one that begins first stays.

    Args:
        text: large_string without nulls, D documents, any slice.
        kinds: what to look for.
        public_only: leave out addresses of private networks, of the machine itself and of documentation.
        skip_references: leave out e-mail, IP and phone with `isbn`, `doi` or `#` within 50 bytes.
    Returns:
        Document, start and stop in bytes from its start, and kind (index of PII_KINDS), int64, shape (S, 4),
        in the order of the text.
    Source: Soldaini et al. 2024 (Dolma, arXiv:2402.00159, appendix on PII), Elazar et al. 2024
        (arXiv:2310.20707), Penedo et al. 2024 (arXiv:2406.17557). Differs: numbers with a checksum or a
        range are checked; a US phone needs separators other than two spaces; positions are those of the text.
    """
    from prill.features._pii_kernel import find_pii

    offsets, data = _padded(text)
    wanted = sum(1 << PII_KINDS.index(kind) for kind in set(kinds))
    options = int(public_only) + 2 * int(skip_references)
    spans_S4 = np.empty((max(1024, len(data) >> 12), 4), np.int64)
    while True:
        n = find_pii(offsets, data, wanted, options, _countries(), _ibans(), *_words(), spans_S4)
        if n <= len(spans_S4):
            return _in_order(spans_S4[:n])
        spans_S4 = np.empty((n, 4), np.int64)


def strict_phones(text: pa.Array, spans_S4: NDArray[np.int64], *, region: str = "US") -> NDArray[np.int64]:
    """The spans without those phones that no plan of numbers allows, by the package phonenumbers.

    Args:
        region: two letters of the country whose numbers are written without a country code.
    Raises:
        ResourceError: the package is not installed.
    """
    try:
        import phonenumbers
    except ImportError as error:
        message = "expected the package phonenumbers for strict phones, found none"
        raise ResourceError(message, where="pii.strict_phones", hint="pip install 'prill[clean]'") from error
    offsets, data = text_buffers(text)
    keep_S = np.ones(len(spans_S4), np.bool_)
    for s in np.flatnonzero(spans_S4[:, 3] == PII_KINDS.index("phone number")):
        d, start, stop, _ = spans_S4[s]
        number = bytes(data[offsets[d] + start : offsets[d] + stop]).decode("utf-8")
        try:
            keep_S[s] = phonenumbers.is_valid_number(phonenumbers.parse(number, region))
        except phonenumbers.NumberParseException:
            keep_S[s] = False
    return spans_S4[keep_S]


def _in_order(spans_S4: NDArray[np.int64]) -> NDArray[np.int64]:
    from prill.features._pii_kernel import drop_overlaps

    document, start, stop, kind = spans_S4.T
    ordered = np.ascontiguousarray(spans_S4[np.lexsort((kind, -stop, start, document))])
    keep_S = np.empty(len(ordered), np.bool_)
    drop_overlaps(ordered, keep_S)
    return ordered[keep_S]


def _padded(text: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets and bytes with room behind them that the kernel may read; a copy where there is none."""
    from prill.features._pii_kernel import PADDING

    offsets, data = text_buffers(text)
    if len(data) - offsets[-1] >= PADDING:
        return offsets, data
    inside = data[offsets[0] : offsets[-1]]
    return offsets - offsets[0], np.concatenate([inside, np.zeros(PADDING, np.uint8)])


@functools.cache
def _words() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """What known keys begin with, then the words of key blocks, one a row; and the rules of the keys."""
    keys = [(name.encode(), rule) for names, *rule in _KEYS for name in names.split()]
    words = [*(name for name, _ in keys), *_BLOCK_WORDS]
    table = np.zeros((len(words), 16), np.uint8)
    for row, word in zip(table, words, strict=True):
        row[: len(word)] = np.frombuffer(word, np.uint8)
    return table, np.array([[len(name), *rule] for name, rule in keys], np.int64)


@functools.cache
def _countries() -> NDArray[np.uint8]:
    table = np.zeros(1000, np.uint8)
    table[sorted(PHONE_CODES)] = 1
    return table


@functools.cache
def _ibans() -> NDArray[np.uint8]:
    table = np.zeros(26 * 26, np.uint8)
    for country, length in IBAN_LENGTHS.items():
        table[26 * (ord(country[0]) - 65) + ord(country[1]) - 65] = length
    return table
