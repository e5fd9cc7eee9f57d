"""The record beside a finished step: what was computed, from what, and the exact bytes that came out.

A record is deterministic: no clock, no host, no absolute path; output paths are relative to the run
directory. It carries a digest of itself, so that a damaged record is told from a true one. A step is
finished exactly when its record is there, is whole, and its outputs have the recorded size and SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prill.errors import DataError
from prill.run.atomic import atomic_write, machine_errors
from prill.run.fingerprint import file_digest, fingerprint

__all__ = [
    "RECORD_NAME",
    "Output",
    "Record",
    "find_records",
    "output_problem",
    "read_record",
    "read_sealed",
    "sealed_json",
    "step_fingerprint",
    "write_record",
]

RECORD_NAME = "record.json"

_FORMAT = "prill-record"
_FORMAT_VERSION = 1
_SEAL = "digest"


@dataclass(frozen=True, kw_only=True)
class Output:
    """One file that a step made. `path` is relative to the run directory, with forward slashes.

    `facts` is what the step learnt while it made this file (rows, tokens), plain JSON.
    """

    path: str
    size: int
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a finished step did. `parents` maps step names to fingerprints; `inputs` names outside files."""

    step: str
    fingerprint: str
    version: int
    settings: Mapping[str, Any]
    parents: Mapping[str, str]
    inputs: Sequence[Any]
    outputs: tuple[Output, ...]
    counts: Mapping[str, Any] = field(default_factory=dict)
    prill: str = ""

    def output(self, name: str) -> Output:
        """The one output whose path is `name` or ends in `/name`.

        Raises:
            DataError: no output, or more than one, has that name.
        """
        found = [o for o in self.outputs if o.path == name or o.path.endswith(f"/{name}")]
        if len(found) == 1:
            return found[0]
        known = ", ".join(o.path for o in self.outputs[:5]) or "none"
        raise DataError(
            f"expected one output {name!r}, found {len(found)} (outputs: {known})", where=self.step
        )


def step_fingerprint(
    step: str, *, version: int, settings: Mapping[str, Any], parents: Mapping[str, str], inputs: Sequence[Any]
) -> str:
    """What identifies a step's result: its name, algorithm version, settings, parents and outside inputs."""
    identity = {"step": step, "version": version, "settings": settings, "parents": parents, "inputs": inputs}
    return fingerprint(identity)


def write_record(path: Path, record: Record) -> None:
    """Write a record in one piece; its outputs must be durable already."""
    content = {"format": _FORMAT, "format_version": _FORMAT_VERSION, **asdict(record)}
    atomic_write(path, sealed_json(content))


def read_record(path: Path) -> Record:
    """Read a record and check its digest and its fingerprint.

    Raises:
        DataError: the file is missing, damaged, of another format, or does not fit its own fingerprint.
    """
    content = read_sealed(path, kind=_FORMAT, version=_FORMAT_VERSION)
    try:
        outputs = tuple(Output(**output) for output in content.pop("outputs"))
        record = Record(outputs=outputs, **content)
    except (TypeError, KeyError) as error:
        raise DataError(
            f"expected the fields of a record, found others ({error})", where=str(path)
        ) from error
    expected = step_fingerprint(
        record.step,
        version=record.version,
        settings=record.settings,
        parents=record.parents,
        inputs=record.inputs,
    )
    if expected != record.fingerprint:
        raise DataError(
            f"expected fingerprint {expected[:12]} for these settings, found {record.fingerprint[:12]}",
            where=str(path),
            hint="the record was edited: remove it and run again",
        )
    return record


def find_records(run_dir: Path) -> list[Path]:
    """The record files of all finished steps, sorted by path."""
    return sorted((run_dir / "steps").glob(f"*/{RECORD_NAME}"))


def output_problem(run_dir: Path, output: Output) -> str | None:
    """Why a recorded output is not what its record says, or None when it is."""
    path = run_dir / output.path
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != output.size:
        return f"expected {output.size} bytes, found {size}"
    found = file_digest(path)
    if found != output.sha256:
        return f"expected sha256 {output.sha256[:12]}, found {found[:12]}: the content changed"
    return None


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """Readable JSON that carries the digest of the rest of itself under `digest`."""
    sealed = {**content, _SEAL: fingerprint(content)}
    return json.dumps(sealed, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def read_sealed(path: Path, *, kind: str, version: int) -> dict[str, Any]:
    """Read sealed JSON of one format; returns the content without format, version and digest.

    Raises:
        DataError: missing, damaged, or of another format or a newer version.
    """
    with machine_errors(path):
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise DataError("expected a file, found none", where=str(path)) from None
        except (ValueError, RecursionError):
            raise DataError(f"expected {kind} JSON, found a damaged file", where=str(path)) from None
    if not isinstance(content, dict) or content.get("format") != kind:
        raise DataError(f"expected {kind} JSON, found something else", where=str(path))
    if content.get("format_version") != version:
        found = content.get("format_version")
        raise DataError(
            f"expected format version {version}, found {found!r}", where=str(path), hint="update Prill"
        )
    seal = content.pop(_SEAL, None)
    if seal != fingerprint(content):
        raise DataError("expected the content that was written, found it changed", where=str(path))
    return {key: value for key, value in content.items() if key not in {"format", "format_version"}}
