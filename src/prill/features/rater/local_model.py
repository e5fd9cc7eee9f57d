"""A causal language model in a local folder as a rater: by the answer it writes, or by likelihood.

`generate`: the answer is written greedily and read like any other. `likelihood`: the answer is a form; each
place of it is filled with the likeliest of its options, and the grade is the expectation over the digits'
probabilities. Its first is what the reference does; the second is our extension, finer than whole numbers.

The document cannot end the prompt or begin the answer: special tokens are never read out of it.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from prill.errors import DataError
from prill.features.asking.answers import Answers, answer_key
from prill.features.asking.endpoint import Answer
from prill.features.rater.reading import NO_TEXT, Rating, read_answer
from prill.features.rater.rubric import Rubric, Slot
from prill.features.rater.shown import shown
from prill.features.rater.spec import ModelRaterSpec
from prill.run.fingerprint import fingerprint

if TYPE_CHECKING:
    from prill.lm.scoring.models import ModelFolder
    from prill.lm.scoring.next_token import NextToken

__all__ = ["ModelRater", "distinct_tokens", "expected_grade"]

_LEAST_ROOM: Final = 16
"""Tokens of a document that a model must have room for beside the instructions."""

_PLACE: Final = "\x00text\x00"


class ModelRater:
    """Rates with a local model, which is loaded when the first answer is not known."""

    def __init__(
        self, rubric: Rubric, spec: ModelRaterSpec, folder: Path, digest: str, answers: Answers | None
    ) -> None:
        """
        Args:
            digest: of the folder.
            answers: those given before; None: none are kept.
        """
        self._rubric, self._spec, self._folder, self._answers = rubric, spec, folder, answers
        self._prompt_id = f"{rubric.id}-{fingerprint([spec.decides, digest])[:16]}"

    @property
    def n_flops(self) -> float:
        """Of all answers given so far, without those that were known."""
        return float(self._model.n_flops) if "_model" in self.__dict__ else 0.0

    @property
    def spent(self) -> dict[str, int]:
        """Nothing but time."""
        return {}

    def rate(self, texts: Sequence[str]) -> list[Rating]:
        """A rating a document, in order.

        Raises:
            DataError: the model cannot be read, or its context is too short for the rubric.
        """
        return [self._rate(text) for text in texts]

    def _rate(self, text: str) -> Rating:
        seen = shown(text, self._rubric.span, self._opened.tokenizer.end_batch, max_tokens=self._room)
        if not seen:
            return Rating(scores=None, why_not=NO_TEXT)
        key = answer_key(seen, self._prompt_id, "local")
        answer = None if self._answers is None else self._answers.get(key)
        if answer is None:
            tokens = self._prompt(seen)
            said = self._fill(tokens) if self._spec.is_expected else self._write(tokens)
            answer = Answer(text=said, tokens_in=len(tokens), tokens_out=0, is_whole=True)
            if self._answers is not None:
                self._answers.add(key, answer)
        if not self._spec.is_expected:
            return read_answer(self._rubric, answer.text)
        form = orjson.loads(answer.text)
        return Rating(scores=tuple(form["scores"]), label=form["label"])

    @cached_property
    def _opened(self) -> ModelFolder:
        from prill.lm.scoring.models import open_model

        return open_model(self._folder)

    @cached_property
    def _model(self) -> NextToken:
        return _loaded(self._folder)

    @cached_property
    def _slots(self) -> list[tuple[Slot, list[int], list[int]]]:
        """Every place of the form with the tokens before it, and the token that tells each option."""
        found = []
        for slot in self._rubric.slots():
            prefix = self._tokens(slot.prefix)
            common, told = distinct_tokens([self._tokens(option) for option in slot.options], slot)
            found.append((slot, prefix + common, told))
        return found

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The prompt's tokens before and behind the document."""
        rubric = self._rubric
        if self._spec.template == "plain":
            before, behind = f"{rubric.system}\n\n{rubric.prompt}\n\nAnswer:\n".split("{text}")
            return [self._opened.prefix, *self._tokens(before)], self._tokens(behind)
        before, behind = self._chat(rubric.system, rubric.message(_PLACE)).split(_PLACE)
        from tokenizers import Tokenizer

        reader = Tokenizer.from_buffer(self._opened.tokenizer.content)  # reads special tokens
        ids: tuple[list[int], list[int]] = tuple(
            reader.encode(part, add_special_tokens=False).ids for part in (before, behind)
        )  # type: ignore[assignment]
        return ids

    @cached_property
    def _room(self) -> int:
        """Tokens that a document may have beside instructions and answer.

        Raises:
            DataError: hardly any.
        """
        before, behind = self._frame
        answer = self._spec.max_answer_tokens
        if self._spec.is_expected:
            answer = sum(len(prefix) + 1 for _, prefix, _ in self._slots)
        room = self._opened.context - len(before) - len(behind) - answer
        if room < _LEAST_ROOM:
            needed = self._opened.context - room + _LEAST_ROOM
            raise DataError(
                f"expected a model that reads at least {needed} tokens, for the rubric "
                f"{self._rubric.name!r}, found one that reads {self._opened.context}",
                where=str(self._folder),
                hint="use a model with a longer context, or a shorter rubric",
            )
        return room

    def _tokens(self, text: str) -> list[int]:
        return [int(token) for token in self._opened.tokenizer.encode_batch([text])[0]]

    def _prompt(self, seen: str) -> list[int]:
        before, behind = self._frame
        return [*before, *self._tokens(seen)[: self._room], *behind]

    def _write(self, tokens: list[int]) -> str:
        """The answer, greedily."""
        written: list[int] = []
        ends = {self._opened.tokenizer.eos_id}
        for _ in range(self._spec.max_answer_tokens):
            token = int(np.argmax(self._model(tokens + written)))
            if token in ends:
                break
            written.append(token)
        return self._opened.tokenizer.decode(np.array(written, np.int64))

    def _fill(self, tokens: list[int]) -> str:
        """The form as JSON: expected grades, and the likeliest label."""
        tokens = list(tokens)
        scores, label = [], ""
        for slot, prefix, told in self._slots:
            tokens += prefix
            log_probs = self._model(tokens)[told].astype(np.float64)
            best = int(np.argmax(log_probs))
            if slot.name:
                scores.append(expected_grade(log_probs, [int(option) for option in slot.options]))
            else:
                label = slot.options[best]
            tokens.append(told[best])
        return orjson.dumps({"label": label, "scores": scores}).decode()

    def _chat(self, system: str, message: str) -> str:
        from prill.lm.bases.loading import quiet

        with quiet():
            library: Any = importlib.import_module("transformers")
            reader = library.AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        turns = [{"role": "system", "content": system}, {"role": "user", "content": message}]
        return str(reader.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path) -> NextToken:
    """A worker loads a model once, however many shards it rates."""
    from prill.lm.scoring.next_token import open_next_token

    return open_next_token(folder)


