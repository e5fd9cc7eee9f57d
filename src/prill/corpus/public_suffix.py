"""The registered domain of a host: the part that somebody rents, `example.co.uk` of `www.example.co.uk`.

Two sources of the rule: `built_in`, the last two labels, or three under a country whose registry sells
below words such as `co` and `ac`; and `tldextract`, the public suffix list as that package ships it
(extra `clean`), never fetched from the network.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final, Literal, TypeAlias

from prill.errors import ResourceError

__all__ = ["SUFFIX_VERSION", "Suffixes", "registered_domain", "suffixes_state"]

SUFFIX_VERSION: Final = 1
"""Version of the built-in rule."""

Suffixes: TypeAlias = Literal["built_in", "tldextract"]

_SECOND_LEVEL: Final = frozenset((
    "ac", "asn", "co", "com", "edu", "firm", "gen", "go", "gob", "gouv", "gov", "gub", "govt", "gv", "id",
    "ind", "info", "int", "lg", "ltd", "me", "mil", "mod", "muni", "name", "ne", "net", "nhs", "nic",
    "nom", "nsw", "or", "org", "plc", "police", "qld", "res", "sc", "sch", "school", "tm", "vic", "web",
))  # fmt: skip
_ADDRESS: Final = re.compile(r"\[.*\]|[0-9.]+\Z")


def registered_domain(host: str, suffixes: Suffixes = "built_in") -> str | None:
    """The registered domain of a normalised host; None for addresses and hosts without a dot.

    >>> registered_domain("www.example.co.uk"), registered_domain("a.b.example.com")
    ('example.co.uk', 'example.com')

    Raises:
        ResourceError: `tldextract` is not installed.
    Source: publicsuffix.org, the section of registries. Differs: `built_in` knows only the commonest rules.
    """
    if "." not in host or _ADDRESS.match(host):
        return None
    if suffixes == "tldextract":
        return _extractor()(host).top_domain_under_public_suffix or None
    labels = host.split(".")
    if "" in labels:
        return None
    n = 3 if len(labels[-1]) == 2 and len(labels) > 2 and labels[-2] in _SECOND_LEVEL else 2
    return ".".join(labels[-n:])


def suffixes_state(suffixes: Suffixes) -> str:
    """What identifies the rule: its version, or the list's digest."""
    if suffixes == "built_in":
        return f"built_in {SUFFIX_VERSION}"
    import hashlib

    joined = "\n".join(_extractor().tlds)
    return f"public suffix list {hashlib.sha256(joined.encode()).hexdigest()[:16]}"


@functools.cache
def _extractor() -> Any:
    try:
        import tldextract
    except ImportError as error:
        message = "expected the package tldextract for the public suffix list, found none"
        raise ResourceError(message, where="suffixes", hint="pip install 'prill[clean]'") from error
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)
