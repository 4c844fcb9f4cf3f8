"""The hidden file that a download fills before it gets its name: ``.<name>.<random>.orbit-part``.

It is made with O_EXCL and 0600, never through a link, and is locked (flock) as long as a transfer works on it: the
lock dies with the process, so that a file without one is left over. It is given its whole size at once: a disk that has
no room says so before a byte moves.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from orbit_airflow.engine.errors import DiskFull, TargetBusy, TargetError, printable
from orbit_airflow.engine.target import Target, failure

PART, JOURNAL = ".orbit-part", ".orbit-journal"
NONCE = re.compile(r"[0-9a-f]{16}")
# How often a file is made again that somebody else took for a left-over before it was locked.
_MAKE_TRIES = 5
# What st_blocks counts in, whatever the file system's own blocks are.
_BLOCK_UNIT = 512
# Measured on ext4 (docs/performance.md): one write of 1 MiB costs the kernel 1.5 to 4 times the CPU of four of 256 KiB
# at times; on tmpfs there is no difference. Large folios are the likely reason.
WRITE_AT_ONCE = 256 * 1024
_umask_lock = threading.Lock()
_REOPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def hidden_name(target: Target, nonce: str, ending: str) -> str:
    """The name of one of the target's hidden files."""
    return f"{target.hidden_stem}{nonce}{ending}"


def left_overs(target: Target) -> tuple[str, ...]:
    """The nonces of all hidden files of this target, of whatever transfer."""
    stem, found = target.hidden_stem, set()
    try:
        with os.scandir(target.directory) as entries:
            for entry in entries:
                name = entry.name
                for ending in (PART, JOURNAL):
                    if name.startswith(stem) and name.endswith(ending):
                        nonce = name[len(stem) : -len(ending)]
                        if NONCE.fullmatch(nonce):
                            found.add(nonce)
    except OSError as exc:
        raise failure(exc, f"cannot list the directory of {printable(target.path)}") from exc
    return tuple(sorted(found))


def is_held(target: Target, nonce: str) -> bool:
    """Whether a live transfer holds the lock of this part file, as far as can be told; nothing is changed."""
    try:
        fd = os.open(hidden_name(target, nonce, PART), _REOPEN, dir_fd=target.directory)
    except OSError:
        return False
    try:
        # A shared lock, for an instant: two who look at the same time do not take each other for its owner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as exc:
        return isinstance(exc, BlockingIOError)
    finally:
        os.close(fd)
    return False


