"""Which script a text is written in: counts of letters by Unicode script, under their ISO 15924 names.

Letters and marks belong to the script that begins their Unicode name (`CYRILLIC SMALL LETTER A`); digits,
punctuation, spaces, symbols and marks that serve many scripts belong to none and are not counted. The table
is made from Python's own `unicodedata` and follows its Unicode version.

Legend: D documents, S scripts.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers

__all__ = ["SCRIPTS", "SCRIPT_VERSION", "ScriptCounts", "count_scripts", "script_table"]

SCRIPT_VERSION: Final = 1
"""Version of the table and of what is counted."""

_NAMES: Final = """
ADLAM Adlm|AHOM Ahom|ANATOLIAN HIEROGLYPH Hluw|ARABIC Arab|ARMENIAN Armn|AVESTAN Avst|BALINESE Bali
BAMUM Bamu|BASSA VAH Bass|BATAK Batk|BENGALI Beng|BHAIKSUKI Bhks|BOPOMOFO Bopo|BRAHMI Brah|BUGINESE Bugi
BUHID Buhd|CANADIAN SYLLABICS Cans|CARIAN Cari|CAUCASIAN ALBANIAN Aghb|CHAKMA Cakm|CHAM Cham|CHEROKEE Cher
CHORASMIAN Chrs|CJK Hani|COPTIC Copt|CUNEIFORM Xsux|CYPRIOT Cprt|CYPRO-MINOAN Cpmn|CYRILLIC Cyrl
DESERET Dsrt|DEVANAGARI Deva|DIVES AKURU Diak|DOGRA Dogr|DUPLOYAN Dupl|EGYPTIAN HIEROGLYPH Egyp|ELBASAN Elba
ELYMAIC Elym|ETHIOPIC Ethi|GARAY Gara|GEORGIAN Geor|GLAGOLITIC Glag|GOTHIC Goth|GRANTHA Gran|GREEK Grek
GUJARATI Gujr|GUNJALA GONDI Gong|GURMUKHI Guru|GURUNG KHEMA Gukh|HANGUL Hang|HANIFI ROHINGYA Rohg
HANUNOO Hano|HATRAN Hatr|HEBREW Hebr|HENTAIGANA Hira|HIRAGANA Hira|IMPERIAL ARAMAIC Armi
INSCRIPTIONAL PAHLAVI Phli|INSCRIPTIONAL PARTHIAN Prti|JAVANESE Java|KAITHI Kthi|KANNADA Knda|KATAKANA Kana
KAWI Kawi|KAYAH LI Kali|KHAROSHTHI Khar|KHITAN SMALL SCRIPT Kits|KHMER Khmr|KHOJKI Khoj|KHUDAWADI Sind
KIRAT RAI Krai|LAO Laoo|LATIN Latn|LEPCHA Lepc|LIMBU Limb|LINEAR A Lina|LINEAR B Linb|LISU Lisu|LYCIAN Lyci
LYDIAN Lydi|MAHAJANI Mahj|MAKASAR Maka|MALAYALAM Mlym|MANDAIC Mand|MANICHAEAN Mani|MARCHEN Marc
MASARAM GONDI Gonm|MEDEFAIDRIN Medf|MEETEI MAYEK Mtei|MENDE KIKAKUI Mend|MEROITIC CURSIVE Merc
MEROITIC HIEROGLYPHIC Mero|MIAO Plrd|MODI Modi|MONGOLIAN Mong|MRO Mroo|MULTANI Mult|MYANMAR Mymr
NABATAEAN Nbat|NAG MUNDARI Nagm|NANDINAGARI Nand|NEW TAI LUE Talu|NEWA Newa|NKO Nkoo|NUSHU Nshu
NYIAKENG PUACHUE HMONG Hmnp|OGHAM Ogam|OL CHIKI Olck|OL ONAL Onao|OLD HUNGARIAN Hung|OLD ITALIC Ital
OLD NORTH ARABIAN Narb|OLD PERMIC Perm|OLD PERSIAN Xpeo|OLD SOGDIAN Sogo|OLD SOUTH ARABIAN Sarb
OLD TURKIC Orkh|OLD UYGHUR Ougr|ORIYA Orya|OSAGE Osge|OSMANYA Osma|PAHAWH HMONG Hmng|PALMYRENE Palm
PAU CIN HAU Pauc|PHAGS-PA Phag|PHOENICIAN Phnx|PSALTER PAHLAVI Phlp|REJANG Rjng|RUNIC Runr|SAMARITAN Samr
SAURASHTRA Saur|SHARADA Shrd|SHAVIAN Shaw|SIDDHAM Sidd|SIGNWRITING Sgnw|SINHALA Sinh|SOGDIAN Sogd
SORA SOMPENG Sora|SOYOMBO Soyo|SUNDANESE Sund|SUNUWAR Sunu|SYLOTI NAGRI Sylo|SYRIAC Syrc|TAGALOG Tglg
TAGBANWA Tagb|TAI LE Tale|TAI THAM Lana|TAI VIET Tavt|TAKRI Takr|TAMIL Taml|TANGSA Tnsa|TANGUT Tang
TELUGU Telu|THAANA Thaa|THAI Thai|TIBETAN Tibt|TIFINAGH Tfng|TIRHUTA Tirh|TODHRI Todr|TOTO Toto
TULU-TIGALARI Tutg|UGARITIC Ugar|VAI Vaii|VITHKUQI Vith|WANCHO Wcho|WARANG CITI Wara|YEZIDI Yezi|YI Yiii
ZANABAZAR SQUARE Zanb
"""

_BY_NAME: Final = dict(entry.rsplit(" ", 1) for entry in _NAMES.strip().replace("\n", "|").split("|"))

SCRIPTS: Final[tuple[str, ...]] = ("", *sorted(set(_BY_NAME.values())))
"""ISO 15924 names by number; number 0 is no script."""

_LEAD: Final = re.compile(r"(?:(?:FULLWIDTH|HALFWIDTH|SUPERSCRIPT|VARIANT|SMALL|MODIFIER LETTER) )*")
_NUMBERED: Final = (
    ("CJK", 0x3400, 0x4DC0),
    ("CJK", 0x4E00, 0xA000),
    ("CJK", 0xF900, 0xFAD9 + 1),
    ("CJK", 0x20000, 0x323B0),
    ("HANGUL", 0xAC00, 0xD7A4),
    ("TANGUT", 0x17000, 0x187F8),
    ("TANGUT", 0x18D00, 0x18D09),
    ("KHITAN SMALL SCRIPT", 0x18B00, 0x18CD6),
    ("NUSHU", 0x1B170, 0x1B2FC),
)
"""Characters that Unicode numbers instead of naming."""
_N_CODE_POINTS: Final = 0x110000
_NAMED: Final = ((0, 0x3400), (0x4DC0, 0x4E00), (0xA000, 0xAC00), (0xD7A4, 0xF900), (0xFB00, 0x20000))


@functools.cache
def script_table() -> NDArray[np.uint8]:
    """The script's number (`SCRIPTS`) of every code point: uint8, shape (0x110000,), in about 0.1 s."""
    table = np.zeros(_N_CODE_POINTS, np.uint8)
    numbers = {name: SCRIPTS.index(code) for name, code in _BY_NAME.items()}
    pattern = re.compile("|".join(sorted(map(re.escape, numbers), key=len, reverse=True)))
    for code in itertools.chain.from_iterable(itertools.starmap(range, _NAMED)):
        character = chr(code)
        if unicodedata.category(character)[0] in "LM":
            table[code] = _number(unicodedata.name(character, ""), pattern, numbers)
    for name, first, stop in _NUMBERED:
        table[first:stop] = numbers[name]
    table[[0xAA, 0xBA]] = numbers["LATIN"]
    table.setflags(write=False)
    return table


