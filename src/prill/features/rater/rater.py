"""Raters: whatever reads documents and answers a rubric."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from prill.corpus.tokenizer import TextTokenizer, load_tokenizer
from prill.errors import InternalError, ResourceError
from prill.features.asking.answers import Answers, Budget, BudgetSpent
from prill.features.asking.asker import Asker
from prill.features.asking.endpoint import Answer, Endpoint, EndpointSpec
from prill.features.rater.reading import NO_TEXT, Rating, read_answer
from prill.features.rater.rubric import Rubric
from prill.features.rater.shown import shown
from prill.features.rater.spec import EndpointRaterSpec, ModelRaterSpec, RaterSpec, RulesSpec
from prill.run.atomic import machine_errors, make_folder
from prill.run.fingerprint import fingerprint

__all__ = ["EndpointRater", "Rater", "open_rater"]

_LONGEST_KEPT: Final = 20_000


class Rater(Protocol):
    """Rates documents by one rubric."""

    @property
    def n_flops(self) -> float:
        """Floating-point operations so far, where they are ours."""

    @property
    def spent(self) -> dict[str, int]:
        """What was paid for: requests and tokens."""

    def rate(self, texts: Sequence[str]) -> list[Rating]:
        """A rating a document, in order; where there is none, why."""


@dataclass(frozen=True, kw_only=True)
class _Brief:
    """An endpoint whose answers are cut: what a rubric asks for is short."""

    endpoint: Endpoint

    @property
    def spec(self) -> EndpointSpec:
        return self.endpoint.spec

    def ask(self, system: str, user: str) -> Answer:
        answer = self.endpoint.ask(system, user)
        if len(answer.text) <= _LONGEST_KEPT:
            return answer
        return replace(answer, text=answer.text[:_LONGEST_KEPT], is_whole=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class EndpointRater:
    """Rates through an OpenAI-compatible endpoint, several documents at a time.

    Attributes:
        ask: keeps the answers and the budget.
        tokenizer: tokenizer.json that the rubric's bound of tokens is counted with.
    """

    rubric: Rubric
    spec: EndpointRaterSpec
    ask: Asker
    tokenizer: Path

    n_flops = 0.0

    @property
    def spent(self) -> dict[str, int]:
        """Requests and tokens of this session; answers that were known cost nothing."""
        return {"n_requests": self.ask.budget.n_requests, "n_tokens": self.ask.budget.n_tokens}

    def rate(self, texts: Sequence[str]) -> list[Rating]:
        """A rating a document, in order; answers are kept as they come.

        Raises:
            RecipeError: the key is not set, or the endpoint refuses.
            ResourceError: the budget does not suffice, or the endpoint does not answer.
        """
        different = list(dict.fromkeys(texts))  # copies of one text would be asked side by side
        with ThreadPoolExecutor(self.spec.n_parallel) as pool:
            found = dict(zip(different, pool.map(self._rate, different), strict=True))
        return [found[text] for text in texts]

    @cached_property
    def _tokens(self) -> TextTokenizer:
        return load_tokenizer(self.tokenizer)

    @cached_property
    def _prompt_id(self) -> str:
        return f"{self.rubric.id}-{fingerprint(self.spec.decides)[:16]}"

    def _rate(self, text: str) -> Rating:
        seen = shown(text, self.rubric.span, self._tokens.end_batch)
        if not seen:
            return Rating(scores=None, why_not=NO_TEXT)
        try:
            answer = self.ask(self.rubric.message(seen), prompt_id=self._prompt_id, system=self.rubric.system)
        except BudgetSpent:
            raise self._budget_spent() from None
        return read_answer(self.rubric, answer.text)

    def _budget_spent(self) -> ResourceError:
        budget = self.ask.budget
        limits = {"requests": budget.max_requests, "tokens": budget.max_tokens}
        allowed = " and ".join(f"{limit:,} {unit}" for unit, limit in limits.items() if limit is not None)
        return ResourceError(
            f"expected to rate all documents within {allowed}, found {budget.n_requests:,} requests and "
            f"{budget.n_tokens:,} tokens spent before the end",
            where=f"rater {self.spec.called}",
            hint="raise max_requests or max_tokens, or rate fewer documents; answers so far are kept and "
            "not paid for again",
        )


@contextlib.contextmanager
def open_rater(
    rubric: Rubric, spec: RaterSpec, *, base: Path, digest: str, tokenizer: Path, cache: Path | None
) -> Iterator[Rater]:
    """The rater of a recipe, while its kept answers are ours alone.

    Args:
        base: folder that paths in the recipe start from.
        digest: of what it reads from disk.
        tokenizer: of the run, for raters without one of their own.
        cache: folder for the answers, which outlives this run's steps; None: a local model's are not kept.
    Raises:
        DataError: kept answers are damaged, or the model cannot be read.
    """
    if isinstance(spec, RulesSpec):
        from prill.features.rater.rules import RulesRater

        yield RulesRater(rubric)
        return
    if cache is None:
        if not isinstance(spec, ModelRaterSpec):
            raise InternalError(f"expected a folder for the answers of {spec.called}")
        yield _local(rubric, spec, base, digest, None)
        return
    name = f"answers-{rubric.name}.jsonl"
    with _alone(cache, name):
        answers = Answers(cache / name)
        if isinstance(spec, ModelRaterSpec):
            yield _local(rubric, spec, base, digest, answers)
        elif isinstance(spec, EndpointRaterSpec):
            budget = Budget(max_requests=spec.max_requests, max_tokens=spec.max_tokens)
            asker = Asker(
                endpoint=_Brief(endpoint=Endpoint(spec=spec.endpoint)), answers=answers, budget=budget
            )
            yield EndpointRater(rubric=rubric, spec=spec, ask=asker, tokenizer=tokenizer)
        else:
            raise InternalError(f"expected a rater, found {spec.kind}")


def _local(rubric: Rubric, spec: ModelRaterSpec, base: Path, digest: str, answers: Answers | None) -> Rater:
    from prill.features.rater.local_model import ModelRater

    return ModelRater(rubric, spec, base / spec.folder, digest, answers)


@contextlib.contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Wait until no other process keeps answers in this file."""
    path = folder / f"{name}.lock"
    with machine_errors(path):
        make_folder(folder)
        handle = path.open("ab")
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
