"""HTML to text: which documents are HTML, and what a reader of the page would read.

Extraction is done by resiliparse (extra `html`), the extractor of DCLM, after limits that keep hostile pages
from costing more than their size: bytes, and depth of nesting, are counted first, in linear time.

Legend: D documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.errors import ResourceError

__all__ = [
    "HTML_VERSION",
    "HtmlOptions",
    "HtmlStatus",
    "extract_text",
    "extract_texts",
    "extractor_state",
    "is_html",
]

HTML_VERSION: Final = 1
"""Version of detection and limits; the extractor's own version is recorded beside it."""

HtmlStatus: TypeAlias = Literal["not html", "extracted", "empty", "too large", "too deep"]

_SEEN: Final = 2048
_PAGE: Final = r"(?i)^\s*(?:<\?xml[^>]*>|<!--|<!doctype\s+html|<html[\s>]|<head[\s>]|<body[\s>])"
_ELEMENT: Final = (
    r"(?i)<(?:!doctype\s+html|html|head|body|div|table|script|style|meta|link|p|a\s|ul|h[1-6]|span|br)[\s/>]"
)
_LEAST_ELEMENTS: Final = 4
_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]{0,30})")
_FLAT: Final = frozenset((
    "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option",
    "p", "source", "td", "th", "tr", "track", "wbr",
))  # fmt: skip
"""Elements without content, and those that the next of their kind closes."""


class HtmlOptions(BaseModel):
    """How HTML documents become text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    main_content: bool = Field(
        True, description="Leave out navigation, headers, footers and other boilerplate."
    )
    links: bool = Field(False, description="Keep the targets of links in the text.")
    max_bytes: int = Field(
        10_000_000, ge=1000, description="Larger documents are not parsed, and come out empty."
    )
    max_depth: int = Field(
        500, ge=10, le=2000, description="Pages nested deeper are not parsed, and come out empty."
    )


def is_html(text: pa.Array) -> NDArray[np.bool_]:
    """Which documents are HTML: bool, shape (D,).

    A document is HTML when it begins as a page does, or when its first 2048 characters hold four tags of
    HTML; text that mentions a tag or two is not.

    Args:
        text: large_string without nulls, D documents, any slice.
    """
    import pyarrow.compute as pc

    has_tag_D = np.asarray(pc.match_substring(text, "<"))
    found_D = np.zeros(len(text), np.bool_)
    if has_tag_D.any():
        heads = pc.utf8_slice_codeunits(text.filter(pa.array(has_tag_D)), 0, _SEEN)
        n_elements = np.asarray(pc.count_substring_regex(heads, _ELEMENT))
        begins = np.asarray(pc.match_substring_regex(heads, _PAGE))
        found_D[has_tag_D] = (n_elements >= _LEAST_ELEMENTS) | (begins & (n_elements > 0))
    return found_D


def extract_text(html: str, options: HtmlOptions) -> tuple[str, HtmlStatus]:
    """The text of one HTML document, and how it went; the text is empty unless it was extracted.

    Raises:
        ResourceError: resiliparse is not installed.
    Source: Bevendorff et al. 2018, Elastic ChatNoir; Li et al. 2024 (DCLM, arXiv:2406.11794, section 4.2).
    """
    extract = _extractor()
    if len(html) > options.max_bytes or len(html.encode()) > options.max_bytes:
        return "", "too large"
    if _depth(html) > options.max_depth:
        return "", "too deep"
    text = str(
        extract(
            html.replace("\x00", ""), main_content=options.main_content, links=options.links, alt_texts=False
        )
    )
    return (text, "extracted") if text.strip() else ("", "empty")


def extract_texts(text: pa.Array, options: HtmlOptions | None = None) -> tuple[pa.Array, list[HtmlStatus]]:
    """A column whose HTML documents are replaced by their text; others stay as they are.

    Work of Python and C a document: call it from processes, a shard each, where whole corpora are HTML.

    Args:
        text: large_string without nulls, D documents, any slice.
    Returns:
        large_string, D rows, and the status of each.
    Raises:
        ResourceError: there is HTML and resiliparse is not installed.
    """
    import pyarrow.compute as pc

    options = options or HtmlOptions()
    html_D = is_html(text)
    status: list[HtmlStatus] = ["not html"] * len(text)
    if not html_D.any():
        return text, status
    mask = pa.array(html_D)
    found = [extract_text(document, options) for document in text.filter(mask).to_pylist()]
    for d, (_, said) in zip(np.flatnonzero(html_D), found, strict=True):
        status[d] = said
    return pc.replace_with_mask(
        text, mask, pa.array([piece for piece, _ in found], pa.large_string())
    ), status


def extractor_state() -> str:
    """Name and version of the extractor.

    Raises:
        ResourceError: it is not installed.
    """
    from importlib import metadata

    _extractor()
    return f"resiliparse {metadata.version('resiliparse')}"


def _extractor() -> Callable[..., Any]:
    try:
        from resiliparse.extract.html2text import extract_plain_text
    except ImportError as error:
        message = "expected the package resiliparse for HTML, found none"
        raise ResourceError(message, where="html", hint="pip install 'prill[html]'") from error
    found: Callable[..., Any] = extract_plain_text
    return found


def _depth(html: str) -> int:
    """About how many elements are open at once at most, by counting tags; parsers close more by themselves.

    The extractor's time grows with the square of the depth: 7 s for 10,000, minutes for 100,000.
    """
    depth = deepest = 0
    for slash, name in _TAG.findall(html):
        if slash:
            depth = max(depth - 1, 0)
        elif name.lower() not in _FLAT:
            depth += 1
            deepest = max(deepest, depth)
    return deepest