class PartialFile:
    """An open, locked part file. ``new`` and ``reopen`` make them; ``close`` gives the lock back."""

    def __init__(self, target: Target, nonce: str, fd: int) -> None:
        self.target = target
        self.nonce = nonce
        self.name = hidden_name(target, nonce, PART)
        self._fd = fd
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        found = os.fstat(fd)
        self.dev, self.ino = found.st_dev, found.st_ino

    @classmethod
    def new(cls, target: Target, size: int) -> PartialFile:
        """A new file of ``size`` bytes. DiskFull, and nothing left behind, when there is no room for it."""
        for _ in range(_MAKE_TRIES):
            nonce = secrets.token_hex(8)
            name = hidden_name(target, nonce, PART)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                fd = os.open(name, flags, 0o600, dir_fd=target.directory)
            except OSError as exc:
                raise failure(exc, f"cannot write beside {printable(target.path)}") from exc
            try:
                if not _locked(fd) or not _is_named(target, name, fd):
                    os.close(fd)
                    continue
                made = cls(target, nonce, fd)
                made._allocate(size)
            except BaseException:
                target.remove(name)
                os.close(fd)
                raise
            return made
        raise TargetBusy(f"another transfer keeps removing the hidden files of {printable(target.path)}")

    @classmethod
    def reopen(cls, target: Target, nonce: str) -> PartialFile | None:
        """The left-over file, locked and ours alone; None when it is not there or is not of our making (another owner,
        a link, ...).

        TargetBusy when a live transfer holds its lock.
        """
        name = hidden_name(target, nonce, PART)
        try:
            fd = os.open(name, _REOPEN, dir_fd=target.directory)
        except OSError:
            return None
        kept = False
        try:
            if not is_ours(target, fd):
                return None
            if not _locked(fd):
                raise TargetBusy(
                    f"another live transfer is writing {printable(target.path)} (two tasks with one local path, or an "
                    "earlier try that has not ended yet)"
                )
            if not _is_named(target, name, fd):
                return None
            with suppress(OSError):
                # A try that was killed while it published had given it the target's own mode.
                os.fchmod(fd, 0o600)
            kept = True
            return cls(target, nonce, fd)
        except OSError as exc:
            raise failure(exc, f"cannot use {printable(name)}") from exc
        finally:
            if not kept:
                os.close(fd)

    @property
    def links(self) -> int:
        """How many names it has: 2 when a try was killed while it gave the file its own name."""
        return self.stat().st_nlink

    @property
    def is_named(self) -> bool:
        """False when somebody has removed or renamed it, or put another file under its name."""
        return _is_named(self.target, self.name, self._fd)

    def stat(self) -> os.stat_result:
        """As it is now. TargetError."""
        try:
            return os.fstat(self._fd)
        except OSError as exc:
            raise failure(exc, f"cannot look at {printable(self.name)}") from exc

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a thread writes: a thread that is left behind must not find another file under the number."""
        with self._lock:
            if self._closed:
                raise TargetError("the transfer has ended")
            self._users += 1
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and not self._users
        if last:
            self._release()

    def close(self) -> None:
        """Give back lock and number; when a thread still uses them, the last one does."""
        with self._lock:
            ends = not self._closed and not self._users
            self._closed = True
        if ends:
            self._release()

    def _release(self) -> None:
        with suppress(OSError):
            # Closing is not enough: a child that was forked meanwhile holds the lock as well.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)

    def write(self, view: memoryview, offset: int) -> None:
        """All of ``view`` at ``offset``. DiskFull, TargetError."""
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self._fd, view[done : done + WRITE_AT_ONCE], offset + done)
        except OSError as exc:
            raise failure(exc, f"cannot write to {printable(self.target.path)} at {offset + done}") from exc

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill ``view`` from ``offset``; its length. TargetError when the file ends before, or cannot be read."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as exc:
                raise failure(exc, f"cannot read {printable(self.name)} at {offset + done}") from exc
            if not count:
                raise TargetError(f"{printable(self.name)} ends at {offset + done}")
            done += count
        return done

    def sync_data(self) -> None:
        """The bytes that were written are on the disk when this returns. OSError as it comes."""
        os.fdatasync(self._fd)

    def dress(self, mode: int | None, mtime_ns: int | None) -> None:
        """Permission bits (None: what the umask leaves of 0o666) and time. TargetError when what was asked for cannot
        be; a file system without permissions is no reason to fail when nobody asked.
        """
        try:
            os.fchmod(self._fd, 0o666 & ~umask() if mode is None else mode)
        except OSError as exc:
            if mode is not None:
                raise failure(exc, f"cannot give {printable(self.target.path)} the mode {mode:o}") from exc
        if mtime_ns is not None:
            try:
                os.utime(self._fd, ns=(mtime_ns, mtime_ns))
            except OSError as exc:
                raise failure(exc, f"cannot set the time of {printable(self.target.path)}") from exc

    def sync(self) -> os.stat_result:
        """Everything is on the disk when this returns. OSError as it comes."""
        os.fsync(self._fd)
        return os.fstat(self._fd)

    def restore_size(self, size: int) -> None:
        """Give the file its whole size again, if somebody has cut it; what is missing reads as zeros."""
        if self.stat().st_size != size:
            self._allocate(size)

    def discard(self) -> None:
        """Remove the file."""
        self.target.remove(self.name)

    def _allocate(self, size: int) -> None:
        room, has = self.target.room(), self.stat().st_blocks * _BLOCK_UNIT
        if room is not None and size - has > room:
            raise DiskFull(
                f"{printable(self.target.path)} needs {size - has} bytes and its file system has {room} left"
            )
        if not size:
            return
        try:
            _reserve(self._fd, size)
            os.ftruncate(self._fd, size)
        except OSError as exc:
            raise failure(exc, f"cannot reserve {size} bytes for {printable(self.target.path)}") from exc


def is_ours(target: Target, fd: int) -> bool:
    """Whether an open file is regular and of this user's making; OSError as it comes.

    Where the file system has owners of its own (NFS with root_squash), ours is what it gives to a new file. A part file
    may have the target's mode already; whoever else can write it could write the target, too.
    """
    found = os.fstat(fd)
    return stat.S_ISREG(found.st_mode) and (found.st_uid == os.geteuid() or found.st_uid == _new_file(target)[0])


def is_ours_alone(target: Target, fd: int) -> bool:
    """As ``is_ours``, and nobody else can write it, as far as the file system can tell (CIFS and FAT cannot)."""
    others = stat.S_IMODE(os.fstat(fd).st_mode) & 0o022
    return is_ours(target, fd) and (not others or others == _new_file(target)[1] & 0o022)


def _new_file(target: Target) -> tuple[int, int]:
    """The owner and mode of a file that is made in the target's directory now with 0600."""
    # A kill leaves a part file without a journal, which the next try clears away.
    name, flags = hidden_name(target, secrets.token_hex(8), PART), os.O_WRONLY | os.O_CREAT | os.O_EXCL
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target.directory)
    try:
        found = os.fstat(fd)
        return found.st_uid, stat.S_IMODE(found.st_mode)
    finally:
        os.close(fd)
        target.remove(name)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            # A file system without locks: the random name is what keeps transfers apart, and the rename is atomic.
            return True
        raise failure(exc, "cannot lock a file in the target's directory") from exc
    return True


def _is_named(target: Target, name: str, fd: int) -> bool:
    """Whether the locked file still has its name: somebody may have removed or renamed it before the lock was ours."""
    try:
        return os.path.samestat(os.lstat(name, dir_fd=target.directory), os.fstat(fd))
    except OSError:
        return False


def umask() -> int:
    """The process's umask. Linux tells; elsewhere it can only be read by setting it."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    with _umask_lock:
        current = os.umask(0o077)
        os.umask(current)
    return current


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _reserve(fd: int, size: int) -> None:
    """Reserve room without writing. Not os.posix_fallocate: where the file system cannot, that writes every block."""
    try:
        fallocate = _libc().fallocate
    except AttributeError:
        return
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    while fallocate(fd, 0, 0, size):
        error = ctypes.get_errno()
        if error == errno.EINTR:
            continue
        if error in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return
        raise OSError(error, os.strerror(error))
