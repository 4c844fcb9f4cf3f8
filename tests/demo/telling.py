"""What the demo says: plain lines while it runs, and one table at the end."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.judge import MIB, Figures
from tests.e2e.rest import log_line

_WATCH_SECONDS = 3.0
# Airflow's own frame around a task's log; what is left was written by the operator, or is a warning.
_FRAME = ("::", "DAG bundles loaded", "Filling up the DagBag", "Worker startup", "Pushing xcom", "Skipping masking")


class Teller:
    """Writes lines with the time since the start in front."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._watched = 0.0
        self._received = 0

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """One line, at once."""
        sys.stdout.write(f"[{self.elapsed():5.1f} s] {text}\n")
        sys.stdout.flush()

    def show(self, text: str = "") -> None:
        """Lines without the time."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def watch(self, label: str, received: int, size: int) -> None:
        """How many bytes the server has: every three seconds, when there are more."""
        if received > self._received and time.monotonic() - self._watched >= _WATCH_SECONDS:
            self._watched, self._received = time.monotonic(), received
            self.say(f"{label}: the server has received {mib(received)} of {mib(size)}")


def mib(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / MIB:.1f} MiB"


def interesting(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of a task log that tell of the upload, without Airflow's frame and without the fields."""
    told = [event for event in events if event.get("timestamp") and not str(event.get("event", "")).startswith(_FRAME)]
    return [
        log_line({name: event.get(name) for name in ("timestamp", "level", "event", "error_detail")}) for event in told
    ]


def table(figures: Figures) -> str:
    """The account of the bytes, from the server's log."""
    saved = figures.size - figures.second
    rows = (
        ("file", figures.size, ""),
        ("try 1  sent until the kill", figures.first, "with what was still on its way"),
        ("       kept by the server", figures.kept, f"{figures.kept // figures.part_size} whole parts"),
        ("try 2  sent", figures.second, ""),
        ("both   sent", figures.total, ""),
        ("       sent twice", figures.again, f"promised: at most {figures.workers} x {mib(figures.part_size)}"),
        ("saved", saved, f"{100 * saved / figures.size:.0f} % of what starting again would have sent"),
    )
    width = max(len(name) for name, _, _ in rows)
    lines = (f"  {name.ljust(width)}  {count:>13,} bytes  {mib(count):>9}  {note}" for name, count, note in rows)
    return "\n".join(line.rstrip() for line in lines)


def proof(integrity: object, *, identical: bool, seconds: Mapping[str, float]) -> str:
    """What was proved about the object, and how long it all took."""
    compared = "the object is byte for byte the file" if identical else "THE OBJECT DIFFERS FROM THE FILE"
    times = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    return f"  proof  {compared} (read back and compared); the task says: {integrity}\n  time   {times}"
