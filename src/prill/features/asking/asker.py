"""Asking a model once: from the kept answers where possible, else from the endpoint within the budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from prill.features.asking.answers import Answers, Budget, answer_key
from prill.features.asking.endpoint import Answer, Endpoint, EndpointSpec

__all__ = ["Asker", "Asks"]

_CHARACTERS_PER_TOKEN: Final = 2  # a cautious guess for the budget; the server says what it really was


class Asks(Protocol):
    """What `Endpoint` does."""

    @property
    def spec(self) -> EndpointSpec:
        """Where the model answers."""

    def ask(self, system: str, user: str) -> Answer:
        """The answer to one question."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Asks one model; may be used by several threads.

    Attributes:
        endpoint: where the model answers.
        answers: those kept so far; askers of several models may share them.
        budget: what may still be spent; askers may share it too.
    """

    endpoint: Asks
    answers: Answers
    budget: Budget

    @classmethod
    def of(
        cls,
        spec: EndpointSpec,
        folder: Path,
        *,
        max_requests: int | None = None,
        max_tokens: int | None = None,
    ) -> Asker:
        """An asker that keeps its answers in `folder`.

        Raises:
            DataError: kept answers are damaged.
        """
        budget = Budget(max_requests=max_requests, max_tokens=max_tokens)
        return cls(endpoint=Endpoint(spec=spec), answers=Answers(folder / "answers.jsonl"), budget=budget)

    def __call__(self, message: str, *, prompt_id: str, system: str) -> Answer:
        """The answer to a message.

        Args:
            prompt_id: changes whenever `system`, or how messages are made, does.
        Raises:
            BudgetSpent: the answer is not known, and asking does not fit the budget.
            PrillError: as `Endpoint.ask` does.
        """
        spec = self.endpoint.spec
        key = answer_key(message, prompt_id, spec.model)
        known = self.answers.get(key)
        if known is not None:
            return known
        most = (len(message) + len(system)) // _CHARACTERS_PER_TOKEN + spec.max_answer_tokens
        self.budget.reserve(most)
        answer = self.endpoint.ask(system, message)
        self.budget.settle(most, answer.tokens_in + answer.tokens_out or most)
        self.answers.add(key, answer)
        return answer
