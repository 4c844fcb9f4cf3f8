"""The campaign of downloads: killed at requests, at saves of the token, at random instants and at system calls; with
the part file cut, flipped, exchanged or deleted between two tries. The target's name is watched all the while.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orbit_airflow.engine import DownloadOptions, FileTokenStore, ObjectRef, TransferEngine
from tests.kills.plan import Harm

WATCH_SECONDS = 0.002


@dataclass
class Scene:
    """One object and the place that it is downloaded to."""

    ref: ObjectRef
    folder: Path
    size: int
    sha256: bytes
    part_size: int
    seen_partial: list[int] = field(default_factory=list)

    @property
    def target(self) -> Path:
        """The file that must never be seen half."""
        return self.folder / "restored.bin"

    @property
    def hidden(self) -> list[Path]:
        """What tries have left."""
        return sorted(path for path in self.folder.iterdir() if ".orbit-" in path.name)

    def work(self, engine: TransferEngine, tokens: FileTokenStore, number: int) -> dict[str, Any]:
        """One try's download."""
        options = DownloadOptions(try_number=number, replace=False)
        result = engine.download(self.ref, self.target, options, tokens=tokens)
        return {
            "integrity": result.integrity.value,
            "received": result.bytes_received,
            "saved": result.bytes_saved,
            "resumed": result.resumed,
        }

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note every size but the whole one under which the target is seen."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(WATCH_SECONDS):
                try:
                    size = os.stat(self.target).st_size
                except FileNotFoundError:
                    continue
                if size != self.size:
                    self.seen_partial.append(size)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def faults(self) -> list[str]:
        """What is wrong with what is visible now, if something is there."""
        found = [f"the target was seen with {size} bytes" for size in set(self.seen_partial)]
        if self.target.exists() and hashlib.sha256(self.target.read_bytes()).digest() != self.sha256:
            found.append("WRONG BYTES under the target's name")
        return found


def harm(scene: Scene, kind: Harm, tokens: Path) -> int:
    """Do it, where there is something to do it to. The bytes that must be fetched again because of it, at most."""
    parts = [path for path in scene.hidden if path.name.endswith(".orbit-part")]
    journals = [path for path in scene.hidden if path.name.endswith(".orbit-journal")]
    if kind == "lose token":
        for path in tokens.glob("*.json"):
            path.unlink()
        return 0
    if kind == "delete journal":
        for path in journals:
            path.unlink()
        return scene.size if journals else 0
    if kind == "none" or not parts:
        return 0
    return _HARMS[kind](parts[0], scene)


def _truncate(part: Path, scene: Scene) -> int:
    os.truncate(part, scene.size // 2)
    return scene.size - scene.size // 2 + scene.part_size


def _flip(part: Path, scene: Scene) -> int:
    with part.open("r+b") as file:
        file.seek(scene.size // 3)
        byte = file.read(1)
        file.seek(scene.size // 3)
        file.write(bytes([byte[0] ^ 0x10]))
    return scene.part_size


def _swap(part: Path, scene: Scene) -> int:
    twin = part.with_name("twin")
    twin.write_bytes(part.read_bytes())
    twin.chmod(0o600)
    twin.replace(part)
    return scene.size


def _delete(part: Path, scene: Scene) -> int:
    part.unlink()
    return scene.size


_HARMS: dict[str, Callable[[Path, Scene], int]] = {
    "truncate": _truncate,
    "flip": _flip,
    "swap": _swap,
    "delete part": _delete,
}
