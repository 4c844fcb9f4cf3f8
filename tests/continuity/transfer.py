"""One transfer in the real Airflow, held up so that it can be struck in its middle, and judged by the server's log."""

from __future__ import annotations

import hashlib
import random
import re
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.continuity.site import BUCKET, PATIENT, SIZE, Site
from tests.e2e.processes import ProcessInfo
from tests.e2e.rest import TaskClient
from tests.e2e.waiting import NotInTime, wait_for
from tests.model_server import Fault

Direction = Literal["up", "down"]
_EVERY = 0.4
_START_SECONDS, _END_SECONDS = 150.0, 240.0
_MOVES = {"up": "UploadPart", "down": "GetObject"}
_HEAD = re.compile(r"^(resuming|uploading|downloading) |holds the object already|an earlier try had (sent|fetched) all")
_TOTAL_OUTAGE = (urllib.error.URLError, ConnectionError, TimeoutError)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run: which event, which direction, and its own dice. ``delay``: seconds that each part is held up, behind the
    share ``held_at`` of its bytes. ``middle``: from and to which share of the whole the event is called for.
    """

    row: str
    direction: Direction
    number: int
    seed: int
    delay: float
    held_at: float = 0.5
    middle: tuple[float, float] = (0.28, 0.65)
    variant: str = ""
    connection: str = PATIENT

    @property
    def key(self) -> str:
        """Nobody else's."""
        return f"{self.row}/{self.direction}-{self.number}.bin"

    @property
    def dag_id(self) -> str:
        """One DAG per way of asking."""
        return f"continuity_{self.direction}{self.variant}"


class Transfer:
    """A plan that is carried out. Everything waits with a deadline; what is late raises NotInTime."""

    def __init__(self, site: Site, plan: Plan, *, folder: Path, seen_folder: Callable[[], Path]) -> None:
        self.site, self.plan = site, plan
        self.dice = random.Random(f"{plan.seed}/{plan.key}")
        self._name = f"{plan.row}-{plan.number}"
        self._path = site.source if plan.direction == "up" else folder / self._name / "restored.bin"
        self._seen_folder = seen_folder
        self.task: TaskClient
        self.may_fail = False

    def start(self) -> None:
        """Trigger it; each of its parts will be held up in the middle."""
        plan, server = self.plan, self.site.server
        if plan.direction == "down":
            self.prepare_disk()
            self.site.put_object(plan.key)
        held = Fault(
            _MOVES[plan.direction],
            "delay",
            "mid",
            key=plan.key,
            seconds=plan.delay,
            at_fraction=plan.held_at,
            times=None,
        )
        server.inject(held)
        conf = {"path": str(self._path), "bucket": BUCKET, "key": plan.key, "connection": plan.connection}
        run_id = self.site.rest.trigger(plan.dag_id, conf)
        self.task = self.site.task(plan.dag_id, run_id, "transfer")

    def _seen(self) -> Path:
        return self._seen_folder() / self._name / "restored.bin"

    def prepare_disk(self) -> None:
        """The target's folder, on the machine that works now."""
        seen = self._seen()
        seen.parent.mkdir(parents=True, exist_ok=True)
        self.site.watch.look_at(seen)

    def moved(self) -> int:
        """The object's bytes that have travelled, repeated ones included."""
        records = self.site.server.records(key=self.plan.key)
        if self.plan.direction == "down":
            return sum(item.bytes_sent for item in records if item.operation == "GetObject")
        return sum(item.bytes_received for item in records if item.operation in ("UploadPart", "PutObject"))

    def wait_for_middle(self) -> None:
        """Until a random share has travelled, and a random while longer."""
        share = self.dice.uniform(*self.plan.middle)
        self.wait_until("the middle", lambda: self.moved() >= share * SIZE, patience=_START_SECONDS)
        time.sleep(self.dice.uniform(0, self.plan.delay / 2))

    def wait_for_share(self, share: float) -> None:
        """Until that much has travelled."""
        self.wait_until("a share", lambda: self.moved() >= share * SIZE, patience=_START_SECONDS)

    def process(self) -> ProcessInfo:
        """The task's process."""
        return wait_for(
            "a process", lambda: self.site.task_process(self.task), patience=60, every=_EVERY, explain=self.history
        )

    def wait_until(self, what: str, holds: Callable[[], bool], *, patience: float) -> None:
        """Until it holds; NotInTime at once when the run failed and must not."""

        def look() -> bool:
            if holds():
                return True
            if not self.may_fail and self._state() == "failed":
                raise NotInTime(f"{what}: the run failed\n{self.history()}")
            return False

        wait_for(what, look, patience=patience, every=_EVERY, explain=self.history)

    def wait_until_gone(self, process: ProcessInfo, *, patience: float = 60.0) -> None:
        """Until a process has ended."""
        wait_for("its end", lambda: not process.is_alive(), patience=patience, every=0.1, explain=self.history)

    def hurry(self) -> None:
        """From now on nothing holds it up, and nothing fails."""
        self.site.server.clear_faults(self.plan.key)

    def wait_for_success(self) -> None:
        """Until the run is over."""
        self.wait_until("success", lambda: self._state() == "success", patience=_END_SECONDS)

    def _state(self) -> str:
        try:
            return self.site.rest.run_state(self.task.dag_id, self.task.run_id)
        except _TOTAL_OUTAGE:
            return "unknown"

    def heads(self) -> list[str]:
        """The first line that each try's log has about the transfer; tries without any moved nothing."""
        found = []
        for number in range(1, self.task.view().try_number + 1):
            lines = self._log(number)
            found += [line for line in lines if _HEAD.search(line)][:1]
        return found

    def _log(self, number: int) -> list[str]:
        """A try that could not be started while the API server was away has no log: 404."""
        try:
            return [str(item.get("event")) for item in self.task.log_events(number)]
        except urllib.error.HTTPError as exc:
            if exc.code != 404:
                raise
            return []

    def faults(self) -> list[str]:
        """What is wrong with what is there now."""
        return self._faults_of_file() if self.plan.direction == "down" else self._faults_of_object()

    def _faults_of_object(self) -> list[str]:
        server, key = self.site.server, self.plan.key
        versions = server.versions(BUCKET, key)
        found = [] if len(versions) == 1 else [f"{len(versions)} versions"]
        found += [f"{item.upload_id} is open" for item in server.open_uploads(BUCKET) if item.key == key]
        if not versions or hashlib.sha256(server.read_object(BUCKET, key)).digest() != self.site.sha256:
            found.append("WRONG BYTES")
        return found

    def _faults_of_file(self) -> list[str]:
        path = self._seen()
        found = [f"the file was seen with {size} bytes" for size in self.site.watch.forget(path)]
        if not path.exists() or hashlib.sha256(path.read_bytes()).digest() != self.site.sha256:
            return [*found, "WRONG BYTES"]
        found += [f"left: {item.name}" for item in path.parent.iterdir() if item != path]
        path.unlink()
        return found

    def history(self) -> str:
        """For messages about failures."""
        try:
            view = self.task.view()
            logs = (f"--- try {number}\n{self.task.log_text(number)}" for number in range(1, view.try_number + 1))
            return "\n".join([self.plan.key, str(view), f"{self.moved():,} bytes moved", *logs])[-12000:]
        except Exception as exc:
            return f"{self.plan.key}: no history ({exc!r})"
