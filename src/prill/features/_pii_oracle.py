"""What counts as personal data, as plain regular expressions: slow, readable, and the test of the kernels.

Every pattern is bounded, so that the time is linear in the text. Spans are characters of `text`.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from prill.features.pii import IBAN_LENGTHS, PHONE_CODES

__all__ = ["plain_spans"]

_L: Final = "[A-Za-z0-9\u00c0-\u027f]"
_W: Final = "[A-Za-z0-9_]"
_EMAIL: Final = re.compile(rf"(?:{_L}|[._%+-])+(?=@)")
_LABEL: Final = re.compile(rf"{_L}(?:{_L}|-)*")
_IP4: Final = re.compile(
    rf"(?<!{_W})(?<![.-])\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![A-Za-z0-9_-])(?!\.\d)", re.ASCII
)
_IP6: Final = re.compile(r"(?<![A-Za-z0-9_:.])(?:[0-9A-Fa-f]{1,4}|(?=::))(?::{1,2}[0-9A-Fa-f]{1,4})*(?:::)?")
_BEFORE: Final = r"(?<![A-Za-z0-9_.\-+/#%&=$])"
_AFTER: Final = r"(?![A-Za-z0-9_%])(?![./-]\d)"
_US_PHONE: Final = re.compile(
    rf"""{_BEFORE}(?:
    (?:1[ .-])?\([2-9]\d\d\)[ -]?[2-9]\d\d[ -]\d{{4}}
    |(?:1[ .-])?[2-9]\d\d(?:-[2-9]\d\d-|\.[2-9]\d\d\.|\ [2-9]\d\d-)\d{{4}}
    |1[ .-][2-9]\d\d\ [2-9]\d\d[ .-]\d{{4}}
    ){_AFTER}""",
    re.ASCII | re.VERBOSE,
)
_WORLD_PHONE: Final = re.compile(
    rf"(?<![A-Za-z0-9_+\-/=.])\+(\d(?:(?: ?\(0\) ?| ?\((?!0\))|\) ?|[ ./-])?\d)*+){_AFTER}", re.ASCII
)
_CARD: Final = re.compile(rf"{_BEFORE}(?<!\d\ )\d++(?:[ -]\d++)*+{_AFTER}", re.ASCII)
_SSN: Final = re.compile(rf"{_BEFORE}(\d{{3}})-(\d\d)-(\d{{4}}){_AFTER}", re.ASCII)
_IBAN: Final = re.compile(rf"(?<!{_W})([A-Z]{{2}})(\d\d)( ?)", re.ASCII)
_TOKENS: Final = [
    re.compile(rf"(?<![A-Za-z0-9_-])(?:{pattern})", re.ASCII)
    for pattern in (
        r"A(?:K|S)IA[A-Z0-9]{16}(?![A-Za-z0-9_])",
        r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
        r"gh[pousr]_[A-Za-z0-9]{36,255}(?![A-Za-z0-9])",
        r"github_pat_[A-Za-z0-9_]{22,255}(?![A-Za-z0-9_])",
        r"glpat-[A-Za-z0-9_-]{20,255}(?![A-Za-z0-9_-])",
        r"xox[abeprs]-[A-Za-z0-9-]{10,255}(?![A-Za-z0-9-])",
        r"sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{20,255}(?![\w-])",
        r"sk_(?:live|test)_[A-Za-z0-9]{16,255}(?![A-Za-z0-9])",
        r"hf_[A-Za-z0-9]{34}(?![A-Za-z0-9])",
        r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])",
        r"pypi-[A-Za-z0-9_-]{50,512}(?![A-Za-z0-9_-])",
        r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])",
        r"eyJ[A-Za-z0-9_-]{10,8189}\.eyJ[A-Za-z0-9_-]{10,8189}\.[A-Za-z0-9_-]{10,8192}(?![A-Za-z0-9_-])",
    )
]
_KEY_BLOCK: Final = re.compile(
    r"-----BEGIN (?=[A-Z0-9 ]*PRIVATE KEY)[A-Z0-9 ]{0,55}+-----"
    r"(?:(?:(?!-----BEGIN ).){0,16383}?-----END [A-Z0-9 ]{0,55}+-----)?",
    re.DOTALL,
)
_ASSIGNED: Final = re.compile(
    r"""(?i:(?:api|access|secret|private|auth)[_-]?key|secret|token|passw|pwd)[A-Za-z0-9_-]{0,20}"""
    r"""["']?\ {0,3}(?::=|=|:)\ {0,3}(?:"([!#-&(-\[\]-~]{16,128})"|'([!#-&(-\[\]-~]{16,128})')"""
)
_NOT_PUBLIC: Final = [
    ipaddress.IPv4Network(name)
    for name in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
        "240.0.0.0/4",
    )
]  # fmt: skip
_PICTURES: Final = {"png", "jpg", "jpeg", "gif", "svg", "webp"}
_TLD: Final = re.compile("[A-Za-z\u00c0-\u027f]{2,24}")


def plain_spans(text: str, *, public_only: bool = True) -> set[tuple[int, int, str]]:
    """Start, stop and kind of all candidates, overlaps included."""
    found = {(*span, "email") for span in _emails(text)}
    found |= {
        (*m.span(), "ip address") for m in _IP4.finditer(text) if _is_ip4(m.group(), public_only=public_only)
    }
    found |= {
        (*m.span(), "ip address") for m in _IP6.finditer(text) if _is_ip6(m, text, public_only=public_only)
    }
    found |= {(*m.span(), "phone number") for m in _US_PHONE.finditer(text)}
    found |= {(*m.span(), "phone number") for m in _WORLD_PHONE.finditer(text) if _is_phone(m.group(1))}
    found |= {(*span, "iban") for span in _ibans(text)}
    found |= {(*m.span(), "card number") for m in _CARD.finditer(text) if is_card(m.group())}
    found |= {(*m.span(), "us ssn") for m in _SSN.finditer(text) if _is_ssn(*m.groups())}
    found |= {(*m.span(), "secret") for pattern in _TOKENS for m in pattern.finditer(text)}
    found |= {(*m.span(), "secret") for m in _KEY_BLOCK.finditer(text)}
    for match in _ASSIGNED.finditer(text):
        group = 1 if match.group(1) else 2
        if _is_high(match.group(group)):
            found.add((*match.span(group), "secret"))
    return found


def _emails(text: str) -> Iterator[tuple[int, int]]:
    for match in _EMAIL.finditer(text):
        local = match.group().lstrip(".-")
        if len(match.group()) > 64 or not local:
            continue
        end, i, n_labels = 0, match.end() + 1, 0
        while label := _LABEL.match(text, i):
            i = label.end()
            if label.group().endswith("-"):
                break
            n_labels += 1
            if n_labels > 1 and _TLD.fullmatch(label.group()) and label.group().lower() not in _PICTURES:
                end = i
            if text[i : i + 1] != ".":
                break
            i += 1
        if end:
            yield match.end() - len(local), end


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match.group(1), 0)
        if length:
            groups, rest = divmod(length - 4, 4)
            spaced = " [A-Z0-9]{4}" * groups + (f" [A-Z0-9]{{{rest}}}" if rest else "")
            pattern = spaced if match.group(3) else f"[A-Z0-9]{{{length - 4}}}"
            found = re.compile(pattern + "(?![A-Za-z0-9_])").match(text, match.end(2))
            if found and _remainder(found.group().replace(" ", "") + match.group(1) + match.group(2)) == 1:
                yield match.start(), found.end()


