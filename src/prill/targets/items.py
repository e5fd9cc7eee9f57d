"""Benchmark items as text: the prompt followed by the right answer.

Two forms are read, one JSON object a line: `{prompt, target}` and `{context, choices, answer_index}`.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from prill.errors import DataError

__all__ = ["item_text", "read_items"]


def read_items(path: Path) -> list[str]:
    """The texts of a JSONL file of items, in file order.

    Raises:
        DataError: a line is no JSON object, or has neither form; names file and line.
    """
    texts = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            texts.append(item_text(orjson.loads(line)))
        except (ValueError, TypeError, KeyError, IndexError) as problem:
            raise DataError(
                f"an item with prompt and target, or context, choices and answer_index, expected: {problem}",
                where=f"{path}:{number}",
                hint="repair the line, or set `kind: documents` when the file holds plain documents",
            ) from None
    return texts


def item_text(item: object) -> str:
    """One item as its prompt and right answer, joined by a space.

    >>> item_text({"context": "The sky is", "choices": ["green", "blue"], "answer_index": 1})
    'The sky is blue'
    """
    if not isinstance(item, dict):
        raise TypeError(f"found a {type(item).__name__}")
    if "prompt" in item and "target" in item:
        prompt, answer = item["prompt"], item["target"]
    elif "choices" in item and "answer_index" in item:
        index = item["answer_index"]
        if not isinstance(index, int) or not 0 <= index < len(item["choices"]):
            raise IndexError(f"answer_index {index!r} is outside the {len(item['choices'])} choices")
        prompt, answer = item.get("context", ""), item["choices"][index]
    else:
        raise KeyError(f"found the keys {sorted(map(str, item))}")
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise TypeError("prompt and answer must be strings")
    return f"{prompt.rstrip()} {answer.lstrip()}".strip()
