"""A corpus of any size grown from the machine's own text, with planted copies whose truth is known.

    python bench/grown.py OUT [--mb 200] [--files 8] [--seed 0]

Documents are sections of this machine's documentation, manual pages, translated messages and Python sources,
cut at blank lines to lengths like those of web pages, each text once. Beside them stand 2 % exact and 6 %
near copies: a share of the words is replaced, dropped, doubled or swapped, and the Jaccard similarity of the
5-grams that results is measured, not assumed. OUT gets `grown-*.parquet` with `id`, `text`, `source`, `url`,
`timestamp`, and `truth.json`. The same machine and arguments give the same bytes.

truth.json: `{"n_documents", "n_bytes", "pairs": [{"copy", "original", "kind": "exact" or "near", "rate",
"jaccard", "jaccard_words"}]}`; `rate` is the share of words that were edited, `jaccard` counts 5-grams of
`\\w+|[^\\w\\s]+` tokens, `jaccard_words` of `\\w+` tokens, both lower-cased.
"""

from __future__ import annotations

import argparse
import gettext
import gzip
import hashlib
import html
import json
import math
import random
import re
import struct
import sysconfig
import zlib
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from prill.corpus.writers import write_parquet
from prill.demo.machine_text import MIN_BYTES

EXACT_SHARE, NEAR_SHARE = 0.02, 0.06
EDIT_RATES = (0.003, 0.006, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1)
MIN_WORDS = 30  # a shorter text has no room for edits at these rates
FILE_BYTES = 2_000_000
SHARES = {"documentation": 0.35, "manuals": 0.15, "translations": 0.20, "code": 0.30}
SUFFIXES = {
    "documentation": {".txt", ".md", ".rst", ".html", ".htm", ".tex", ".org", ".pod", ""},
    "translations": {".mo"},
    "code": {".py", ".pyi"},
}
WORD, TOKEN = re.compile(r"\w+"), re.compile(r"\w+|[^\w\s]+")


class Document(NamedTuple):
    id: str
    text: str
    source: str


def main() -> None:
    """Grow the corpus and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write to, made when missing")
    parser.add_argument("--mb", type=float, default=200.0, help="text in all, millions of bytes of UTF-8")
    parser.add_argument("--files", type=int, default=8, help="Parquet files to write")
    parser.add_argument("--seed", type=int, default=0, help="changes which documents are taken and copied")
    args = parser.parse_args()
    n_bytes = args.mb * 1e6
    originals = _originals(n_bytes * (1 - EXACT_SHARE - NEAR_SHARE), args.seed)
    copies, pairs = _plant(originals, args.seed)
    documents = sorted(originals + copies, key=lambda d: _digest(f"order {args.seed} {d.id}"))
    _write(args.out, documents, pairs, args.files)
    total = sum(len(d.text.encode()) for d in documents)
    print(f"{len(documents)} documents, {total / 1e6:.1f} MB, {len(pairs)} planted copies, in {args.out}")


def _originals(n_bytes: float, seed: int) -> list[Document]:
    """Different sections of the machine's files, by source; what one source lacks, later ones give."""
    streams = {name: _sections(name, seed) for name in SHARES}
    seen: set[bytes] = set()
    found: list[Document] = []
    open_share = 1.0
    remaining = n_bytes
    for name, share in SHARES.items():  # code is last: every machine has enough of it
        room, used = remaining * share / open_share, 0
        for document in streams[name]:
            key = _digest(document.text)
            if key in seen:
                continue
            seen.add(key)
            found.append(document)
            used += len(document.text.encode())
            if used >= room:
                break
        remaining, open_share = remaining - used, open_share - share
    return found


def _sections(source: str, seed: int) -> Iterator[Document]:
    files = sorted(_files(source), key=lambda path: _digest(f"{seed} {path}"))
    for path in files:
        for number, section in enumerate(_cut(_read(path), random.Random(f"{seed} lengths {path}"))):
            if len(section.encode()) >= MIN_BYTES:
                yield Document(f"{path}#{number}", section, source)