def _remainder(text: str) -> int:
    return int("".join(str(int(character, 36)) for character in text)) % 97


def _is_phone(text: str) -> bool:
    digits = re.sub(r"[^0-9]", "", text.replace("(0)", ""))
    code = next((digits[:n] for n in (1, 2, 3) if int(digits[:n]) in PHONE_CODES), "")
    return bool(code) and 8 <= len(digits) <= 15 and (code not in {"1", "7"} or len(digits) == 11)


def _is_ip4(text: str, *, public_only: bool) -> bool:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not public_only or not any(address in network for network in _NOT_PUBLIC)


def _is_ip6(match: re.Match[str], text: str, *, public_only: bool) -> bool:
    after = text[match.end() : match.end() + 2]
    if re.match(r"[A-Za-z0-9_]|::|\.\d", after, re.ASCII):
        return False
    try:
        address = ipaddress.IPv6Address(match.group())
    except ValueError:
        return False
    n_groups = len(re.findall("[0-9A-Fa-f]+", match.group()))
    if not public_only:
        return n_groups >= 3
    documentation = [ipaddress.ip_network(name) for name in ("2001:db8::/32", "3fff::/20")]
    is_public = address in ipaddress.ip_network("2000::/3") and not any(
        address in net for net in documentation
    )
    return n_groups >= 2 and is_public


def is_card(text: str) -> bool:
    """Grouping, length, issuer and Luhn's checksum of a card."""
    groups = re.split("[ -]", text)
    digits = "".join(groups)
    if not 13 <= len(digits) <= 19 or len(set(re.findall("[ -]", text))) > 1:
        return False
    if len(groups) > 1 and (len(groups[0]) != 4 or not all(3 <= len(group) <= 7 for group in groups)):
        return False
    doubled = [int(d) * (1 + k % 2) for k, d in enumerate(reversed(digits))]
    if sum(d - 9 if d > 9 else d for d in doubled) % 10:
        return False
    issuers = (
        r"4(?:.{12}|.{15}|.{18})|5[1-5].{14}|(?:222[1-9]|22[3-9].|2[3-6]..|27[01].|2720).{12}|3[47].{13}"
        r"|(?:3[68]..|30[0-5].).{10,15}|(?:6011|35..|6[245]..).{12,15}"
    )
    return re.fullmatch(issuers, digits) is not None


def _is_ssn(area: str, group: str, serial: str) -> bool:
    return area not in {"000", "666"} and area < "900" and group != "00" and serial != "0000"


def _is_high(value: str) -> bool:
    if not (re.search("[0-9]", value) and re.search("[A-Za-z]", value)):
        return False
    counts = Counter(value)
    return -sum(n * math.log2(n / len(value)) for n in counts.values()) >= 3.5 * len(value) - 1e-9
