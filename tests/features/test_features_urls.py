"""Normal forms, parts and registered domains of URLs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prill.corpus.public_suffix import registered_domain, suffixes_state
from prill.features.urls import normalise_url, normalise_urls, url_parts, word_hashes

_PIECES = (
    st.sampled_from(
        [
            "http",
            "https",
            "HTTP",
            "ftp",
            "://",
            "://",
            "a.Example.COM",
            "user:pw@",
            ":80",
            ":443",
            ":8080",
            ":",
        ]
    )
    | st.sampled_from(
        [
            "/",
            "/A/b",
            "/é",
            "?",
            "&",
            "utm_source=1",
            "fbclid",
            "Q=1",
            "#",
            "#top",
            ".",
            "..",
            "xn--mnchen-3ya",
        ]
    )
    | st.sampled_from(["[::1]", "%2F", "MÜNCHEN.de", "a/b", "x--y", *"\\\u3002Ｅ\x00 \tİß-_:"])
)
_URLS = st.lists(_PIECES, max_size=8).map("".join) | st.text(max_size=20).map("http://".__add__)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.COM/Some/Path", "http://example.com/Some/Path"),
        ("http://a.org/x#part", "http://a.org/x"),
        ("http://a.org:80/x", "http://a.org/x"),
        ("https://a.org:443", "https://a.org/"),
        ("https://a.org:80/", "https://a.org:80/"),
        ("http://a.org/?utm_source=x&b=2&gclid=3", "http://a.org/?b=2"),
        ("http://a.org/?fbclid=1", "http://a.org/"),
        ("http://xn--mnchen-3ya.de/x", "http://münchen.de/x"),
        ("http://MÜNCHEN.de/x", "http://münchen.de/x"),
        ("https://name:secret@a.org/x", "https://a.org/x"),
        ("http://a.org./x", "http://a.org/x"),
        ("  http://a.org/x\n", "http://a.org/x"),
        ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]/"),
        ("mailto:Someone", "mailto:Someone"),
    ],
)
def test_normal_form_of_known_urls(url: str, expected: str) -> None:
    assert normalise_url(url) == expected
    assert normalise_urls(pa.array([url])).to_pylist() == [expected]


def test_a_slash_in_disguise_never_changes_the_host() -> None:
    """U+FF0F is a slash in compatibility form: folding it would move the page to another host."""
    assert normalise_url("http://good.org／evil.com/") == "http://good.org／evil.com/"
    disguised = "http://" + "a/b.com".encode("punycode").decode() + "/"
    assert url_parts(normalise_urls(pa.array([disguised]))).host.to_pylist() != ["a/b.com"]


@given(st.lists(st.none() | _URLS, max_size=6))
@example(["http://a:80:80/", "http://a./x #f", "http://ａ:80."])
@settings(deadline=None, max_examples=300)
def test_kernel_equals_the_plain_function_and_twice_equals_once(urls: list[str | None]) -> None:
    column = pa.array(urls, pa.large_string())
    normalised = normalise_urls(column)
    assert normalised.to_pylist() == [None if url is None else normalise_url(url) or None for url in urls]
    assert normalise_urls(normalised).equals(normalised)


def test_slices_and_chunks_are_read_at_their_place() -> None:
    column = pa.array(["http://A/", None, "HTTP://b", "http://C.D/x"])
    assert normalise_urls(column.slice(1, 2)).to_pylist() == [None, "http://b/"]
    assert normalise_urls(pa.chunked_array([column, column.slice(3)])).to_pylist()[3:] == ["http://c.d/x"] * 2


def test_parts_of_a_url() -> None:
    parts = url_parts(
        normalise_urls(pa.array(["https://www.A.com:8080/x/Yy/file.HTML?a=1&b=%20", "readme", None]))
    )
    assert parts.host.to_pylist() == ["www.a.com", None, None]
    assert parts.scheme.to_pylist() == ["https", None, None]
    assert parts.extension.to_pylist() == ["html", None, None]
    assert parts.port.to_pylist() == [8080, None, None]
    assert parts.host_depth.tolist() == [3, 0, 0]
    assert parts.path_depth.tolist() == [3, 0, 0]
    assert parts.n_keys.tolist() == [2, 0, 0]
    assert parts.n_escapes.tolist() == [1, 0, 0]


def test_share_of_digits_and_entropy_by_hand() -> None:
    parts = url_parts(pa.array(["aabb1234", ""]))
    assert parts.digit_share.tolist() == [0.5, 0.0]
    # aabb: 2 x 2/8 with 2 bits, 4 x 1/8 with 3 bits: 2 * 0.25 * 2 + 4 * 0.125 * 3 = 2.5
    np.testing.assert_allclose(parts.entropy, [2.5, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.com", "example.com"),
        ("example.com", "example.com"),
        ("news.bbc.co.uk", "bbc.co.uk"),
        ("co.uk", "co.uk"),
        ("127.0.0.1", None),
        ("[::1]", None),
        ("localhost", None),
    ],
)
def test_registered_domain(host: str, domain: str | None) -> None:
    assert registered_domain(host) == domain


def test_public_suffix_list_agrees_on_common_hosts() -> None:
    pytest.importorskip("tldextract")
    hosts = ["www.example.com", "news.bbc.co.uk", "a.b.gov.au", "x.ac.jp", "de.wikipedia.org"]
    assert [registered_domain(host, "tldextract") for host in hosts] == [
        registered_domain(host) for host in hosts
    ]
    assert registered_domain("a.b.city.kawasaki.jp", "tldextract") == "city.kawasaki.jp"
    assert suffixes_state("tldextract").startswith("public suffix list ")


def test_hash_of_words_is_fnv() -> None:
    assert word_hashes(("a",)).tolist() == [0xAF63DC4C8601EC8C]  # published vector
