"""What became of a batch: of each key, and of all of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orbit_airflow.engine.errors import OrbitError, printable
from orbit_airflow.engine.keys import KeyEntry

MAX_ERRORS = 20
# So many outcomes a result holds itself; all of them are in the report.
MAX_RESULTS = 1000


class Outcome(StrEnum):
    """How it ended for one key. Skipped: it was already as it should be, and nothing was changed."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOutcome:
    """One key's end. ``version_id``: the version that was meant. ``made``: the version or marker that the batch made.

    ``code`` and ``message`` say why it failed (the store's own code, or the error's class) or was skipped.
    ``not_preserved`` names what the object had and a copy does not keep.
    """

    key: str
    outcome: Outcome
    version_id: str | None = None
    made: str | None = None
    code: str | None = None
    message: str | None = None
    not_preserved: tuple[str, ...] = ()

    @classmethod
    def done(cls, entry: KeyEntry, made: str | None = None, not_preserved: tuple[str, ...] = ()) -> KeyOutcome:
        """It is as it should be now."""
        return cls(
            key=entry.key, outcome=Outcome.DONE, version_id=entry.version_id, made=made, not_preserved=not_preserved
        )

    @classmethod
    def skipped(cls, entry: KeyEntry, why: str) -> KeyOutcome:
        """It was as it should be before."""
        return cls(key=entry.key, outcome=Outcome.SKIPPED, version_id=entry.version_id, message=why)

    @classmethod
    def failed(cls, entry: KeyEntry, error: OrbitError) -> KeyOutcome:
        """It is as it was, or nobody knows: the message tells."""
        return cls(
            key=entry.key,
            outcome=Outcome.FAILED,
            version_id=entry.version_id,
            code=error.context.code or type(error).__name__,
            message=printable(str(error), 1000),
        )

    @property
    def ok(self) -> bool:
        """True unless it failed."""
        return self.outcome is not Outcome.FAILED

    def line(self) -> str:
        """Its line of the report: JSON, without what is None."""
        told: dict[str, Any] = {"key": self.key, "outcome": self.outcome.value}
        named = {"version_id": self.version_id, "made": self.made, "code": self.code, "message": self.message}
        told |= {name: value for name, value in named.items() if value is not None}
        if self.not_preserved:
            told["not_preserved"] = list(self.not_preserved)
        return json.dumps(told) + "\n"


@dataclass(frozen=True, slots=True)
class BatchError:
    """One failed key in short: the guide's ``error.key`` and ``error.message``."""

    key: str
    message: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many keys ended how."""

    done: int = 0
    skipped: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All that ended."""
        return self.done + self.skipped + self.failed

    def plus(self, outcomes: Iterable[KeyOutcome]) -> Counts:
        """With these, too."""
        ended = Counter(outcome.outcome for outcome in outcomes)
        return Counts(
            self.done + ended[Outcome.DONE], self.skipped + ended[Outcome.SKIPPED], self.failed + ended[Outcome.FAILED]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """A batch that has ended. ``total`` keys of the source were looked at, each exactly once: ``successful`` (of which
    ``skipped`` needed nothing) and ``failed``.

    ``errors``: the first 20 failed keys. ``results``: the first 1,000 outcomes of this try; all of them, of all tries,
    are lines of ``report`` (a path or address; None when none was asked for). ``complete`` is False when ``fail_fast``
    stopped it. ``resumed``: an earlier try's work was used. ``requests``: those of this try. ``duration``: seconds of
    this try.
    """

    total: int
    successful: int
    failed: int
    skipped: int
    duration: float
    errors: tuple[BatchError, ...] = ()
    results: tuple[KeyOutcome, ...] = field(default=(), repr=False)
    report: str | None = None
    complete: bool = True
    resumed: bool = False
    requests: int = 0

    def summary(self) -> Mapping[str, Any]:
        """As JSON values, small enough for an XCom."""
        return {
            "total": self.total,
            "successful": self.successful,
            "failed": self.failed,
            "skipped": self.skipped,
            "duration": round(self.duration, 3),
            "errors": [{"key": error.key, "message": error.message, "code": error.code} for error in self.errors],
            "report": self.report,
            "complete": self.complete,
            "resumed": self.resumed,
        }
