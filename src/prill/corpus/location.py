"""Where a file is, and how to open it: a local path, or a URL through fsspec.

Remote storage is opened with options from the environment only, and its packages are extras that are
imported when a URL asks for them. Every failure becomes one of Prill's own errors, without the secrets
that a URL may hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from prill.corpus._url import is_url, scheme_of, scrub, shown
from prill.errors import DataError, PrillError, ResourceError, near
from prill.run.atomic import resource_error

__all__ = ["Found", "open_file", "reading", "remote"]

_EXTRAS: Final = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "hf": "hub",
    "http": "",
    "https": "",
    "memory": "",
    "file": "",
}
_REMOTE_BUFFER_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Found:
    """One file that was found, before its format is known.

    Attributes:
        path: absolute path or URL as it may be shown.
        address: what opens it; differs from `path` only by what must not be shown.
        n_bytes: its size.
        tag: what remote storage says identifies its content (an ETag or a hash), else None.
    """

    path: str
    address: str = field(repr=False)
    n_bytes: int
    tag: str | None = None


def remote(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path inside it.

    Raises:
        DataError: the scheme is not one that Prill reads.
        ResourceError: the package for the scheme is not installed, or the storage refuses.
    """
    scheme = scheme_of(url)
    if "::" in url or scheme not in _EXTRAS:
        found = "a chain of schemes" if "::" in url else f"{scheme!r}"
        raise DataError(
            f"expected a local path or a URL of a known scheme, found {found}",
            where=shown(url),
            hint=near(scheme, list(_EXTRAS)),
        )
    import fsspec

    try:
        file_system, path = fsspec.url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS[scheme]
        wanted = f"`pip install 'prill[{extra}]'`" if extra else f"install {error.name or 'its package'}"
        raise ResourceError(
            f"reading {scheme}:// needs a package that is not installed", where=shown(url), hint=wanted
        ) from error
    except Exception as error:
        raise _storage_error(error, url) from error
    return file_system, str(path)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn every failure of the operating system or of remote storage into one of Prill's errors."""
    try:
        yield
    except PrillError:
        raise
    except FileNotFoundError as error:
        raise DataError("expected a file, found none", where=shown(path)) from error
    except Exception as error:
        if not is_url(path) and not isinstance(error, OSError):
            raise
        raise _storage_error(error, path) from error


def open_file(address: str) -> Any:
    """An open binary file that can seek, as a pyarrow `NativeFile`.

    Raises:
        DataError: there is no such file.
        ResourceError: it may not be read, or too many files are open, or the storage refuses.
    """
    with reading(address):
        if not is_url(address):
            return _open_local(address)
        file_system, path = remote(address)
        handle = file_system.open(path, "rb", block_size=_REMOTE_BUFFER_BYTES)
        return pa.PythonFile(handle, mode="r")


def _open_local(path: str) -> Any:
    try:
        path.encode()
    except UnicodeEncodeError:  # a name that is not UTF-8, which Arrow cannot open by itself
        return pa.PythonFile(Path(path).open("rb"), mode="r")
    return pa.OSFile(path, "rb")


def _storage_error(error: Exception, path: str) -> PrillError:
    if isinstance(error, PrillError):
        return error
    if isinstance(error, OSError):
        known = resource_error(error, shown(path))
        if known is not None:
            return known
    said = scrub(str(error)).splitlines()
    return ResourceError(
        f"cannot be read: {type(error).__name__}: {said[0] if said else 'no message'}",
        where=shown(path),
        hint="check the path, the network and the credentials in the environment",
    )
