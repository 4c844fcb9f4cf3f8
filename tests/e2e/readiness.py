"""When an Airflow that was just started can be used, and what its processes said when it cannot."""

import urllib.error
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from tests.e2e.rest import RestClient
from tests.e2e.waiting import wait_for

# Generous: the first start on a busy two-core machine, with cold byte code.
START_SECONDS = 150.0
_TAIL_BYTES = 3000


class Readiness:
    """Waits through the REST API. ``check`` raises when a process has ended; ``explain`` says what was seen so far."""

    def __init__(self, rest: RestClient, check: Callable[[], None], explain: Callable[[], str]) -> None:
        self._rest = rest
        self._check = check
        self._explain = explain

    def wait(self, dag_ids: Sequence[str]) -> None:
        """Until the API answers, the scheduler is healthy and the DAGs can be triggered.

        Raises NotInTime, what ``check`` raises, and RuntimeError when a DAG cannot be read.
        """
        self.wait_for("the api-server", self._rest.is_ready)
        for dag_id in dag_ids:
            self.wait_for(f"DAG {dag_id}", partial(self._offers, dag_id))
        self.wait_for("the scheduler", self._rest.scheduler_is_healthy)

    def wait_for_files(self, names: Collection[str]) -> None:
        """Until every file of the DAGs folder has given a DAG. Raises as ``wait`` does."""

        def all_read() -> bool:
            if errors := self._rest.import_errors():
                raise RuntimeError("\n".join(errors))
            return set(names) <= self._rest.dag_files()

        self.wait_for("the DAGs", all_read)

    def wait_for(self, what: str, look: Callable[[], bool]) -> None:
        """Until ``look`` says so; a server error counts as "not yet". Raises as ``wait`` does."""

        def checked() -> bool:
            self._check()
            try:
                return look()
            except urllib.error.HTTPError as exc:
                # SQLite has one writer, and four processes begin at once: the server may give up on a lock.
                if exc.code < 500:
                    raise
                return False

        wait_for(what, checked, patience=START_SECONDS, explain=self._explain)

    def _offers(self, dag_id: str) -> bool:
        if self._rest.has_dag(dag_id):
            return True
        if errors := self._rest.import_errors():
            raise RuntimeError("\n".join(errors))
        return False


def tails(folder: Path) -> str:
    """The ends of all logs in a folder."""
    return "\n".join(f"--- {file.name}\n{_tail(file)}" for file in sorted(folder.glob("*.log")))


def _tail(file: Path) -> str:
    return file.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
