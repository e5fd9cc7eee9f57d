"""What spaCy's English word splitter knows: classes of characters, units, and pieces with their own split.

Facts of spaCy 3.8 (`lang/char_classes`, `lang/punctuation`, `lang/tokenizer_exceptions`, `lang/en`), written
down again as rules: letters with case follow the Unicode categories Ll and Lu inside fixed ranges, and the
exceptions are products of stems and endings. Oddities are kept: a unit list that misses one space, a range
that holds one unassigned code point.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Iterator

__all__ = [
    "CURRENCIES",
    "HYPHENS",
    "ICONS",
    "PUNCTUATION",
    "QUOTES",
    "SENTENCE_MARKS",
    "UNITS",
    "code_points",
    "exceptions",
    "letters",
]


def _words(text: str) -> list[str]:
    """The words of a list that is written as one string."""
    return text.split()


CASED = (
    "41-5A 61-7A C0-D6 D8-F6 F8-1BF 1C4-2AF 386 388-38A 38C 38E-38F 391-3A9 3AC-3AF 3B1-3C9 3CC-3CE 400-401"
    " 403-40A 40C-40D 410-451 453-45A 45C-45D 490-491 496-497 4A2-4A3 4AE-4AF 4BA-4BB 4D8-4D9 4E8-4E9"
    " 1D00-1D25 1D6B-1D77 1D79-1D9A 1E00-1EFF 2C60-2C7B 2C7E-2C7F A722-A76F A771-A787 A78B-A78E A790-A7B9"
    " A7FA AB30-AB5A AB60-AB64 FF21-FF3A FF41-FF5A"
)
"""Latin, Greek and Cyrillic code points that count as letters: hexadecimal ranges."""

UNCASED = (
    "591-5F4 620-64A 66E-6D5 6E5-6FF 750-77F 8A0-8BD 900-9FF B80-CFF D80-DFF 1100-137F 2E80-2FDF 2FF0-30FF"
    " 31C0-31EF 3200-4DBF 4E00-9FFF AC00-D7AF F900-FAFF FB1D-FBB1 FBD3-FD3D FD50-FDC7 FDF0-FDFB FE30-FE4F"
    " FE70-FEFC 1EE00-1EEBB 1F200-1F2FF 20000-2A6DF 2A700-2EBEF 2F800-2FA1F"
)
"""Ranges of scripts without case, which count as lower and as upper case; some hold signs as well."""

_LOWER_TOO, _UPPER_TOO = 0x294, 0x3A2

ICONS = (
    "A6 A9 AE B0 482 58D-58E 60E-60F 6DE 6E9 6FD-6FE 7F6 9FA B70 BF3-BF8 BFA C7F D4F D79 F01-F03 F13"
    " F15-F17 F1A-F1F F34 F36 F38 FBE-FC5 FC7-FCC FCE-FCF FD5-FD8 109E-109F 1390-1399 1940 19DE-19FF"
    " 1B61-1B6A 1B74-1B7C 2100-2101 2103-2106 2108-2109 2114 2116-2117 211E-2123 2125 2127 2129 212E"
    " 213A-213B 214A 214C-214D 214F 218A-218B 2195-2199 219C-219F 21A1-21A2 21A4-21A5 21A7-21AD 21AF-21CD"
    " 21D0-21D1 21D3 21D5-21F3 2300-2307 230C-231F 2322-2328 232B-237B 237D-239A 23B4-23DB 23E2-2426"
    " 2440-244A 249C-24E9 2500-25B6 25B8-25C0 25C2-25F7 2600-266E 2670-2767 2794-27BF 2800-28FF 2B00-2B2F"
    " 2B45-2B46 2B4D-2B73 2B76-2B95 2B98-2BC8 2BCA-2BFE 2CE5-2CEA 2E80-2E99 2E9B-2EF3 2F00-2FD5 2FF0-2FFB"
    " 3004 3012-3013 3020 3036-3037 303E-303F 3190-3191 3196-319F 31C0-31E3 3200-321E 322A-3247 3250"
    " 3260-327F 328A-32B0 32C0-32FE 3300-33FF 4DC0-4DFF A490-A4C6 A828-A82B A836-A837 A839 AA77-AA79 FDFD"
    " FFE4 FFE8 FFED-FFEE FFFC-FFFD 10137-1013F 10179-10189 1018C-1018E 10190-1019B 101A0 101D0-101FC"
    " 10877-10878 10AC8 1173F 16B3C-16B3F 16B45 1BC9C 1D000-1D0F5 1D100-1D126 1D129-1D164 1D16A-1D16C"
    " 1D183-1D184 1D18C-1D1A9 1D1AE-1D1E8 1D200-1D241 1D245 1D300-1D356 1D800-1D9FF 1DA37-1DA3A"
    " 1DA6D-1DA74 1DA76-1DA83 1DA85-1DA86 1ECAC 1F000-1F02B 1F030-1F093 1F0A0-1F0AE 1F0B1-1F0BF"
    " 1F0C1-1F0CF 1F0D1-1F0F5 1F110-1F16B 1F170-1F1AC 1F1E6-1F202 1F210-1F23B 1F240-1F248 1F250-1F251"
    " 1F260-1F265 1F300-1F3FA 1F400-1F6D4 1F6E0-1F6EC 1F6F0-1F6F9 1F700-1F773 1F780-1F7D8 1F800-1F80B"
    " 1F810-1F847 1F850-1F859 1F860-1F887 1F890-1F8AD 1F900-1F90B 1F910-1F93E 1F940-1F970 1F973-1F976"
    " 1F97A 1F97C-1F9A2 1F9B0-1F9B9 1F9C0-1F9C2 1F9D0-1F9FF 1FA60-1FA6D"
)
"""Symbols of category So as of Unicode 11: each is a word of its own wherever it stands."""

PUNCTUATION = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》\u3008\u3009\u2329\u232a⟦⟧"
CURRENCIES = _words("$ £ € ¥ ฿ US$ C$ A$ ₽ ﷼ ₴ ₠ ₡ ₢ ₣ ₤ ₥ ₦ ₧ ₨ ₩ ₪ ₫ ₭ ₮ ₯ ₰ ₱ ₲ ₳ ₵ ₶ ₷ ₸ ₹ ₺ ₻ ₼ ₾ ₿")
SENTENCE_MARKS = (
    "21 2E 3F 589 61F 6D4 700-702 7F9 964-965 104A-104B 1362 1367-1368 166E 1735-1736 1803 1809 1944-1945"
    " 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 3002 A4FF A60E-A60F"
    " A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F"
    " FF61 10A56-10A57 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239"
    " 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11A42-11A43"
    " 11A9B-11A9C 11C41-11C42 16A6E-16A6F 16AF5 16B37-16B38 16B44 1BC9F 1DA88"
)
"""What ends a sentence for spaCy's rule-based splitter of sentences: hexadecimal code points."""

