"""Plain data from a small YAML file: no tags, no aliases, bounded in size and depth, no key said twice."""

from __future__ import annotations

from typing import Any, Final

import yaml

from prill.errors import RecipeError, printable

__all__ = ["read_plain_yaml"]

_MAX_CHARACTERS: Final = 200_000
_MAX_DEPTH: Final = 12


def read_plain_yaml(text: str, *, name: str) -> Any:
    """The value of one YAML document.

    Args:
        name: what errors call it, a file name.
    Raises:
        RecipeError: not YAML, too large or deep, or with tags, anchors, or a key said twice.
    """
    if len(text) > _MAX_CHARACTERS:
        raise RecipeError(f"at most {_MAX_CHARACTERS:,} characters expected, found {len(text):,}", where=name)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent))
            depth -= isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent))
            if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
                where = f"{name}:{event.start_mark.line + 1}" if event.start_mark else name
                message = f"plain data of at most {_MAX_DEPTH} levels expected, without tags and aliases"
                raise RecipeError(message, where=where)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _check_keys(node, name)
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise RecipeError(f"valid YAML expected: {problem.problem}", where=where) from None
    except yaml.YAMLError as problem:
        said = printable(str(problem).split("\n", maxsplit=1)[0])
        raise RecipeError(f"valid YAML expected: {said}", where=name) from None


def _check_keys(node: yaml.Node, name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                where = f"{name}:{key.start_mark.line + 1}"
                raise RecipeError(f"the key {printable(str(key.value))!r} stands here twice", where=where)
            seen.add(key.value)
            _check_keys(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, name)
