"""The normal form of URLs, so that one page has one key, and what a URL says of its page.

The normal form has scheme and host in lower case, no user, no default port, no fragment and no tracking
parameters, a path of at least `/`, and labels in punycode written as the letters they stand for. The case of
the path is kept, as are the order of parameters and escapes. Normalising twice changes nothing.

Legend: D URLs.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers

__all__ = ["URL_VERSION", "UrlParts", "normalise_url", "normalise_urls", "url_parts", "word_hashes"]

URL_VERSION: Final = 1
"""Version of the normal form and of the parts; it changes whenever one of them changes."""

_TRACKING: Final = (
    "__hsfp", "__hssc", "__hstc", "__s", "_ga", "_gl", "_hsenc", "_hsmi", "_openstat", "cmpid", "dclid",
    "fbclid", "gad_source", "gbraid", "gclid", "gclsrc", "hsctatracking", "igsh", "igshid", "jsessionid",
    "li_fat_id", "mc_cid", "mc_eid", "mkt_tok", "ml_subscriber", "ml_subscriber_hash", "msclkid",
    "oly_anon_id", "oly_enc_id", "phpsessid", "rb_clickid", "s_cid", "ttclid", "twclid", "vero_conv",
    "vero_id", "wbraid", "wickedid", "yclid",
)  # fmt: skip
_IS_TRACKING: Final = frozenset(_TRACKING)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AUTHORITY_END: Final = re.compile(r"[/?#\\]")
_PORT: Final = re.compile(r"(.*):([0-9]{0,5})\Z", re.DOTALL)
_NOT_IN_HOSTS: Final = re.compile(r"[\x00-\x20\x7f/?#@\\:%\[\]\s]")
_OUTER: Final = "".join(map(chr, range(0x21)))
_INNER: Final = str.maketrans("", "", "\t\n\r")
_ENTROPY_LIMIT: Final = 4096
_MOST_ROUNDS: Final = 16


def normalise_url(url: str) -> str:
    """The normal form of one URL; text without `scheme://` only loses outer white space.

    >>> normalise_url("HTTP://User:pw@Example.COM:80/A/b?utm_source=x&Q=1#top")
    'http://example.com/A/b?Q=1'
    >>> normalise_url("https://xn--mnchen-3ya.de")
    'https://münchen.de/'

    Source: the usual tracking parameters (Li et al. 2024, arXiv:2402.11495, is trained on such URLs); RFC
    3986, section 6.
    Differs: escapes and dot segments stay as they are; users are removed, since they name no page.
    """
    for _ in range(_MOST_ROUNDS):  # one round is enough but for contrived hosts, such as `a:80:80`
        again = _once(url)
        if again == url:
            break
        url = again
    return url


def normalise_urls(urls: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The normal forms of a column of URLs, as `normalise_url` defines them.

    Args:
        urls: string or large_string, D URLs, nulls allowed.
    Returns:
        large_string, D rows; null where there was none or only white space.
    """
    import pyarrow.compute as pc

    from prill.features._url_kernel import normalise_plain

    column = _large(urls)
    offsets, data = text_buffers(column)
    out_offsets = np.zeros(len(column) + 1, np.int64)
    out = np.empty(int(offsets[-1] - offsets[0]) + len(column), np.uint8)
    is_other_D = np.zeros(len(column), np.bool_)
    normalise_plain(offsets, data, word_hashes(_TRACKING), out_offsets, out, is_other_D)
    is_null_D = np.asarray(column.is_null())
    is_other_D &= ~is_null_D
    plain = _strings(out_offsets, out)
    others = pa.array(is_other_D)
    values = [normalise_url(url) or None for url in column.filter(others).to_pylist()]
    written = pc.if_else(pa.array(is_null_D), pa.scalar(None, pa.large_string()), plain)
    return pc.replace_with_mask(written, others, pa.array(values, pa.large_string()))


@dataclass(frozen=True, kw_only=True, eq=False)
class UrlParts:
    """What normalised URLs are made of; all shape (D,).

    Attributes:
        host: large_string; null where the URL has none.
        extension: large_string, lower case; null where the path ends in none.
        port: int32; null where the URL names none.
        scheme: large_string; null where there is none.
        host_depth, path_depth: labels of the host, segments of the path.
        n_escapes, n_keys: `%` in the URL, parameters in the query.
        digit_share, entropy: share of digits among the characters, and bits a character, of the first 4096
            bytes.
    """

    host: pa.Array
    extension: pa.Array
    port: pa.Array
    scheme: pa.Array
    host_depth: NDArray[np.int16]
    path_depth: NDArray[np.int16]
    n_escapes: NDArray[np.int16]
    n_keys: NDArray[np.int16]
    digit_share: NDArray[np.float32]
    entropy: NDArray[np.float32]


