"""Fault rules: which request is hit, at which edge, and with what."""

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tests.model_server.records import RequestRecord

Stage = Literal["before", "mid", "after"]
Action = Literal[
    "reset",
    "fin",
    "hang",
    "delay",
    "error",
    "answer_200_error",
    "answer_200_empty",
    "empty_etag",
    "flip",
    "stop_reading",
    "kill",
    "callback",
    "skew",
    "redirect",
    "short_body",
    "short_chunked",
    "no_content_range",
    "ignore_range",
    "neighbour",
]
FlipShows = Literal["nowhere", "listing", "answer"]

# These change what was done or answered, so they can act only once the work is done.
_ONLY_AFTER = frozenset({"empty_etag", "flip", "short_body", "short_chunked", "no_content_range"})
# And these change what is asked, so they can act only before.
_ONLY_BEFORE = frozenset({"ignore_range", "neighbour"})


@dataclass(frozen=True)
class Fault:
    """One rule; it fires on the `nth` matching request and on the `times - 1` after it (`times=None`: for ever).

    `stage` "before" acts with nothing read or done, "mid" after `at_fraction` of the body (of the answer's body for
    GetObject), "after" when the work is done and the answer is not sent. Without a stage, `flip` and `empty_etag` act
    after, `stop_reading` mid, everything else before. `range_from` narrows a rule to ranges that begin there or behind.
    `flip_shows` says who sees a flipped byte: "nowhere" only a
    reader of the object, "listing" also ETag and checksum in HEAD and ListParts, "answer" also this request's answer.

    Five change a GetObject's answer and nothing else. "short_body" ends it after `at_fraction`, with a Content-Length
    that agrees and a Content-Range that does not; "short_chunked" the same with chunks and a clean last one;
    "no_content_range" drops that header; "ignore_range" answers 200 with the whole object; "neighbour" gives the bytes
    of the range beside the one that was asked for and is claimed.
    """

    operation: str | None = None
    action: Action = "error"
    stage: Stage | None = None
    key: str | None = None
    part_number: int | None = None
    range_from: int | None = None
    nth: int = 1
    times: int | None = 1
    at_fraction: float = 0.5
    seconds: float | None = None
    status: int | None = None
    code: str = "InternalError"
    headers: Mapping[str, str] = field(default_factory=dict)
    location: str = ""
    flip_offset: int | None = None
    flip_shows: FlipShows = "listing"
    pids: tuple[int, ...] = ()
    pid_file: str = ""
    callback: Callable[[RequestRecord], None] | None = None

    def __post_init__(self) -> None:
        if self.action not in get_args(Action):
            raise ValueError(f"unknown fault action: {self.action}")
        if self.stage not in (None, *get_args(Stage)):
            raise ValueError(f"unknown fault stage: {self.stage}")
        if self.action in _ONLY_AFTER and self.stage not in (None, "after"):
            raise ValueError(f"{self.action} acts only after the work is done")
        if self.action in _ONLY_BEFORE and self.stage not in (None, "before"):
            raise ValueError(f"{self.action} acts only before the work is done")
        if self.action == "callback" and self.callback is None:
            raise ValueError("a callback fault needs a callable")
        if self.action == "kill" and not (self.pids or self.pid_file):
            raise ValueError("a kill fault needs pids or a pid file")
        if any(pid <= 1 for pid in self.pids):
            raise ValueError("a kill fault names single processes only")

    @property
    def edge(self) -> Stage:
        """The stage, with the action's own default filled in."""
        if self.stage is not None:
            return self.stage
        if self.action in _ONLY_AFTER:
            return "after"
        return "mid" if self.action == "stop_reading" else "before"

    @property
    def label(self) -> str:
        """How the log names the fault."""
        return f"{self.edge}:{self.action}"

    def matches(self, record: RequestRecord) -> bool:
        """Whether the request is of the kind the rule is about."""
        return (
            self.operation in (None, record.operation)
            and self.key in (None, record.key)
            and self.part_number in (None, record.part_number)
            and (self.range_from is None or (record.range_start or 0) >= self.range_from)
        )

    def victims(self) -> tuple[int, ...]:
        """The pids to kill; the pid file is read only now, since its process may start after the rule."""
        if not self.pid_file:
            return self.pids
        return (*self.pids, *(int(word) for word in Path(self.pid_file).read_text().split()))

    def to_json(self) -> dict[str, Any]:
        """The rule for the control API; a callback cannot leave its process."""
        if self.callback is not None:
            raise ValueError("a callback fault works only inside the server's process")
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {**values, "headers": dict(self.headers), "pids": list(self.pids)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Fault":
        """The rule that a control client sent; raises ValueError or TypeError when it is none."""
        return cls(**{**values, "pids": tuple(values.get("pids", ()))})


@dataclass
class _Rule:
    fault: Fault
    matched: int = 0
    fired: int = 0


class FaultBook:
    """The rules in force; a request claims its faults once, at its start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []

    def add(self, fault: Fault) -> None:
        """Put a rule in force."""
        with self._lock:
            self._rules.append(_Rule(fault))

    def clear(self, key: str | None = None) -> None:
        """Drop all rules, or those that are about this key."""
        with self._lock:
            self._rules = [rule for rule in self._rules if key is not None and rule.fault.key != key]

    def claim(self, record: RequestRecord) -> list[Fault]:
        """The faults that hit this request, counted as fired."""
        claimed = []
        with self._lock:
            for rule in self._rules:
                if not rule.fault.matches(record):
                    continue
                rule.matched += 1
                spent = rule.fault.times is not None and rule.fired >= rule.fault.times
                if rule.matched >= rule.fault.nth and not spent:
                    rule.fired += 1
                    claimed.append(rule.fault)
        return claimed


def kill_all(pids: tuple[int, ...]) -> None:
    """SIGKILL exactly these processes; one that is gone already is no error."""
    for pid in pids:
        if pid <= 1:
            raise ValueError(f"not a single process: {pid}")
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