HYPHENS = _words("- – — -- --- —— ~")


def _units() -> list[str]:
    powers = [f"{unit}{power}" for unit in ("km", "m", "dm", "cm", "mm") for power in ("", "²", "³")]
    cyrillic = [f"{unit}{power}" for unit in ("км", "м", "дм", "см", "мм") for power in ("", "²", "³")]
    arabic = [f"{unit}{power}" for unit in ("كم", "م", "سم", "مم") for power in ("", "²", "³")]
    rest = (
        "ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K %"
    )
    more = (
        "нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم غرام جرام جم كغ ملغ كوب اكواب"
    )
    return sorted(
        {*powers, *cyrillic, *arabic, *rest.split(), *more.split()}, key=lambda unit: (-len(unit), unit)
    )


UNITS = _units()
"""Units that leave a number before them, the longest first."""


def code_points(ranges: str) -> frozenset[int]:
    """The code points of hexadecimal ranges such as "41-5A 5F"."""
    bounds = (part.split("-") for part in ranges.split())
    return frozenset(code for pair in bounds for code in range(int(pair[0], 16), int(pair[-1], 16) + 1))


@functools.cache
def letters() -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
    """All letters, those that count as lower case, those that count as upper case."""
    cased, uncased = code_points(CASED), code_points(UNCASED)
    lower = {code for code in cased if unicodedata.category(chr(code)) == "Ll"} | {_LOWER_TOO}
    upper = {code for code in cased if unicodedata.category(chr(code)) == "Lu"} | {_UPPER_TOO}
    return cased | uncased, frozenset(lower | uncased), frozenset(upper | uncased)


def exceptions() -> dict[str, tuple[str, ...]]:
    """Chunks with a split of their own, and their words, in the order of the chunks.

    With each one that has an apostrophe goes its twin with the typographic apostrophe.
    """
    splits: dict[str, tuple[str, ...]] = {word: (word,) for word in (*_emoticons(), *_signs())}
    splits |= {f"°{unit}.": ("°", unit, ".") for unit in "cfkCFK"}
    splits |= {"".join(words): words for words in (*_contractions(), *_other_splits())}
    splits |= {word: (word,) for word in _whole_words()}
    for word in ("ill", "its", "hell", "shell", "shed", "were", "well", "whore"):
        splits.pop(word, None)
        splits.pop(word.title(), None)
    twins = {word: words for word, words in splits.items() if "'" in word}
    for word, words in twins.items():
        splits[word.replace("'", "’")] = tuple(part.replace("'", "’") for part in words)
    return dict(sorted(splits.items()))


