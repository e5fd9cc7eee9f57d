"""Answers kept on disk and paid for once: keyed by text, prompt and model, within a budget.

The file has a JSON line an answer, appended and synced before it counts; a line cut by a crash is dropped.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from prill.errors import DataError
from prill.features.asking.endpoint import Answer
from prill.run.atomic import machine_errors, make_folder

__all__ = ["Answers", "Budget", "BudgetSpent", "answer_key"]


class BudgetSpent(Exception):  # noqa: N818 - not an error: what remains is left for a later run
    """No more requests may be made."""


def answer_key(text: str, prompt_id: str, model: str) -> str:
    """The key of an answer: hash of the text, the prompt and the model."""
    text_hash = hashlib.sha256(text.encode()).hexdigest()
    return hashlib.sha256(orjson.dumps([text_hash, prompt_id, model])).hexdigest()


@dataclass(kw_only=True)
class Budget:
    """Requests and tokens that may be spent; shared by threads.

    Attributes:
        max_requests, max_tokens: None for no limit; tokens count both ways.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    n_requests: int = 0
    n_tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reserve(self, most_tokens: int) -> None:
        """Set aside one request of at most so many tokens.

        Raises:
            BudgetSpent: it does not fit any more.
        """
        with self._lock:
            if self.max_requests is not None and self.n_requests >= self.max_requests:
                raise BudgetSpent
            if self.max_tokens is not None and self.n_tokens + most_tokens > self.max_tokens:
                raise BudgetSpent
            self.n_requests += 1
            self.n_tokens += most_tokens

    def settle(self, most_tokens: int, used: int) -> None:
        """Give back what a reserved request did not use."""
        with self._lock:
            self.n_tokens += used - most_tokens


class Answers:
    """The answers known so far; may be used by several threads of one process."""

    def __init__(self, path: Path) -> None:
        """Read the answers of a file that may not exist yet.

        Raises:
            DataError: a line before the last is damaged.
        """
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Answer] = {}
        with machine_errors(path):
            make_folder(path.parent)
            if path.exists():
                self._load()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Answer | None:
        """The answer of a key, if it is known."""
        return self._known.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer, on disk before this returns."""
        line = orjson.dumps({"key": key, **asdict(answer)}) + b"\n"
        with self._lock, machine_errors(self._path), self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
            self._known[key] = answer

    def _load(self) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = orjson.loads(line)
                key = record.pop("key")
                self._known[key] = Answer(**record)
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                message = "expected a kept answer, found a damaged line"
                raise DataError(message, where=f"{self._path}:{number}", hint="delete the line") from error
        if len(whole) < len(content):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
