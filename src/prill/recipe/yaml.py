"""YAML that is safe to read, and that remembers where each value stood.

Only plain data is built: mappings, sequences, strings, numbers, booleans, nulls and dates as text. Size,
depth, nodes and aliases are limited, and a key said twice is an error instead of a silent choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from prill.errors import RecipeError, printable

__all__ = ["Located", "read_yaml"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_ALIASES = 100
PLAIN_TAGS = {"map", "seq", "str", "int", "float", "bool", "null", "timestamp"}

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Located:
    """A document's value, and the line and column (from 1) of each of its parts."""

    value: Any
    places: dict[KeyPath, tuple[int, int]]

    def place(self, path: KeyPath) -> tuple[int, int] | None:
        """Where `path` stands, or else its nearest parent."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path)


def read_yaml(text: str, *, name: str) -> Located:
    """Read one YAML document.

    Args:
        text: the document.
        name: what errors call it, a file name.
    Raises:
        RecipeError: not YAML, more than one document, a key said twice, or beyond a limit.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise RecipeError(f"at most {MAX_BYTES:,} bytes expected, found {len(text):,} characters", where=name)
    try:
        _check_limits(text, name)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        builder = _Builder(name)
        value = builder.build(root, ()) if root is not None else None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise RecipeError(f"valid YAML expected: {problem.problem}", where=where) from None
    except yaml.YAMLError as problem:
        raise RecipeError(f"valid YAML expected: {str(problem).splitlines()[0]}", where=name) from None
    return Located(value=value, places=builder.places)


def _check_limits(text: str, name: str) -> None:
    depth = n_nodes = n_aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        n_nodes += isinstance(event, yaml.NodeEvent)
        n_aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH or n_nodes > MAX_NODES or n_aliases > MAX_ALIASES:
            raise RecipeError(
                f"at most {MAX_DEPTH} levels, {MAX_NODES:,} values, {MAX_ALIASES} aliases expected",
                where=f"{name}:{event.start_mark.line + 1}" if event.start_mark else name,
            )


class _Builder:
    """Builds plain values from nodes, counting again because aliases multiply them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[KeyPath, tuple[int, int]] = {}
        self.n_built = 0
        self.scalars = yaml.SafeLoader("")

    def build(self, node: Node, path: KeyPath) -> Any:
        self.places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.n_built += 1
        if self.n_built > MAX_NODES or len(path) > MAX_DEPTH:
            raise RecipeError(
                f"at most {MAX_NODES:,} values expected once aliases are followed", where=self.name
            )
        self._check_tag(node)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            where = f"{self.name}:{mark.line + 1}:{mark.column + 1}"
            if not isinstance(key_node, ScalarNode):
                raise RecipeError("a key must be a word, found a list or mapping", where=where)
            if key_node.value in built:
                raise RecipeError(f"the key `{key_node.value}` stands here a second time", where=where)
            built[key_node.value] = self.build(value_node, (*path, key_node.value))
            self.places[(*path, key_node.value)] = (mark.line + 1, mark.column + 1)
        return built

    def _scalar(self, node: Node) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        return self.scalars.construct_object(node)

    def _check_tag(self, node: Node) -> None:
        if node.tag.removeprefix("tag:yaml.org,2002:") not in PLAIN_TAGS:
            mark = node.start_mark
            where = f"{self.name}:{mark.line + 1}:{mark.column + 1}"
            raise RecipeError(f"plain data expected, found the tag {printable(node.tag)!r}", where=where)
