"""Atomic files: whole or absent, under errors and limits."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from prill.errors import InternalError, ResourceError
from prill.run.atomic import TEMPORARY_PREFIX, atomic_path, atomic_write, resource_error, sweep


def test_written_bytes_are_read_back_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


def test_an_error_keeps_the_old_file_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "c.bin"
    atomic_write(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted_write(path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_block_that_writes_nothing_is_an_internal_error(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="found none"), atomic_path(tmp_path / "c.bin"):
        pass


def test_a_long_name_still_fits(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)  # 254 bytes, the file system's limit is 255
    atomic_write(path, b"x")
    assert path.read_bytes() == b"x"


def test_the_file_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        atomic_write(tmp_path / "c.bin", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "c.bin").stat().st_mode & 0o777 == 0o640


def test_sweep_removes_only_temporary_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{TEMPORARY_PREFIX}00-part.parquet").write_bytes(b"half")
    atomic_write(tmp_path / "in" / "part.parquet", b"whole")
    assert sweep(tmp_path) == 1
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["part.parquet"]


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.EACCES, errno.EROFS],
)
def test_each_known_errno_says_what_to_do(number: int) -> None:
    error = resource_error(OSError(number, os.strerror(number)), "out/part.parquet")
    assert error is not None
    assert error.problems[0].where == "out/part.parquet"
    assert errno.errorcode[number] in str(error)
    assert error.problems[0].hint


def test_an_unknown_errno_is_not_dressed_up(tmp_path: Path) -> None:
    assert resource_error(OSError(errno.ENOENT, "gone"), "x") is None
    with pytest.raises(IsADirectoryError):
        atomic_write(tmp_path, b"x")


_LIMITED = """
import resource, sys
from pathlib import Path
from prill.errors import ResourceError
from prill.run.atomic import atomic_write

folder = Path(sys.argv[1])
if sys.argv[2] == "size":
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
else:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    atomic_write(folder / "big.bin", b"x" * 10_000)
except ResourceError as error:
    sys.stdout.write(str(error))
    sys.exit(4)
"""


@pytest.mark.parametrize(("limit", "name"), [("size", "EFBIG"), ("files", "EMFILE")])
def test_a_process_limit_is_one_clear_error_and_leaves_nothing(tmp_path: Path, limit: str, name: str) -> None:
    command = [sys.executable, "-c", _LIMITED, str(tmp_path), limit]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 4, ended.stderr
    assert name in ended.stdout
    assert "ulimit" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        with pytest.raises(ResourceError, match="ENOSPC"):
            atomic_write(disk / "big.bin", b"x" * 200_000)
        assert list(disk.iterdir()) == []
        atomic_write(disk / "small.bin", b"x" * 1000)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _interrupted_write(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt


def test_limits_of_this_process_are_untouched() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 3