def _files(source: str) -> Iterator[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    system = Path("/usr/share")
    roots = {
        "documentation": [system / "doc", system / "perl5"],
        "manuals": [system / "man"],
        "translations": [system / "locale"],
        "code": [library, Path(sysconfig.get_path("purelib")), Path("/usr/lib/python3/dist-packages")],
    }[source]
    suffixes = SUFFIXES.get(source)
    for root in roots:
        for path in root.rglob("*") if root.is_dir() else ():
            bare = path.with_suffix("") if path.suffix == ".gz" else path
            if suffixes is not None and bare.suffix.lower() not in suffixes:
                continue
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= FILE_BYTES:
                yield path


def _read(path: Path) -> str:
    """The file's text without markup, or nothing where it is not UTF-8."""
    if path.suffix == ".mo":
        return _messages(path)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (UnicodeDecodeError, OSError, EOFError, zlib.error):
        return ""
    if "\x00" in text:
        return ""
    if "/share/man/" in str(path):
        text = re.sub(r'^[.\'](?:\\"|\w\w?(?= |$)).*?(?<!\w)|\\f.|\\&', "", text, flags=re.MULTILINE)
        text = text.replace("\\-", "-")
    elif "<html" in text[:2000].lower():
        text = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", "", text)
        text = re.sub(r"\n\s*\n+", "\n\n", html.unescape(text))
    return text


def _messages(path: Path) -> str:
    """The translated messages of a catalogue, a paragraph each."""
    try:
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    except (OSError, UnicodeDecodeError, ValueError, LookupError, IndexError, struct.error):
        return ""
    messages = [value for key, value in sorted(catalogue.items(), key=lambda i: str(i[0])) if key]
    return "" if any("\x00" in message for message in messages) else "\n\n".join(messages)


def _cut(text: str, draw: random.Random) -> Iterator[str]:
    """Pieces that end at a blank line where there is one; lengths are log-normal, as those of web pages."""
    while text:
        limit = int(min(max(draw.lognormvariate(math.log(4_000), 0.8), 400), 60_000))
        cut = text.rfind("\n\n", limit // 2, limit) if len(text) > limit else -1
        cut = cut if cut > 0 else limit
        yield text[:cut]
        text = text[cut:].lstrip("\n")


def _plant(originals: list[Document], seed: int) -> tuple[list[Document], list[dict[str, object]]]:
    """Exact and near copies of originals, and the truth about each."""
    chosen = sorted(originals, key=lambda d: _digest(f"plant {seed} {d.id}"))
    chosen = [d for d in chosen if len(WORD.findall(d.text)) >= MIN_WORDS]
    base = len(originals) / (1 - EXACT_SHARE - NEAR_SHARE)
    n_exact, n_near = round(base * EXACT_SHARE), round(base * NEAR_SHARE)
    copies: list[Document] = []
    pairs: list[dict[str, object]] = []
    for number, original in enumerate(chosen[: n_exact + n_near]):
        is_exact = number < n_exact
        rate = 0.0 if is_exact else EDIT_RATES[number % len(EDIT_RATES)]
        text = original.text if is_exact else _edited(original.text, rate, f"{seed} edit {original.id}")
        copy = Document(f"copy-{number:06d}", text, original.source)
        copies.append(copy)
        pairs.append(
            {
                "copy": copy.id,
                "original": original.id,
                "kind": "exact" if text == original.text else "near",
                "rate": rate,
                "jaccard": _jaccard(text, original.text, TOKEN),
                "jaccard_words": _jaccard(text, original.text, WORD),
            }
        )
    return copies, pairs


def _edited(text: str, rate: float, label: str) -> str:
    """The text with `rate` of its words, at least one, replaced, dropped, doubled or swapped."""
    draw = random.Random(label)
    pieces = re.split(r"(\w+)", text)  # words stand at odd places
    places = range(1, len(pieces), 2)
    words = pieces[1::2]
    for place in draw.sample(places, max(1, round(rate * len(places)))):
        kind = draw.randrange(4)
        if kind == 0:
            pieces[place] = draw.choice(words)
        elif kind == 1:
            pieces[place] = ""
        elif kind == 2:
            pieces[place] += f" {draw.choice(words)}"
        elif place + 2 < len(pieces):
            pieces[place], pieces[place + 2] = pieces[place + 2], pieces[place]
    return "".join(pieces)


def _jaccard(a: str, b: str, pattern: re.Pattern[str]) -> float:
    first, second = _shingles(a, pattern), _shingles(b, pattern)
    return round(len(first & second) / max(1, len(first | second)), 6)


def _shingles(text: str, pattern: re.Pattern[str]) -> set[tuple[str, ...]]:
    tokens = pattern.findall(text.lower())
    return {tuple(tokens[i : i + 5]) for i in range(max(1, len(tokens) - 4))}


def _write(out: Path, documents: list[Document], pairs: list[dict[str, object]], n_files: int) -> None:
    import pyarrow as pa

    out.mkdir(parents=True, exist_ok=True)
    for number in range(n_files):
        rows = documents[number::n_files]
        columns = {
            "id": [d.id for d in rows],
            "text": [d.text for d in rows],
            "source": [d.source for d in rows],
            "url": [_url(d) for d in rows],
            "timestamp": [_timestamp(d) for d in rows],
        }
        table = pa.table({name: pa.array(values, pa.large_string()) for name, values in columns.items()})
        write_parquet(out / f"grown-{number:05d}-of-{n_files:05d}.parquet", table)
    n_bytes = sum(len(d.text.encode()) for d in documents)
    truth = {"n_documents": len(documents), "n_bytes": n_bytes, "pairs": pairs}
    (out / "truth.json").write_text(json.dumps(truth, indent=1))


def _url(document: Document) -> str:
    path = document.id.replace("#", "/section-").lstrip("/")
    return f"https://{document.source}.example.org/{path}"


def _timestamp(document: Document) -> str:
    days = int.from_bytes(_digest(f"date {document.id}")[:4], "big") % 3650
    return (date(2014, 1, 1) + timedelta(days=days)).isoformat()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


if __name__ == "__main__":
    main()
