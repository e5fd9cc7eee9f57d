"""Fingerprints, safe names, the part journal and redaction."""

from __future__ import annotations

import doctest
import importlib
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import InternalError
from prill.run.fingerprint import canonical_json, file_digest, fingerprint, safe_name
from prill.run.parts import Journal, PartEntry
from prill.run.redact import MASK, is_secret_name, redact, redact_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("module", ["fingerprint", "pace", "marker"])
def test_examples_in_docstrings_hold(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"prill.run.{module}")).failed == 0


def test_the_fingerprint_is_the_hash_of_canonical_json() -> None:
    assert canonical_json({"b": (1, 1.0), "a": "é"}) == b'{"a":"\\u00e9","b":[1,1.0]}'
    # printf '{"a":1}' | sha256sum
    assert fingerprint({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.0})
    assert fingerprint({"a": True}) != fingerprint({"a": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, {1: 2}, {1, 2}, b"x", Path("x"), [object()]])
def test_what_is_not_plain_json_has_no_fingerprint(value: object) -> None:
    with pytest.raises(InternalError, match="in a fingerprint"):
        fingerprint({"a": value})


@given(value=JSON)
@settings(max_examples=50, deadline=None)
def test_canonical_json_is_ascii_and_stable(value: object) -> None:
    text = canonical_json(value)
    assert text.isascii()
    assert canonical_json(__import__("json").loads(text)) == text


@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_a_safe_name_is_always_a_plain_file_name(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name) <= 60
    assert all(c in "abcdefghijklmnopqrstuvwxyz0123456789_-" for c in name)
    assert safe_name(name) == name or len(name) > 48


def test_different_texts_with_one_slug_stay_apart() -> None:
    assert len({safe_name(text) for text in ("a b", "a-b", "A b", "a/b", "ä b", "../a-b", "")}) == 7


def test_a_file_digest_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert file_digest(tmp_path / "x") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(damage=st.integers(min_value=0), how=st.sampled_from(["cut", "flip"]))
@settings(max_examples=60, deadline=None)
def test_a_damaged_journal_loses_lines_and_never_lies(
    tmp_path_factory: pytest.TempPathFactory, damage: int, how: str
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    entries = [PartEntry(name=f"p{i}", size=i, sha256="ab" * 32, facts={"n_rows": i}) for i in range(4)]
    journal = Journal(folder)
    for entry in entries:
        journal.add(entry)
    content = bytearray(journal.path.read_bytes())
    at = damage % len(content)
    if how == "cut":
        content = content[:at]
    else:
        content[at] ^= 1 << (damage % 8)
    journal.path.write_bytes(content)
    again = Journal(folder)
    read = [again.get(entry.name) for entry in entries]
    assert all(found in (None, entry) for found, entry in zip(read, entries, strict=True))
    assert read.count(None) <= (4 if how == "cut" else 2)
    again.add(entries[0])  # after a torn line, too
    assert Journal(folder).get("p0") == entries[0]


def test_secret_values_of_the_environment_are_masked() -> None:
    environment = {
        "HF_TOKEN": "correct-horse-battery",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
        "DB_PASSWORD": "short",
        "TOKENIZERS_PARALLELISM": "disabled-please",
        "GOOGLE_KEY_FILE": "/home/me/keyfile",
        "HOME": "/home/someone",
    }
    text = "correct-horse-battery wJalrXUtnFEMI/K7MDENG short disabled-please /home/me/keyfile /home/someone"
    assert redact(text, environment) == f"{MASK} {MASK} short disabled-please /home/me/keyfile /home/someone"
    assert is_secret_name("OPENAI_APIKEY")
    assert not is_secret_name("PATH")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://key:p@ss@host/bucket/a.parquet", "s3://***@host/bucket/a.parquet"),
        ("open https://user:pw@example.org now", "open https://***@example.org now"),
        ("https://h/x?X-Amz-Signature=abc123&y=1", "https://h/x?X-Amz-Signature=***&y=1"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "hf_***"),
        ("id AKIAIOSFODNN7EXAMPLE.", "id AKIA***."),
        ("Authorization: Basic YWxhZGRpbjpvcGVu", "Authorization: Basic ***"),
        ("Bearer abcdefgh12345678", "Bearer ***"),
        ("aws_secret_access_key=abcdefgh12345", "aws_secret_access_key=***"),
        ("ghp_0123456789abcdefghij", "ghp_***"),
    ],
)
def test_tokens_with_a_known_form_are_masked(text: str, masked: str) -> None:
    assert redact(text, {}) == masked


@pytest.mark.parametrize(
    "text",
    [
        "gs://bucket/web-*.jsonl.zst",
        "mail me@example.org",
        "n_tokens=1000000",
        "eos_token=<|endoftext|>",
        "a basic understanding of bearer certificates",
        "token: expected a string",
        "hf_home",
        "https://example.org/a?page=2",
        "C:/data@v2/x",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text, {}) == text


def test_secret_fields_of_settings_are_masked_by_their_name() -> None:
    options = {
        "storage": {
            "key": "plain",
            "secret": "x",
            "api_key": "y",
            "eos_token": "<e>",
            "urls": ["s3://a:b@h/c"],
        }
    }
    assert redact_json(options, {}) == {
        "storage": {
            "key": "plain",
            "secret": MASK,
            "api_key": MASK,
            "eos_token": "<e>",
            "urls": [f"s3://{MASK}@h/c"],
        }
    }