def _number(name: str, pattern: re.Pattern[str], numbers: dict[str, int]) -> int:
    found = pattern.match(name, _LEAD.match(name).end())  # type: ignore[union-attr]
    return numbers[found.group()] if found else 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ScriptCounts:
    """Letters by script; shapes (D,).

    Attributes:
        first: number (`SCRIPTS`) of the commonest script, the lower one of two; 0 without any letter.
        n_first: letters of that script.
        n_letters: letters of all scripts.
        counts: letters by script, int64, shape (D, S), when asked for.
    """

    first: NDArray[np.uint8]
    n_first: NDArray[np.int64]
    n_letters: NDArray[np.int64]
    counts: NDArray[np.int64] | None

    @property
    def share(self) -> NDArray[np.float32]:
        """Share of the commonest script among the letters, float32, shape (D,); 0 without any letter."""
        return (self.n_first / np.maximum(self.n_letters, 1)).astype(np.float32)


def count_scripts(text: pa.Array, *, with_counts: bool = False) -> ScriptCounts:
    """Count letters by script.

    Args:
        text: large_string without nulls, D documents, any slice.
        with_counts: keep the counts of all scripts too, 8 * S bytes a document.
    Source: Unicode Standard Annex 24. Differs: marks named after a script belong to it, also where the annex
        lets several scripts inherit them (Arabic vowel signs); modifier letters belong to none.
    """
    from prill.features._script_kernel import count_scripts_kernel

    offsets, data = text_buffers(text)
    n = len(text)
    first = np.zeros(n, np.uint8)
    n_first, n_letters = np.zeros(n, np.int64), np.zeros(n, np.int64)
    counts = np.zeros((n if with_counts else 0, len(SCRIPTS)), np.int64)
    latin = SCRIPTS.index("Latn")
    table = script_table()
    count_scripts_kernel(offsets, data, table, latin, len(SCRIPTS), first, n_first, n_letters, counts)
    return ScriptCounts(
        first=first, n_first=n_first, n_letters=n_letters, counts=counts if with_counts else None
    )
