"""What a `transformers` folder holds, checked before anything heavy is imported.

Only safetensors and JSON are read. The names in an index are plain file names of the same folder, so an
index cannot reach elsewhere. The header of every weight file is read, which finds a cut file at once.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from prill.corpus.tokenizer import TextTokenizer, load_tokenizer
from prill.errors import DataError, Problem
from prill.run.atomic import machine_errors

__all__ = [
    "CONFIG",
    "TOKENIZER_FILES",
    "base_tokenizer",
    "check_same_tokenizer",
    "folder_digest",
    "opening_id",
    "read_json",
    "tensor_sizes",
    "weight_files",
]

CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
LARGEST_JSON = 64 << 20
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: absent, larger than 64 MB, or not one.
    """
    if not file.is_file():
        raise DataError(f"expected {file.name}, found none", where=str(file.parent))
    if file.stat().st_size > LARGEST_JSON:
        raise DataError(
            f"expected at most {LARGEST_JSON} bytes, found {file.stat().st_size}", where=str(file)
        )
    try:
        with machine_errors(file):
            found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"expected JSON, found {error}", where=str(file)) from error
    if not isinstance(found, dict):
        raise DataError(f"expected a JSON object, found {type(found).__name__}", where=str(file))
    return found


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model, in order of name: those of its index, or its only one.

    Raises:
        DataError: there are none, they are pickled, or a shard is missing.
    """
    index = folder / INDEX
    if index.is_file():
        return _indexed(index)
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    found = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if len(found) == 1:
        return (found[0],)
    if found:
        raise DataError(f"expected {WEIGHTS} or {INDEX}, found {len(found)} other files", where=str(folder))
    pickled = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
    told = f"only pickled weights ({pickled[0]}), which can run code" if pickled else "none"
    raise DataError(
        f"expected safetensors, found {told}",
        where=str(folder),
        hint="convert it to safetensors: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        if pickled
        else "name a folder with config.json and model.safetensors",
    )


def tensor_sizes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every stored tensor, by name.

    Raises:
        DataError: a file is damaged or cut.
    """
    found: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="numpy") as stored:
                for name in stored.keys():  # noqa: SIM118
                    found[name] = tuple(stored.get_slice(name).get_shape())
        except (SafetensorError, ValueError, OSError) as error:
            raise DataError(
                f"expected a whole safetensors file, found a damaged one ({error})",
                where=str(file),
                hint="copy or download the model again",
            ) from error
    return found


def n_weights(folder: Path) -> int:
    """Stored numbers."""
    return sum(math.prod(size) for size in tensor_sizes(folder).values())


def base_tokenizer(folder: Path, *, vocab_size: int, eos: str | None = None) -> TextTokenizer:
    """The model's own tokenizer, checked against the model.

    Args:
        folder: with tokenizer.json, and usually tokenizer_config.json.
        vocab_size: rows of the embedding, of which a tokenizer may use fewer.
        eos: the token that ends a document; default: the one that the folder names.
    Raises:
        DataError: no tokenizer.json; ids beyond the embedding; no end-of-text token, or another than the
            model's. All that can be told at once is.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise DataError(
            "expected tokenizer.json, found none",
            where=str(folder),
            hint="AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one",
        )
    tokenizer = load_tokenizer(file, eos=eos or _named_eos(folder))
    problems = []
    if tokenizer.vocab_size > vocab_size:
        problems.append(
            Problem(
                message=f"the tokenizer's ids must be below the model's {vocab_size} embeddings, "
                f"found {tokenizer.vocab_size - 1}",
                where=str(file),
                hint="use the tokenizer that this model was trained with",
            )
        )
    ends = _end_ids(folder)
    if eos is None and ends and tokenizer.eos_id not in ends:
        problems.append(
            Problem(
                message=f"the tokenizer ends a text with token {tokenizer.eos_id}, the model with "
                f"{' or '.join(map(str, sorted(ends)))}",
                where=str(folder),
                hint="use the tokenizer that this model was trained with, or name the token with `eos`",
            )
        )
    if problems:
        raise DataError.of(problems)
    return tokenizer


def check_same_tokenizer(folder: Path, *, sha256: str, where: str) -> None:
    """Tokens made with one tokenizer are noise to a model of another.

    Args:
        folder: of the model.
        sha256: of the tokenizer.json that made the tokens.
        where: what holds the tokens.
    Raises:
        DataError: they are not the same file.
    """
    found = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    if found != sha256:
        raise DataError(
            f"expected tokens of the model's own tokenizer ({found[:12]}, {folder}), "
            f"found those of another ({sha256[:12]})",
            where=where,
            hint="tokenize the text with the model's tokenizer.json",
        )


def opening_id(folder: Path) -> int | None:
    """The token that the tokenizer puts before every text (`<s>`, `<bos>`); None: it puts none."""
    from tokenizers import Tokenizer

    found: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("").ids
    ends = _end_ids(folder)
    return found[0] if found and (len(found) > 1 or found[0] not in ends) else None


def folder_digest(folder: Path, *, config: str = CONFIG) -> dict[str, str]:
    """SHA-256 of everything that decides the model: configuration and weights, by file name."""
    found = {}
    for file in (folder / config, *weight_files(folder)):
        with machine_errors(file), file.open("rb") as stream:
            found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _indexed(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, Mapping) or not names:
        raise DataError("expected a `weight_map` from tensors to files, found none", where=str(index))
    shards = sorted({str(name) for name in names.values()})
    for name in shards:
        if name != Path(name).name or not name.endswith(".safetensors"):
            raise DataError(
                f"expected names of safetensors files beside it, found {name!r}", where=str(index)
            )
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise DataError(
            f"expected {len(shards)} shards, {len(missing)} are missing: {', '.join(missing[:3])}",
            where=str(index.parent),
            hint="copy or download the model again",
        )
    return tuple(index.parent / name for name in shards)


def _named_eos(folder: Path) -> str | None:
    """The end-of-text token's text as the tokenizer's configuration names it."""
    file = folder / "tokenizer_config.json"
    named = read_json(file).get("eos_token") if file.is_file() else None
    text = named.get("content") if isinstance(named, Mapping) else named
    return text if isinstance(text, str) else None


def _end_ids(folder: Path) -> set[int]:
    """Every token that the model's configurations call an end."""
    found: set[int] = set()
    for name in (CONFIG, "generation_config.json"):
        if (folder / name).is_file():
            value = read_json(folder / name).get("eos_token_id")
            found |= {int(x) for x in (value if isinstance(value, list) else [value]) if isinstance(x, int)}
    return found
