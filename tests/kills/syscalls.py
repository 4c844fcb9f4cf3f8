"""Death at a system call: ``strace`` takes hold of the try and kills it as it enters the n-th call of a kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The calls by which part file, journal and target are made, written, synced, named and removed.
FILE_CALLS = (
    "openat", "flock", "fallocate", "ftruncate", "pwrite64", "write", "fdatasync", "fsync", "fchmod",
    "rename,renameat,renameat2", "link,linkat", "unlink,unlinkat",
)  # fmt: skip
ATTACH_SECONDS = 10.0


def available() -> bool:
    """Whether there is a strace that may trace here."""
    return shutil.which("strace") is not None


@contextmanager
def killed_at(pid: int, calls: str, nth: int, log: Path) -> Iterator[None]:
    """The process dies as it enters call number ``nth`` of ``calls``, counted over all its threads."""
    with _traced(pid, f"inject={calls}:signal=SIGKILL:when={nth}", calls, log):
        yield


@contextmanager
def failing_at(pid: int, calls: str, error: str, when: str, log: Path) -> Iterator[None]:
    """Calls ``when`` (strace's words: "3", "2+", ...) fail with ``error`` and are not made."""
    with _traced(pid, f"inject={calls}:error={error}:when={when}", calls, log):
        yield


@contextmanager
def _traced(pid: int, injection: str, calls: str, log: Path) -> Iterator[None]:
    log.unlink(missing_ok=True)
    command = ["strace", "-f", "-p", str(pid), "-o", str(log), "-e", f"trace={calls}", "-e", injection]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_attached(pid, process)
        yield
    finally:
        process.terminate()
        process.wait(ATTACH_SECONDS)
        if process.stderr is not None:
            process.stderr.close()


def _wait_until_attached(pid: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + ATTACH_SECONDS
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status").read_text()
        tracer = re.search(r"^TracerPid:\s*(\d+)", status, re.MULTILINE)
        if tracer is not None and tracer[1] != "0":
            return
        if process.poll() is not None:
            said = process.stderr.read() if process.stderr is not None else ""
            raise RuntimeError(f"strace may not trace here: {said.strip()}")
        time.sleep(0.002)
    raise RuntimeError("strace did not attach")
