"""One upload in a real Airflow, from its trigger to its end, with the handles that a test needs to kill it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.harness import LocalAirflow
from tests.e2e.judge import Judge
from tests.e2e.processes import ProcessInfo
from tests.e2e.rest import TaskClient
from tests.e2e.waiting import NotInTime, wait_for

# From the trigger, or the end of a try, to the next task process: some scheduler loops and an import of Airflow.
HOP_SECONDS = 90.0


@dataclass(frozen=True)
class RunningUpload:
    """A triggered upload task, its file, and the judge of its object; `watch` is called while something is awaited."""

    airflow: LocalAirflow
    task: TaskClient
    judge: Judge
    path: Path
    watch: Callable[["RunningUpload"], None] = lambda _: None

    def process(self) -> ProcessInfo:
        """Wait for the task process and give it."""

        def look() -> ProcessInfo | None:
            self._check()
            return self.airflow.task_process(self.task)

        return wait_for("a task process", look, patience=HOP_SECONDS, explain=self.history)

    def wait_until_received(self, count: int, *, patience: float = 60.0) -> None:
        """Wait until the server has received so many bytes; fails at once when the run failed."""
        self._wait(f"{count:,} bytes at the server", lambda: self.judge.received() >= count, patience)

    def wait_for_try(self, number: int, *, patience: float = HOP_SECONDS) -> None:
        """Wait until this try runs, or has run."""
        self._wait(f"try {number}", lambda: self._reached(number), patience)

    def wait_for_success(self, *, patience: float = 120.0) -> dict[str, Any]:
        """Wait for the end of the run and give the task's result."""
        self._wait("the run's success", lambda: self._state() == "success", patience)
        result = self.task.xcom()
        if not isinstance(result, dict):
            raise NotInTime(f"the result is no mapping but {result!r}\n{self.history()}")
        return result

    def _state(self) -> str:
        return self.airflow.rest.run_state(self.task.dag_id, self.task.run_id)

    def _wait(self, what: str, holds: Callable[[], bool], patience: float) -> None:
        def look() -> bool:
            self._check()
            return holds()

        wait_for(what, look, patience=patience, explain=self.history)

    def _check(self) -> None:
        self.watch(self)
        if self._state() == "failed":
            raise NotInTime(f"the run failed\n{self.history()}")

    def _reached(self, number: int) -> bool:
        view = self.task.view()
        return view.try_number >= number and view.state in ("running", "success")

    def history(self) -> str:
        """The state and the logs of the first and the last try, for messages about failures."""
        view = self.task.view()
        tries = sorted({1, view.try_number} - {0})
        logs = (f"--- try {number}\n{self.task.log_text(number)}" for number in tries)
        return "\n".join([str(view), f"{self.judge.received():,} bytes at the server", *logs])


def make_file(path: Path, size: int, seed: int) -> Path:
    """A file of `size` random bytes, the same for the same seed."""
    rng, block = random.Random(seed), 4 * 1024 * 1024
    with path.open("wb") as file:
        for offset in range(0, size, block):
            file.write(rng.randbytes(min(block, size - offset)))
    return path