def expected_grade(log_probs: np.ndarray[Any, np.dtype[np.float64]], grades: Sequence[int]) -> float:
    """The mean of grades whose probabilities are in proportion to exp(log_probs).

    >>> round(expected_grade(np.log([0.1, 0.1, 0.2]), [1, 2, 3]), 3)  # (1 + 2 + 2 * 3) / 4
    2.25
    """
    shares = np.exp(log_probs - log_probs.max())
    return float(math.fsum(shares * np.asarray(grades, np.float64)) / math.fsum(shares))


def distinct_tokens(options: Sequence[list[int]], slot: Slot) -> tuple[list[int], list[int]]:
    """The tokens that all options begin with, and for each the first token behind them, which tells it.

    Raises:
        DataError: two options go on with the same token, or one ends there.
    """
    n_common = 0
    while all(len(o) > n_common for o in options) and len({o[n_common] for o in options}) == 1:
        n_common += 1
    told = [option[n_common] if len(option) > n_common else -1 for option in options]
    if len(set(told)) < len(told) or -1 in told:
        raise DataError(
            f"expected a tokenizer that tells {', '.join(map(repr, slot.options))} apart by a token, "
            "found one that does not",
            where="rater",
            hint="use `answer: generate`",
        )
    return options[0][:n_common], told