def _signs() -> Iterator[str]:
    """Marks, single letters with a period, and the two characters that stand for an escape."""
    yield from ("\\t", "\\n", "—", "'", '\\")', "<space>", "''", "C++")
    yield from (f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyzäöü")


def _emoticons() -> Iterator[str]:
    mouths = {":": _words(") )) ))) ( (( ((( ] } / | P p O o 0 * 3 > X x D"), ";": [")", "D"]}
    for eyes, ends in mouths.items():
        for end in ends:
            yield from (f"{eyes}{end}", f"{eyes}-{end}")
    for mirrored in ("(:", "[:", "(;", "):"):
        yield from (mirrored, f"{mirrored[0]}-{mirrored[1]}")
    yield from _words("=) (= [= =] =( =/ =| ]= =[ =3 =D :1 :() :o) (o: 8) 8-) (-8 8D 8-D >:( >:o")
    yield from _words(":') :'-) :'( :'-( xD XD xDD XDD ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__-")
    yield from _words("v.v V.V v_v V_V 0_o o_0 0_0 0.0 o.0 0.o @_@ <3 <33 <333 </3")
    for between in "_.":
        yield from (f"{left}{between}{right}" for left in "oO" for right in "oO")
    yield from _words("(^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>")


def _contractions() -> Iterator[tuple[str, ...]]:
    """Stems with endings, each with the apostrophes and without them, and as a title too."""
    you_we_they = ["you", "we", "they"]
    pronouns = ["i", "he", "she", "it", *you_we_they]
    asking = ["who", "what", "when", "where", "why", "how", "there"]
    ends: dict[str, Iterable[str]] = {
        "'m": ["i"],
        "'m a": ["i"],
        "'s": ["he", "she", "it", *asking, "that", "this"],
        "'re": [*you_we_they, *asking, "these", "those"],
        "'ve": ["i", *you_we_they, *asking, "these", "those", "could", "might", "must", "should", "would"],
    }
    for end in ("'ll", "'ll 've", "'d", "'d 've"):
        ends[end] = [*pronouns, *asking, "that", "this", "these", "those"]
    modal = _words("ca could do does did had may might must need ought sha should wo would")
    ends["n't"] = [*modal, "ai", "are", "is", "was", "were", "have", "has", "dare"]
    ends["n't 've"] = modal
    for end, stems in ends.items():
        for stem in stems:
            for start in (stem, stem.title()):
                yield (start, *end.split())
                yield (start, *end.replace("'", "").split())


def _other_splits() -> Iterator[tuple[str, ...]]:
    for hour in range(1, 13):
        yield from ((str(hour), half) for half in ("a.m.", "am", "p.m.", "pm"))
    yield from (("y'", "all"), ("y", "all"))
    titled = ("how 'd 'y", "not 've", "not ve", "can not", "gon na", "got ta", "let 's", "c'm on")
    for words in (line.split() for line in titled):
        yield from (tuple(words), (words[0][0].upper() + words[0][1:], *words[1:]))


def _whole_words() -> Iterator[str]:
    """Words that stay whole though an apostrophe, a slash or a period is part of them."""
    for stem in _words("doin goin nothin nuthin ol somethin lovin havin"):
        yield from (stem, stem.title(), f"{stem}'", f"{stem.title()}'")
    for stem in _words("em ll nuff"):
        yield from (stem, f"'{stem}")
    yield from _words("'S 's ‘S ‘s and/or w/o 're 'bout 'd ma'am Ma'am o'clock O'clock")
    yield from (f"'{first}{rest}" for first in "Cc" for rest in ("ause", "os", "oz", "uz"))
    places = "Mt Ak Ala Ariz Ark Calif Colo Conn Del Fla Ga Ia Id Ill Ind Kan Kans Ky La Mass Mich Minn Miss"
    places += " N.C N.D N.H N.J N.M N.Y Neb Nebr Nev Okla Ore Pa S.C Tenn Va Wash Wis Md Mo Mont D.C St"
    months = "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
    titles = "Adm Bros co Co Corp Dr Gen Gov Inc Jr Ltd Messrs Mr Mrs Ms Ph.D Prof Rep Rev Sen"
    latin = "a.m p.m e.g E.g E.G i.e I.e I.E vs v.s"
    yield from (f"{word}." for word in _words(f"{places} {months} {titles} {latin}"))
