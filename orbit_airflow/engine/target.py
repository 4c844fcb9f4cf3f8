"""The place where a download becomes visible: one name in one directory, which is held open.

All work below it goes through the directory's descriptor, so that a directory that is swapped for a symlink meanwhile
leads nowhere else. A name is replaced by a rename of a complete, synced file; nothing is ever written under it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import Self

from orbit_airflow.engine.errors import DiskFull, TargetError, TargetExists, printable

MAX_NAME_BYTES = 255
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# A directory cannot be synced on some network and user-space file systems.
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS})
# What hidden names add to the target's own: two dots, sixteen digits, and the longer ending.
_DECORATION = len(".") + len(".") + 16 + len(".orbit-journal")


class Target:
    """A target path. Use as a context manager; TargetError when it cannot be one.

    ``path`` is absolute. A missing directory is an error unless ``create_parents``: it may be a mount that is missing.
    """

    def __init__(self, path: str, *, create_parents: bool = False) -> None:
        self.path = absolute(path)
        self._parent, self.name = os.path.split(self.path)
        if not path or path.endswith(("/", "/.", "/..")) or not self.name or "\0" in path:
            raise TargetError(f"{printable(path)!r} is not the path of a file")
        if len(os.fsencode(self.name)) > MAX_NAME_BYTES:
            raise TargetError(f"a file name has at most {MAX_NAME_BYTES} bytes: {printable(self.name, 80)!r}")
        self.directory = _opened(self._parent, create_parents=create_parents)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.directory)

    @property
    def hidden_stem(self) -> str:
        """What hidden names begin with: the target's own name, or its hash when there would be no room behind it."""
        if len(os.fsencode(self.name)) + _DECORATION <= MAX_NAME_BYTES:
            return f".{self.name}."
        return f".{hashlib.sha256(os.fsencode(self.name)).hexdigest()[:32]}."

    def occupant(self) -> os.stat_result | None:
        """The regular file that has the name now, or None. TargetError for anything else, links included: a rename
        would replace the link, and a write would go through it.
        """
        try:
            found = os.lstat(self.name, dir_fd=self.directory)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise failure(exc, f"cannot look at {printable(self.path)}") from exc
        if not stat.S_ISREG(found.st_mode):
            raise TargetError(f"{printable(self.path)} is {_kind(found.st_mode)}; only a regular file is replaced")
        return found

    def room(self) -> int | None:
        """The bytes that this user may still write to the file system; None where that does not say (FUSE)."""
        try:
            state = os.fstatvfs(self.directory)
        except OSError as exc:
            raise failure(exc, f"cannot tell the room in the directory of {printable(self.path)}") from exc
        return state.f_bavail * state.f_frsize if state.f_blocks else None

    def check_directory(self) -> None:
        """TargetError when the path leads to another directory by now than to the one that is open: it was renamed,
        removed, swapped for a link, or a file system was mounted over it. A file in it would not be at its path.
        """
        try:
            same = os.path.samestat(os.stat(self._parent), os.fstat(self.directory))
        except FileNotFoundError:
            same = False
        except OSError as exc:
            raise failure(exc, f"cannot look at the directory of {printable(self.path)}") from exc
        if not same:
            raise TargetError(
                f"{printable(self._parent)} is not the directory that it was when the download began; nothing was made "
                "visible"
            )

    def put_in_place(self, hidden: str, file: os.stat_result, *, replace: bool) -> None:
        """Give the file ``hidden``, which is ``file``, the target's name, and make that last. TargetExists with
        ``replace=False`` when the name was taken meanwhile.
        """
        place = self.directory
        try:
            if replace:
                os.replace(hidden, self.name, src_dir_fd=place, dst_dir_fd=place)
            else:
                self._link(hidden)
        except OSError as exc:
            if not self.is_file(self.name, file):
                if isinstance(exc, FileExistsError):
                    raise TargetExists(f"{printable(self.path)} appeared meanwhile and replace is False") from None
                raise failure(exc, f"cannot give {printable(self.path)} its name") from exc
            # NFS repeats a request whose answer was lost, and the server complains of what it has done itself.
            self.remove(hidden)
        self.sync()

    def holds(self, hidden: str) -> bool:
        """True unless it is certain that one of our hidden files is not there."""
        try:
            os.lstat(hidden, dir_fd=self.directory)
        except FileNotFoundError:
            return False
        except OSError:
            pass
        return True

    def is_file(self, name: str, file: os.stat_result) -> bool:
        """True when the directory has this very file under ``name``."""
        with suppress(OSError):
            return os.path.samestat(os.lstat(name, dir_fd=self.directory), file)
        return False

    def _link(self, hidden: str) -> None:
        """A second name and then one less: unlike a rename, a link never replaces."""
        place = self.directory
        try:
            os.link(hidden, self.name, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError as exc:
            if exc.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES):
                raise
            # No hard links here (FAT, some network file systems): looked at, then renamed, which is not atomic.
            if self.occupant() is not None:
                raise FileExistsError(errno.EEXIST, "exists", self.name) from None
            os.rename(hidden, self.name, src_dir_fd=place, dst_dir_fd=place)
            return
        self.remove(hidden)

    def sync(self) -> None:
        """Make the directory's entries last; TargetError when the disk refuses."""
        try:
            os.fsync(self.directory)
        except OSError as exc:
            if exc.errno not in _NO_SYNC:
                raise failure(exc, f"cannot sync the directory of {printable(self.path)}") from exc

    def remove(self, hidden: str) -> None:
        """Remove one of our hidden files, if it is there; what cannot be removed stays."""
        with suppress(OSError):
            os.unlink(hidden, dir_fd=self.directory)


def failure(exc: OSError, what: str) -> TargetError:
    """The typed error of a failed system call on the target's side."""
    if exc.errno in _FULL:
        return DiskFull(f"{what}: {exc.strerror}; make room, and the next try continues")
    return TargetError(f"{what}: {exc.strerror}")


def absolute(path: str) -> str:
    """The path from the root on; ".." stays, which is not the directory before it when that is a link. TargetError."""
    try:
        os.fsencode(path)
        return os.path.join(os.getcwd(), path) if ".." in path.split("/") else os.path.abspath(path)
    except (OSError, ValueError) as exc:
        raise TargetError(f"{printable(path)!r} is not the path of a file: {exc!r}") from exc


def _opened(directory: str, *, create_parents: bool) -> int:
    if create_parents:
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as exc:
            raise failure(exc, f"cannot make the directory {printable(directory)}") from exc
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise TargetError(
            f"there is no directory {printable(directory)} (is it mounted on this worker? create_parents=True makes it)"
        ) from None
    except OSError as exc:
        raise failure(exc, f"cannot open the directory {printable(directory)}") from exc


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a symlink" if stat.S_ISLNK(mode) else "no regular file"
