"""Reading benchmark items for decontamination: passage, question, answer and choices apart.

JSONL, one object a line, in one of three forms: `{prompt, target}`, `{context, choices, answer_index}` or
`{question, answer}`, each with an optional `passage`. Files that use other names are read through `fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from prill.errors import DataError
from prill.features.item_index import Item

__all__ = ["PassageRule", "read_items", "split_item"]

PassageRule: TypeAlias = Literal["auto", "none", "before_last_line", "whole_prompt"]

_PASSAGE_WORDS = 24  # a shorter text before the last line, or before a single word, belongs to the question
_FORMS = "prompt and target, context, choices and answer_index, or question and answer"


def read_items(
    path: Path,
    *,
    task: str | None = None,
    fields: Mapping[str, str] | None = None,
    passage: PassageRule = "auto",
) -> list[Item]:
    """The items of one file, in its order.

    Args:
        path: a JSONL file.
        task: name of the task; the items' own `task`, else the file's name, when not given.
        fields: our field to the name that it has in the file.
        passage: which part of a prompt may stand in documents by right (`split_item`).
    Raises:
        DataError: the file is missing or empty, or a line is no item; names file and line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(
            f"expected a JSONL file of items, found none ({error.strerror})", where=str(path)
        ) from None
    items = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
            if not isinstance(record, dict):
                raise TypeError(f"found a {type(record).__name__}")
            renamed = record | {ours: record[theirs] for ours, theirs in (fields or {}).items()}
            name = str(renamed.get("id", number))
            items.append(
                split_item(
                    renamed, task=task or str(renamed.get("task", path.stem)), name=name, passage=passage
                )
            )
        except (ValueError, TypeError, KeyError, IndexError) as problem:
            raise DataError(
                f"an item with {_FORMS} expected: {problem}",
                where=f"{path}:{number}",
                hint="repair the line, or name the fields with `fields`",
            ) from None
    if not items:
        raise DataError("expected at least one item, found none", where=str(path), hint="leave the file out")
    return items


def split_item(record: Mapping[str, Any], *, task: str, name: str, passage: PassageRule = "auto") -> Item:
    """One record as an item.

    A field `passage` is the passage. Without one, `before_last_line` takes all lines of the prompt but the
    last, `whole_prompt` all of it, as for tasks that ask for the next word of a book. `auto` does the former
    when the last line ends in a question mark or the answer is yes or no, and the latter when a single word
    completes the prompt; both only for passages of at least 24 words.
    """
    prompt, answer, choices = _parts(record)
    text = record.get("passage")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"passage must be a string, found a {type(text).__name__}")
    if text is None:
        rule = _rule(prompt, answer, choices) if passage == "auto" else passage
        if rule == "before_last_line":
            text, _, prompt = prompt.rstrip().rpartition("\n")
        elif rule == "whole_prompt":
            text, prompt = prompt, ""
    return Item(
        task=task, name=name, passage=text or "", question=prompt, answer=answer, choices=tuple(choices)
    )


def _rule(prompt: str, answer: str, choices: list[str]) -> PassageRule:
    before, _, last = prompt.rstrip().rpartition("\n")
    asks = last.endswith("?") or {choice.lower() for choice in choices} == {"yes", "no"}
    if asks and len(before.split()) >= _PASSAGE_WORDS:
        return "before_last_line"
    if not choices and len(answer.split()) == 1 and len(prompt.split()) >= _PASSAGE_WORDS:
        return "whole_prompt"
    return "none"


def _parts(record: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Prompt, right answer and all choices."""
    choices: list[str] = []
    if "prompt" in record and "target" in record:
        prompt, answer = record["prompt"], record["target"]
    elif "choices" in record and "answer_index" in record:
        choices, index = record["choices"], record["answer_index"]
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise TypeError("choices must be a list of strings")
        if not isinstance(index, int) or not 0 <= index < len(choices):
            raise IndexError(f"answer_index {index!r} is outside the {len(choices)} choices")
        prompt, answer = record.get("context", ""), choices[index]
    elif "question" in record and "answer" in record:
        prompt, answer = record["question"], record["answer"]
    else:
        raise KeyError(f"found the keys {sorted(map(str, record))}")
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise TypeError("prompt and answer must be strings")
    return prompt, answer, choices
