"""One try: a forked process that transfers, and dies where its plan says."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine import EngineConfig, FileTokenStore, TransferEngine, open_engine
from orbit_airflow.engine.errors import OrbitError
from tests.kills.plan import Kill
from tests.model_server import Fault, ModelClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TRY_SECONDS = 60.0


@dataclass(frozen=True)
class Try:
    """What one process did: ``result`` is the engine's, or None when the process was killed or failed."""

    killed: bool
    seconds: float
    result: dict[str, Any] | None
    error: str | None = None


class SuicidalTokens(FileTokenStore):
    """A FileTokenStore that kills its own process right before or right after it saves a given phase (a token without
    phases: "") for the ``nth`` time.
    """

    def __init__(self, directory: Path, kill: Kill | None) -> None:
        super().__init__(directory)
        self._kill = kill
        self._seen = 0

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """Save, with death on the way."""
        meant = self._kill is not None and self._kill.kind == "token" and token.get("phase", "") == self._kill.point
        self._seen += meant
        here = meant and self._kill is not None and self._seen == self._kill.nth
        if here and self._kill is not None and self._kill.stage == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        kept = super().save(key, token)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return kept


@dataclass(frozen=True)
class Workplace:
    """What all tries share. ``client`` has no open connection when it is forked; ``janitor`` stays with the parent."""

    client: S3Client
    janitor: S3Client
    config: EngineConfig
    server: ModelClient
    directory: Path


# One transfer with this engine, these tokens, as try number so and so: what is worth telling of its result.
Work = Callable[[TransferEngine, FileTokenStore, int], dict[str, Any]]
# Something that takes hold of the process before it begins.
Attach = Callable[[int], AbstractContextManager[object]]


def run_try(
    place: Workplace, work: Work, kill: Kill | None, number: int, attach: Attach | None = None,
    limit: float = TRY_SECONDS,
) -> Try:  # fmt: skip
    """Fork, transfer, kill as planned, and collect. A process that is not done after ``limit`` seconds is killed and
    counts as an error.
    """
    place.server.clear_faults()
    pid_file, out = place.directory / "victim.pid", place.directory / "result.json"
    out.unlink(missing_ok=True)
    reader, writer = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        _child(place, work, kill, number, reader, out)
    os.close(reader)
    pid_file.write_text(str(pid))
    if kill is not None and kill.kind == "request":
        rule = Fault(operation=kill.point, stage=kill.stage, action="kill", nth=kill.nth, pid_file=str(pid_file))
        place.server.inject(rule)
    with attach(pid) if attach is not None else nullcontext():
        os.write(writer, b"g")
        os.close(writer)
        status, hung = _wait(pid, kill, limit)
    told = json.loads(out.read_text()) if out.exists() else {}
    error = "hung" if hung else told.get("error")
    killed = os.WIFSIGNALED(status) and not hung
    if not killed and not hung and not told:
        error = f"the process ended with status {status} and said nothing"
    return Try(killed, time.monotonic() - started, None if killed else told.get("result"), error)


def _wait(pid: int, kill: Kill | None, limit: float) -> tuple[int, bool]:
    started = time.monotonic()
    deadline = kill.seconds if kill is not None and kill.kind == "time" else None
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, False
        elapsed = time.monotonic() - started
        if deadline is not None and elapsed >= deadline:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1], False
        if elapsed > limit:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1], True
        time.sleep(0.001)


def _child(place: Workplace, work: Work, kill: Kill | None, number: int, gate: int, out: Path) -> None:
    """Never returns."""
    code = 1
    try:
        os.read(gate, 1)
        engine = open_engine(place.config, client=place.client)
        told: dict[str, Any] = {"result": work(engine, SuicidalTokens(place.directory / "tokens", kill), number)}
        code = 0
    except OrbitError as exc:
        told = {"error": {"text": f"{type(exc).__name__}: {exc}"}}
    except BaseException:
        told = {"error": {"text": traceback.format_exc()}}
    try:
        draft = out.with_suffix(".draft")
        draft.write_text(json.dumps(told))
        draft.replace(out)
    finally:
        # A fork must never go on with its parent's work.
        os._exit(code)
