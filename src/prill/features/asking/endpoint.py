"""A chat endpoint: one question, one answer, with retries; nothing but the address of the recipe is opened.

The key is read from an environment variable when a request is made; it is never stored, and taken out of
whatever the server says before that is shown. Redirects are refused, since their address is not the recipe's.
An answer that trickles in has the same time limit as one that does not begin.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from prill.errors import RecipeError, ResourceError, printable
from prill.features.asking.connection import open_request
from prill.run.redact import MASK, redact

__all__ = ["Answer", "Endpoint", "EndpointSpec"]

_TRANSIENT: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S: Final = 60.0
_LARGEST_ANSWER_BYTES: Final = 8 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024


class EndpointSpec(BaseModel):
    """Where a model answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(description="Address up to /v1, http or https, without user name or password.")
    model: str = Field(min_length=1, description="Name of the model as the endpoint knows it.")
    key_variable: str | None = Field(None, description="Environment variable that holds the key, if any.")
    max_answer_tokens: int = Field(2_048, ge=1, description="Most tokens of an answer.")
    temperature: float = Field(0.0, ge=0.0, le=2.0, description="Sampling temperature; 0 is greedy.")
    timeout_s: float = Field(120.0, gt=0.0, le=3_600.0, description="Longest wait for an answer, seconds.")
    max_retries: int = Field(5, ge=0, le=20, description="How often a failed request is sent again.")

    @field_validator("base_url")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an http or https address")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("expected an address without user name, password or query")
        return value.rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said.

    Attributes:
        is_whole: false when the answer was cut at its most tokens.
    """

    text: str
    tokens_in: int
    tokens_out: int
    is_whole: bool


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Asks one endpoint; may be used by several threads."""

    spec: EndpointSpec
    sleep: Callable[[float], None] = time.sleep

    def ask(self, system: str, user: str) -> Answer:
        """The answer to one question.

        Raises:
            RecipeError: the key is not set, or the endpoint refuses the request.
            ResourceError: no answer after all retries, or one that is no answer.
        """
        body = {
            "model": self.spec.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            "max_tokens": self.spec.max_answer_tokens,
            "temperature": self.spec.temperature,
        }
        key = self._key()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        url = f"{self.spec.base_url}/chat/completions"
        request = urllib.request.Request(url, data=orjson.dumps(body), headers=headers)
        for attempt in range(self.spec.max_retries + 1):
            try:
                return self._answer(self._read(request))
            except urllib.error.HTTPError as error:
                wait = self._refused(error, key, is_last=attempt == self.spec.max_retries)
            except (OSError, http.client.HTTPException) as error:  # unreachable, silent, or cut off
                if attempt == self.spec.max_retries:
                    message = f"expected an answer, found none after {attempt + 1} attempts"
                    hint = printable(_without(key, str(error)))
                    raise ResourceError(message, where=self._where, hint=hint) from None
                wait = 0.0
            self.sleep(min(max(wait, 2.0**attempt), _LONGEST_WAIT_S))
        raise AssertionError("the last attempt returns or raises")

    @property
    def _where(self) -> str:
        return redact(self.spec.base_url)

    def _key(self) -> str:
        name = self.spec.key_variable
        if name is None:
            return ""
        value = os.environ.get(name, "").strip()
        if not value:
            raise RecipeError(
                f"expected a key in the environment variable {name}, found none",
                where=self._where,
                hint=f"export {name}=..., or set `key_variable: null` for an address that wants none",
            )
        if not value.isascii() or not value.isprintable():
            raise RecipeError(f"expected a key of plain characters in {name}", where=self._where)
        return value

    def _read(self, request: urllib.request.Request) -> bytes:
        deadline = time.monotonic() + self.spec.timeout_s
        content = bytearray()
        with open_request(request, self.spec.timeout_s) as response:
            while piece := response.read1(_PIECE_BYTES):
                content += piece
                if len(content) > _LARGEST_ANSWER_BYTES:
                    message = f"expected an answer of at most {_LARGEST_ANSWER_BYTES} bytes, found more"
                    raise ResourceError(message, where=self._where)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no whole answer within {self.spec.timeout_s:g} s")
            if response.length:  # what the server announced and did not send
                raise http.client.IncompleteRead(bytes(content), response.length)
        return bytes(content)

    def _refused(self, error: urllib.error.HTTPError, key: str, *, is_last: bool) -> float:
        """How long the server asks to wait, for a refusal that may pass; else raises."""
        with error:
            said = printable(_without(key, _said(error)))
        if error.code not in _TRANSIENT:
            raise RecipeError(
                f"expected an answer, found status {error.code}: {said}", where=self._where
            ) from None
        if is_last:
            message = f"expected an answer, found status {error.code} after all attempts: {said}"
            raise ResourceError(message, where=self._where) from None
        after = error.headers.get("Retry-After", "")
        return float(after) if after.isascii() and after.isdecimal() else 0.0

    def _answer(self, content: bytes) -> Answer:
        try:
            found = orjson.loads(content)
            choice, usage = found["choices"][0], found.get("usage") or {}
            text, tokens = choice["message"]["content"], [usage.get(k, 0) for k in _USAGE]
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ResourceError(
                "expected a chat completion, found something else", where=self._where
            ) from error
        if not isinstance(text, str) or not all(isinstance(n, int) and n >= 0 for n in tokens):
            raise ResourceError("expected a chat completion with text, found none", where=self._where)
        is_whole = choice.get("finish_reason") != "length"
        return Answer(text=text, tokens_in=tokens[0], tokens_out=tokens[1], is_whole=is_whole)


_USAGE: Final = ("prompt_tokens", "completion_tokens")


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(2_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return "(no reason given)"


def _without(key: str, text: str) -> str:
    return redact(text.replace(key, MASK) if key else text)