def url_parts(normalised: pa.Array) -> UrlParts:
    """Cut normalised URLs (`normalise_urls`) into their parts and count what is in them.

    Source: the features of the cheap baseline for URL classes (Li et al. 2024, arXiv:2402.11495, compares
    with such). Differs: none.
    """
    import pyarrow.compute as pc

    from prill.features._url_kernel import find_parts, url_counts

    column = _large(normalised)
    offsets, data = text_buffers(column)
    n = len(column)
    host, path, extension = (np.zeros((n, 2), np.int64) for _ in range(3))
    port = np.zeros(n, np.int32)
    find_parts(offsets, data, host, path, extension, port)
    host_depth, path_depth, n_escapes, n_keys = (np.zeros(n, np.int16) for _ in range(4))
    digit_share, entropy = (np.zeros(n, np.float32) for _ in range(2))
    sizes = np.arange(_ENTROPY_LIMIT + 1, dtype=np.float64)
    information = sizes * np.log2(np.maximum(sizes, 1))
    depths = (host_depth, path_depth)
    url_counts(offsets, data, host, path, information, *depths, n_escapes, n_keys, digit_share, entropy)
    first = np.where(host[:, 0] > offsets[:-1], offsets[:-1], host[:, 0])
    schemes = np.stack([first, np.maximum(host[:, 0] - 3, first)], axis=1)
    return UrlParts(
        host=_cut(data, host),
        extension=pc.ascii_lower(_cut(data, extension)),
        port=pa.array(port, mask=port < 0),
        scheme=_cut(data, schemes),
        host_depth=host_depth,
        path_depth=path_depth,
        n_escapes=n_escapes,
        n_keys=n_keys,
        digit_share=digit_share,
        entropy=entropy,
    )


def _once(url: str) -> str:
    url = url.strip(_OUTER).translate(_INNER)
    found = _SCHEME.match(url)
    if found is None:
        return url
    scheme, rest = found.group(1).lower(), url[found.end() :]
    end = _AUTHORITY_END.search(rest)
    authority, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    host, port = _host_and_port(authority.rpartition("@")[2], scheme)
    path, _, query = tail.partition("#")[0].partition("?")
    kept = [part for part in query.split("&") if part and not _is_tracking(part)]
    path = path if path.startswith("/") else f"/{path}"
    return (f"{scheme}://{host}{port}{path}" + ("?" + "&".join(kept) if kept else "")).rstrip(_OUTER)


def _large(urls: pa.Array | pa.ChunkedArray) -> pa.Array:
    column = urls.combine_chunks() if isinstance(urls, pa.ChunkedArray) else urls
    return column if pa.types.is_large_string(column.type) else column.cast(pa.large_string())


def _strings(offsets: NDArray[np.int64], data: NDArray[Any]) -> pa.Array:
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def _cut(data: NDArray[np.uint8], spans_D2: NDArray[np.int64]) -> pa.Array:
    """data[start:stop] of every row as strings; null where start = stop."""
    import pyarrow.compute as pc

    lengths = spans_D2[:, 1] - spans_D2[:, 0]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    places = np.repeat(spans_D2[:, 0] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return pc.if_else(
        pa.array(lengths > 0), _strings(offsets, data[places]), pa.scalar(None, pa.large_string())
    )


def word_hashes(words: tuple[str, ...]) -> NDArray[np.uint64]:
    """FNV-1a of the UTF-8 of words, as the kernels compute it, sorted."""
    hashes = []
    for word in words:
        value = 0xCBF29CE484222325
        for byte in word.encode():
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        hashes.append(value)
    return np.array(sorted(hashes), np.uint64)


def _is_tracking(part: str) -> bool:
    key = _ascii_lower(part.partition("=")[0])
    return key.startswith("utm_") or key in _IS_TRACKING


def _ascii_lower(text: str) -> str:
    return text.lower() if text.isascii() else text


def _host_and_port(authority: str, scheme: str) -> tuple[str, str]:
    """Host in its normal form, and `:port`, empty for the default port."""
    found = _PORT.match(authority)
    if found is None:
        return _host(authority), ""
    host, port = found.groups()
    is_default = not port or int(port) == _DEFAULT_PORTS.get(scheme)
    return _host(host), "" if is_default else f":{port}"


def _host(host: str) -> str:
    host = _ascii_lower(host) if host.isascii() else _folded(host)
    host = host[:-1] if host.endswith(".") and not host.endswith("..") and len(host) > 1 else host
    return ".".join(_label(label) for label in host.split(".")) if "xn--" in host else host


def _folded(host: str) -> str:
    """Compatibility form and case folding, unless that makes characters that no host may have."""
    folded = host.replace("\u3002", ".")
    for _ in range(4):
        again = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())
        if again == folded:
            return host if _NOT_IN_HOSTS.search(folded) else folded
        folded = again
    return host


def _label(label: str) -> str:
    """A label in punycode as the letters it stands for, where that is sure to be the same host."""
    if not label.startswith("xn--") or len(label) > 63:
        return label
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
        same = decoded.encode("punycode").decode("ascii") == label[4:]
    except UnicodeError:
        return label
    is_safe = same and not decoded.isascii() and not _NOT_IN_HOSTS.search(decoded) and "." not in decoded
    return decoded if is_safe and _folded(decoded) == decoded and decoded.isprintable() else label
