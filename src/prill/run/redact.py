"""Secrets never reach a log, a record or an error: they are replaced by `***` where text leaves Prill.

Three kinds are known: values of environment variables whose name says that they are secret; credentials
inside URLs (user part and signed query parameters); and tokens with a recognisable form (Hugging Face,
AWS, GitHub, OpenAI style, bearer tokens, JSON web tokens, private keys). Records and fingerprints are made
of redacted values, so that a new password for the same bucket does not start a run anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

__all__ = ["MASK", "is_secret_name", "redact", "redact_json"]

MASK = "***"

_MIN_SECRET_LENGTH = 8  # shorter values of the environment are words such as `false`, not secrets
_SECRET_WORDS = (
    "KEY", "KEYS", "TOKEN", "TOKENS", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE",
    "CREDENTIAL", "CREDENTIALS",
)  # fmt: skip
_PLACE_WORDS = {"FILE", "PATH", "DIR", "HOME", "NAME"}  # GOOGLE_KEY_FILE says where, not what
_SECRET_NAME = (  # of a field or an assignment; `eos_token` and `n_tokens` are no secrets
    r"(?:\w+_)?(?:(?:api|access|secret|private|account)[_-]?key|secret|password|passwd)"
    r"|(?:\w+_)?(?:access|auth|api|hf|hub|session|security|refresh|bearer)_token|token"
)
_SECRET_FIELDS = re.compile(rf"(?:{_SECRET_NAME})", re.I)
_QUERY_NAMES = (
    r"X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|sig|signature|token"
    r"|access_token|auth|key|api_?key|password|secret"
)
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)[^/\s?#\"'<>]+@"), rf"\1{MASK}@"),
    (re.compile(rf"([?&](?:{_QUERY_NAMES})=)[^&\s\"'#<>]+", re.I), rf"\1{MASK}"),
    (re.compile(r"\b(hf|ghp|gho|ghs|ghu|ghr|github_pat)_[A-Za-z0-9_]{16,}"), rf"\1_{MASK}"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"), rf"\1{MASK}"),
    (re.compile(r"\b(sk-)(?=\S*\d)[A-Za-z0-9_-]{20,}"), rf"\1{MASK}"),
    (re.compile(r"\b(AIza)[A-Za-z0-9_-]{35}"), rf"\1{MASK}"),
    (re.compile(r"\b(xox[abps]-)[A-Za-z0-9-]{10,}"), rf"\1{MASK}"),
    (re.compile(r"(\bAuthorization:\s*\w+\s+)\S+", re.I), rf"\1{MASK}"),
    (re.compile(r"\b(Bearer\s+)(?=\S*\d)[A-Za-z0-9._~+/=-]{12,}", re.I), rf"\1{MASK}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"), MASK),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.S), MASK),
    (re.compile(rf"\b((?:{_SECRET_NAME})=)[^\s&\"',;]{{6,}}", re.I), rf"\1{MASK}"),
)  # fmt: skip


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` with every known secret replaced by `***`.

    Args:
        text: any text on its way out.
        environment: where secret values are looked up; the process environment when None.
    """
    return _redact(text, _secrets(os.environ if environment is None else environment))


def redact_json(value: object, environment: Mapping[str, str] | None = None) -> object:
    """A copy of a JSON-like value with every string redacted, and string fields with a secret name masked."""
    return _redact_value(value, _secrets(os.environ if environment is None else environment))


def is_secret_name(name: str) -> bool:
    """Does this environment variable hold a secret, by its name?"""
    words = name.upper().split("_")
    return words[-1] not in _PLACE_WORDS and any(word.endswith(_SECRET_WORDS) for word in words)


def _redact_value(value: object, secrets: tuple[str, ...]) -> object:
    if isinstance(value, str):
        return _redact(value, secrets)
    if isinstance(value, Mapping):
        return {key: _redact_field(key, item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_value(item, secrets) for item in value]
    return value


def _redact_field(key: object, value: object, secrets: tuple[str, ...]) -> object:
    if isinstance(key, str) and isinstance(value, str) and value and _SECRET_FIELDS.fullmatch(key):
        return MASK
    return _redact_value(value, secrets)


def _redact(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    for form, masked in _FORMS:
        text = form.sub(masked, text)
    return text


def _secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    values = {v for k, v in environment.items() if len(v) >= _MIN_SECRET_LENGTH and is_secret_name(k)}
    return tuple(sorted(values, key=lambda value: (-len(value), value)))
