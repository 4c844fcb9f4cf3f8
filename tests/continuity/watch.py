"""Looks at the names of files under which nothing partial may ever be seen."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_EVERY_SECONDS = 0.01


class Watch:
    """A thread that notes every size but the whole one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._paths: set[Path] = set()
        self._seen: dict[Path, set[int]] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; harmless when it never began."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look_at(self, path: Path) -> None:
        """From now on."""
        with self._lock:
            self._paths.add(path)

    def forget(self, path: Path) -> set[int]:
        """Look no more; the wrong sizes that were seen."""
        with self._lock:
            self._paths.discard(path)
            return self._seen.pop(path, set())

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            with self._lock:
                paths = list(self._paths)
            for path in paths:
                self._look(path)

    def _look(self, path: Path) -> None:
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            return
        if size != self._size:
            with self._lock:
                self._seen.setdefault(path, set()).add(size)
