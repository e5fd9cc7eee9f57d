"""Text that any machine with Python has: sources, reference topics, documentation, licences, tests.

One document is one file, or one section of a long file cut at a blank line. Files are taken in the order
of a keyed hash of their path until a source holds its share, so the same installation always gives the
same corpus, and no one package fills it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MachineDocument", "commented_share", "documents", "is_documented_code", "reference_topics"]

SECTION_BYTES = 8_000  # longer files are cut at the last blank line before this many bytes
FILE_BYTES = 400_000  # a longer file is data or generated code
MIN_BYTES = 200

DOC_SUFFIXES = {".md", ".rst", ".txt"}
LICENCE_NAMES = ("license", "licence", "copying", "notice", "authors")
TEST_FOLDERS = {"test", "tests", "testing", "idle_test"}


@dataclass(frozen=True, kw_only=True)
class MachineDocument:
    """One document: `id` is the path inside the installation and the section's number."""

    id: str
    text: str
    source: str


def documents(source_bytes: int) -> list[MachineDocument]:
    """The machine's text, at most `source_bytes` of UTF-8 a source, ordered by source and id."""
    found = [*_topic_documents(), *_metadata_documents(), *_file_documents(source_bytes)]
    kept = [d for d in found if len(d.text.encode()) >= MIN_BYTES]
    return sorted(kept, key=lambda d: (d.source, d.id))


def reference_topics() -> dict[str, str]:
    """The sections of the language reference that `help()` shows, by name; empty where Python lacks them."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return {}
    return dict(topics)


def is_documented_code(document: MachineDocument, *, share: float = 0.4) -> bool:
    """Whether a Python document spends at least `share` of its characters on docstrings and comments."""
    return document.source in {"library", "packages"} and commented_share(document.text) >= share


def commented_share(text: str) -> float:
    """Share of a Python text's characters inside comments and multi-line strings, 0 to 1.

    Works on a section of a file too: a tokenizer error ends the count, it does not void it.
    """
    n_commented = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            is_block = token.type == tokenize.STRING and token.start[0] != token.end[0]
            if token.type == tokenize.COMMENT or is_block:
                n_commented += len(token.string)
    except (tokenize.TokenError, SyntaxError):
        pass
    return n_commented / max(1, len(text))


def sections(text: str, limit: int = SECTION_BYTES) -> Iterator[str]:
    """`text` in pieces of at most about `limit` characters, each cut at a blank line where there is one."""
    while len(text) > limit * 1.25:
        cut = text.rfind("\n\n", limit // 4, limit)
        cut = cut if cut > 0 else limit
        yield text[:cut]
        text = text[cut:].lstrip("\n")
    if text:
        yield text


def _topic_documents() -> Iterator[MachineDocument]:
    for name, text in sorted(reference_topics().items()):
        for number, section in enumerate(sections(text)):
            yield MachineDocument(id=f"topics/{name}#{number}", text=section, source="reference")


def _metadata_documents() -> Iterator[MachineDocument]:
    for distribution in sorted(importlib.metadata.distributions(), key=lambda d: d.metadata["Name"].lower()):
        body = distribution.metadata.get_payload()  # type: ignore[attr-defined]
        description = body if isinstance(body, str) else ""
        description = description or distribution.metadata["Description"] or ""
        for number, section in enumerate(sections(description)):
            name = f"metadata/{distribution.metadata['Name']}#{number}"
            yield MachineDocument(id=name, text=section, source="descriptions")


def _file_documents(source_bytes: int) -> Iterator[MachineDocument]:
    filled: dict[str, int] = {}
    for name, path, source in sorted(_candidates(), key=lambda c: hashlib.sha256(c[0].encode()).digest()):
        if filled.get(source, 0) >= source_bytes:
            continue
        text = _read(path)
        filled[source] = filled.get(source, 0) + len(text)
        for number, section in enumerate(sections(text)):
            yield MachineDocument(id=f"{name}#{number}", text=section, source=source)


def _candidates() -> Iterator[tuple[str, Path, str]]:
    """Every usable file once: (name inside the installation, path, source)."""
    roots = {key: Path(sysconfig.get_path(key)) for key in ("stdlib", "purelib", "platlib", "include")}
    seen: set[Path] = set()
    for key, root in roots.items():
        for path in _walk(root, skip=set(roots.values()) - {root}):
            source = _source(path.relative_to(root), in_library=key == "stdlib")
            if source and path not in seen:
                seen.add(path)
                yield f"{key.replace('platlib', 'purelib')}/{path.relative_to(root).as_posix()}", path, source


def _walk(root: Path, *, skip: Iterable[Path]) -> Iterator[Path]:
    skipped = set(skip)
    stack = [root] if root.is_dir() else []
    while stack:
        for entry in stack.pop().iterdir():
            if entry.is_symlink() or entry.name == "__pycache__":
                continue
            if entry.is_dir():
                if entry not in skipped and entry.name not in {"site-packages", "dist-packages"}:
                    stack.append(entry)
            elif MIN_BYTES <= entry.stat().st_size <= FILE_BYTES:
                yield entry


def _source(path: Path, *, in_library: bool) -> str | None:
    if any(path.name.lower().startswith(name) for name in LICENCE_NAMES):
        return "licences"
    if path.suffix in DOC_SUFFIXES:
        return "documents"
    if path.suffix in {".h", ".hpp", ".pxd"}:
        return "headers"
    if path.suffix == ".pyi":
        return "stubs"
    if path.suffix != ".py":
        return None
    if TEST_FOLDERS.intersection(path.parts) or path.name.startswith("test_"):
        return "tests"
    return "library" if in_library else "packages"


def _read(path: Path) -> str:
    """The file's text, or nothing where it is not UTF-8 or cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return ""
    return "" if "\x00" in text else text
