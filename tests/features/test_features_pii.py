"""Personal data and secrets: kernels against plain patterns, planted data, and what must not be found."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prill.demo.machine_text import reference_topics
from prill.features._pii_oracle import plain_spans
from prill.features.pii import PII_KINDS, PiiKind, find_spans, strict_phones

_PIECES = [
    "@", "a", "B.c", "com", "example.org", ".", "..", "-", "_", "é", "日", "8.8.8.8", "10.0.0.1", "1", "2",
    "212", "555", "(212)", "1234", "-", ".", " ", " ", "+", "1-", "::", "2001:4860", "fe80", "abcd", ":",
    "4111 1111 1111 1111", "000", "4111111111111111", "5265-9251-6151-1412", "123-45-6789", "AKIA",
    "IOSFODNN7EXAMPLE", "ghp_", "x" * 36, "sk-", "=", "api_key", "secret", "token", "password", "pwd",
    ":=", '"', "'", "aB3dE5gH7jK9mN1pQ3sT", "eyJhbGciOiJIUzI1NiJ9", "%", "-----BEGIN ", "RSA ",
    "PRIVATE KEY", "-----", "-----", "\n", "-----END ", "xoxb-", "hf_", "npm_", "SG.", "pypi-", "/", "png",
    "+1", "+44", "+49 30 ", "(0)", "(", ")", "DE89", "370400440532013000", "DE89 3704 0044 0532 0130 00",
    "#", "😀",
]  # fmt: skip


def _spans(texts: list[str], *, public_only: bool = True) -> list[list[tuple[int, int, str]]]:
    """What the kernel finds, in characters."""
    found: list[list[tuple[int, int, str]]] = [[] for _ in texts]
    for d, start, stop, kind in find_spans(
        pa.array(texts, pa.large_string()), public_only=public_only
    ).tolist():
        text = texts[d].encode()
        found[d].append((len(text[:start].decode()), len(text[:stop].decode()), PII_KINDS[kind]))
    return found


def _plain(text: str, *, public_only: bool = True) -> list[tuple[int, int, str]]:
    """What the patterns find, of overlapping spans the first and longest."""
    kept: list[tuple[int, int, str]] = []
    spans = plain_spans(text, public_only=public_only)
    for span in sorted(spans, key=lambda span: (span[0], -span[1], PII_KINDS.index(span[2]))):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


def _found(text: str, kinds: tuple[PiiKind, ...] = PII_KINDS, **options: bool) -> list[tuple[str, str]]:
    spans_S4 = find_spans(pa.array(["", text], pa.large_string()), kinds, **options)
    data = text.encode()
    return [(PII_KINDS[kind], data[start:stop].decode()) for _, start, stop, kind in spans_S4.tolist()]


@given(st.lists(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join), max_size=5), st.booleans())
@example(["1 (212) 555-1234", "a@b.c.d-.com", "x" * 63 + ".5.5.5.5", " " * 62 + "AB12"], True)
@settings(deadline=None, max_examples=400)
def test_kernel_finds_what_the_plain_patterns_find(texts: list[str], public_only: bool) -> None:
    for text, found in zip(texts, _spans(texts, public_only=public_only), strict=True):
        assert found == _plain(text, public_only=public_only)


@given(st.lists(st.text(max_size=200), max_size=4))
@settings(deadline=None, max_examples=50)
def test_any_text_gives_spans_between_characters_without_overlap(texts: list[str]) -> None:
    end, document = 0, -1
    for d, start, stop, _ in find_spans(pa.array(texts, pa.large_string())).tolist():
        texts[d].encode()[start:stop].decode()
        end = end if d == document else 0
        assert end <= start < stop
        end, document = stop, d


def test_kernel_finds_what_the_plain_patterns_find_in_real_text() -> None:
    shared = os.environ.get("PRILL_SHARED_DATA")
    texts = list(reference_topics().values())[:60]
    if shared:
        files = sorted(Path(shared).glob("corpus/*.parquet"))
        texts = [
            text for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()[::50]
        ]
    assert _spans(texts) == [_plain(text) for text in texts]


def test_fifty_planted_addresses_are_found_fifty_times() -> None:
    """Same address twice, mixed case, first and last byte of a document: none is lost or counted twice."""
    generator = random.Random(5)
    planted = [f"Name.{k % 40}+tag@Mail{k % 40}.Example.ORG" for k in range(50)]
    words = [generator.choice(["the", "Ärger", "日本", "1999", "x@y", "@home"]) for _ in range(4000)]
    documents = []
    for k in range(10):
        part = words[400 * k : 400 * k + 400]
        for address in planted[5 * k : 5 * k + 5]:
            part.insert(generator.randrange(len(part)), address)
        documents.append(" ".join(part))
    spans_S4 = find_spans(pa.array([*documents, planted[0], planted[1] + "."], pa.large_string()), ["email"])
    found = [
        [*documents, planted[0], planted[1] + "."][d].encode()[start:stop].decode()
        for d, start, stop, _ in spans_S4
    ]
    assert sorted(found) == sorted([*planted, planted[0], planted[1]])


@pytest.mark.parametrize(
    ("text", "kind", "span"),
    [
        ("mail:jane.doe@example.com.", "email", "jane.doe@example.com"),
        ("müller@beispiel.de", "email", "müller@beispiel.de"),
        ("連絡先info@example.jpまで", "email", "info@example.jp"),
        ("at 8.8.4.4, then", "ip address", "8.8.4.4"),
        ("[2001:4860:4860::8888]:443", "ip address", "2001:4860:4860::8888"),
        ("call (212) 555-0123 now", "phone number", "(212) 555-0123"),
        ("call 212.555.0123!", "phone number", "212.555.0123"),
        ("電話+81 3-1234-5678です", "phone number", "+81 3-1234-5678"),
        ("+44 (0)20 7946 0958", "phone number", "+44 (0)20 7946 0958"),
        ("card 4111-1111-1111-1111.", "card number", "4111-1111-1111-1111"),
        ("amex 3782 822463 10005", "card number", "3782 822463 10005"),
        ("IBAN: GB82 WEST 1234 5698 7654 32", "iban", "GB82 WEST 1234 5698 7654 32"),
        ("DE89370400440532013000", "iban", "DE89370400440532013000"),
        ("id AKIAIOSFODNN7EXAMPLE", "secret", "AKIAIOSFODNN7EXAMPLE"),
        ("apiKey: 'q7Zp0Lk2Vx9Rt4Wn8Ys1'", "secret", "q7Zp0Lk2Vx9Rt4Wn8Ys1"),
        ("ghp_" + "a1B2" * 9, "secret", "ghp_" + "a1B2" * 9),
        ("SSN 123-45-6789", "us ssn", "123-45-6789"),
    ],
)
def test_each_kind_is_found_with_its_exact_span(text: str, kind: str, span: str) -> None:
    assert _found(text) == [(kind, span)]


@pytest.mark.parametrize(
    "text",
    [
        "user@localhost", "@mention", "a@b", "package@1.2.3", "logo@2x.png",
        "192.168.0.1 10.1.2.3 127.0.0.1 0.0.0.0", "v1.2.3.4 and 1.2.3.4.5 and 300.1.1.1",
        "std::vector and ab::cd at 12:30:45", "2001:db8::1 fe80::1 ::1",
        "112-555-0123 and 2147483647 and 212 555 1234", "1234-5678-9012-3456 and 4111111111111112",
        "4111 1111 1111 1111 1111 1111", "GB82 WEST 1234 5698 7654 33", "FR76AAAA",
        "key: 'the quick brown fox jumps'", "token = ''", "password: \"hunter2\"",
        "monkey = 'q7Zp0Lk2Vx9Rt4Wn8Ys1'", "sk-fading-circle-with-many-dots-12", "AKIAIOSFODNN7EXAMPLEX",
        "ISBN 978-3-16-148410-0", "000-12-3456", "eyJhbGci", "2012-05-13 12:00", "+1 23",
    ],
)  # fmt: skip
def test_look_alikes_are_left_alone(text: str) -> None:
    assert _found(text) == []


def test_private_addresses_are_found_when_asked_for() -> None:
    assert _found("10.0.0.1 fe80:0:0::1", public_only=False) == [
        ("ip address", "10.0.0.1"),
        ("ip address", "fe80:0:0::1"),
    ]


def test_private_key_blocks_are_one_span() -> None:
    block = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\nAAAA\n-----END OPENSSH PRIVATE KEY-----"
    assert _found(f"x\n{block}\ny") == [("secret", block)]
    assert _found("-----BEGIN PRIVATE KEY-----\ncut") == [("secret", "-----BEGIN PRIVATE KEY-----")]
    assert _found("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----") == []


@pytest.mark.parametrize("word", ["ISBN", "doi:", "#"])
def test_references_are_skipped_only_when_asked_for(word: str) -> None:
    text = f"{word} 212-555-0123" + " " * 60
    assert _found(text) == [("phone number", "212-555-0123")]
    assert _found(text, skip_references=True) == []
    assert _found(word + " " * 51 + "212-555-0123", skip_references=True) == [
        ("phone number", "212-555-0123")
    ]


def test_strict_phones_drop_numbers_that_no_plan_has() -> None:
    pytest.importorskip("phonenumbers")
    text = pa.array(["212-456-7890 or 999-999-9999 or me@x.org"], pa.large_string())
    spans_S4 = find_spans(text)
    assert spans_S4[:, 3].tolist() == [2, 2, 0]
    assert strict_phones(text, spans_S4)[:, 3].tolist() == [2, 0]


@pytest.mark.parametrize(
    "unit",
    [
        "1-",
        "a@",
        "@a.",
        "1.",
        "1:",
        "-----BEGIN PRIVATE KEY-----",
        "eyJaaaaaaaaaa.",
        "key='",
        "(",
        "+1 ",
        "DE89 ",
        "secret_",
    ],
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    """A megabyte of beginnings: 2 s is far above what plain text takes, far below anything quadratic."""
    find_spans(pa.array(["warm"], pa.large_string()))
    text = pa.array([unit * (1_000_000 // len(unit))], pa.large_string())
    begin = time.process_time()
    find_spans(text)
    assert time.process_time() - begin < 2
