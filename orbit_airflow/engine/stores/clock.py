"""The store's time. A worker whose clock is wrong signs with the store's, learnt once from an answer's Date header."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

log = logging.getLogger(__name__)
# S3 refuses from 15 minutes on; a HEAD's refusal has no code, so a plain 403 counts only beyond this.
TELLING = timedelta(minutes=10)
_SKEWED = "RequestTimeTooSkewed"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class StoreClock:
    """A worker's clock, put right by at most one answer. Thread-safe."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._learnt = False
        self.offset = timedelta(0)

    def now(self) -> datetime:
        """The store's time as far as it is known, in UTC: what signatures carry."""
        return self._now() + self.offset

    def corrected_by(self, answer: Mapping[str, Any], used: timedelta) -> bool:
        """Whether the request that ``answer`` refuses, signed with the offset ``used``, should be signed again."""
        if not self._about_time(answer, used):
            return False
        with self._lock:
            if self.offset != used:
                # Another thread's answer was faster.
                return True
            theirs = _date_of(answer)
            if self._learnt or theirs is None:
                return False
            self._learnt = True
            self.offset = theirs - self._now()
        log.warning(
            "the store's clock is %+.0f s from this worker's; signing with its time", self.offset.total_seconds()
        )
        return True

    def times(self, answer: Mapping[str, Any]) -> str:
        """Both clocks, for people."""
        theirs = _date_of(answer)
        return f"this worker's clock says {_shown(self._now())}, the store's {_shown(theirs) if theirs else 'nothing'}"

    def _about_time(self, answer: Mapping[str, Any], used: timedelta) -> bool:
        code = str(answer.get("Error", {}).get("Code", ""))
        if code == _SKEWED:
            return True
        theirs = _date_of(answer) if code in ("403", "Forbidden") else None
        return theirs is not None and abs(theirs - (self._now() + used)) > TELLING


def is_skewed(answer: Mapping[str, Any]) -> bool:
    """Whether the store said that the clocks differ."""
    return bool(answer.get("Error", {}).get("Code") == _SKEWED)


def _date_of(answer: Mapping[str, Any]) -> datetime | None:
    try:
        date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, TypeError, ValueError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
