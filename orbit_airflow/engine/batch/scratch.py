"""A directory for one object on its way through this machine: the same for every try, and nobody else's."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orbit_airflow.engine.errors import TargetError

PREFIX = "orbit-copy-"


@contextmanager
def scratch(directory: str | None, name: str) -> Iterator[str]:
    """``name``'s directory in ``directory`` (None: the system's temporary one), which is gone afterwards.

    What a killed try has left in it is found again, continued and then removed. While another process is at work in it,
    or where it is not this user's alone, it is a fresh one instead. TargetError when there can be none.
    """
    parent = directory or tempfile.gettempdir()
    path = os.path.join(parent, f"{PREFIX}{os.geteuid()}-{name}")
    try:
        fd = _locked(path)
        if fd is None:
            with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent) as fresh:
                yield fresh
            return
    except OSError as exc:
        raise TargetError(f"no directory for temporary files in {parent}: {exc.strerror}") from exc
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def _locked(path: str) -> int | None:
    """The directory, held until it is closed; None when it is somebody else's, or in use."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held, there = os.fstat(fd), os.stat(path, follow_symlinks=False)
        ours = held.st_uid == os.geteuid() and not stat.S_IMODE(held.st_mode) & 0o077
        # Whoever held it before may have removed it since.
        if ours and (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None
