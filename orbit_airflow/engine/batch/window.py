"""The open pages of a batch, from the source to the report: in order, few at a time, and each key in one of them.

Workers take units (a page of deletes, or one key) from here and give their outcomes back. A page whose keys have all
ended waits until those before it have: then its lines go to the report, and the cursor moves behind it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from orbit_airflow.engine.batch.report import Report
from orbit_airflow.engine.batch.result import MAX_ERRORS, MAX_RESULTS, BatchError, KeyOutcome
from orbit_airflow.engine.batch.token import BatchLedger, BatchToken, OpenPage
from orbit_airflow.engine.keys import KeyEntry, KeyPage
from orbit_airflow.engine.runner import LOOK_SECONDS


@dataclass(slots=True)
class Page:
    """A page that was begun; ``again``: a killed try may have worked on it."""

    number: int
    cursor: str
    entries: tuple[KeyEntry, ...]
    again: bool
    left: int = 0
    outcomes: dict[int, list[KeyOutcome]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """True when each of its units has ended."""
        return not self.left

    def in_order(self) -> list[KeyOutcome]:
        """The outcomes so far, in the order of the source."""
        return [outcome for _, group in sorted(self.outcomes.items()) for outcome in group]


@dataclass(frozen=True, slots=True)
class Unit:
    """What one worker does at once: a part of a page."""

    page: Page
    index: int
    entries: tuple[KeyEntry, ...]


class Window:
    """At most ``most`` open pages. Thread-safe; ``check`` raises on a stop order."""

    def __init__(
        self, pages: Iterator[Page], *, most: int, unit: int, token: BatchToken, ledger: BatchLedger, report: Report,
        note: bool, check: Callable[[], None], within: Callable[[str | None, str], bool],
    ) -> None:  # fmt: skip
        self._pages = pages
        self._most = most
        self._unit = unit
        self._ledger = ledger
        self._report = report
        self._note = note
        self._check = check
        self._within = within
        # What earlier tries may have touched and this one has not opened yet stays in the saved window.
        self._touched = token.window
        self._changed = threading.Condition()
        self._saving = threading.Lock()
        self._units: deque[Unit] = deque()
        self._open: deque[Page] = deque()
        self._opening = False
        self._exhausted = False
        self._stopped = False
        self.token = token
        self.results: list[KeyOutcome] = []
        self.counts = token.counts
        self.seen = token.counts.total

    def next(self) -> Unit | None:
        """The next unit; None when there are no more, or after ``stop``. May read the source, and save the cursor."""
        while True:
            with self._changed:
                if self._stopped:
                    return None
                if self._units:
                    return self._units.popleft()
                if self._exhausted and not self._opening:
                    return None
                if self._opening or len(self._open) >= self._most:
                    self._changed.wait(LOOK_SECONDS)
                    self._check()
                    continue
                self._opening = True
            try:
                self._begin()
            finally:
                with self._changed:
                    self._opening = False
                    self._changed.notify_all()

    def _begin(self) -> None:
        """Open a page: first it is noted and in the saved window, then its keys may be touched."""
        page = next(self._pages, None)
        if page is None:
            self._exhausted = True
            self._save()
            return
        if self._note and page.entries:
            # Also one that is worked on again: it need not be the page that an earlier try noted under its number.
            self._report.begin(page.number, page.entries)
        step = self._unit
        units = [Unit(page, at, page.entries[at : at + step]) for at in range(0, len(page.entries), step)]
        page.left = len(units)
        with self._changed:
            self._open.append(page)
            self._touched = self._still_touched(page)
            self.seen += len(page.entries)
        if units:
            self._save()
        else:
            self._commit()
        with self._changed:
            self._units.extend(units)

    def _still_touched(self, page: Page) -> tuple[OpenPage, ...]:
        """Of what earlier tries may have touched, that which lies behind ``page``; less its keys, where a page of now
        ends within one of then (a prefix whose keys are gone).
        """
        left = [old for old in self._touched if self._within(page.cursor, old.cursor)]
        if left and len(left) == len(self._touched):
            left[0] = OpenPage(left[0].cursor, max(0, left[0].count - len(page.entries)))
        return tuple(left)

    def end(self, unit: Unit, outcomes: list[KeyOutcome]) -> None:
        """A unit's keys have ended."""
        with self._changed:
            unit.page.outcomes[unit.index] = outcomes
            unit.page.left -= 1
            self.counts = self.counts.plus(outcomes)
            # A key that its page names twice has ended once.
            self.seen -= len(unit.entries) - len(outcomes)
            finished = unit.page.finished
        if finished:
            self._commit()
            if self._exhausted:
                self._save()

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._stopped = True

    @property
    def stopped(self) -> bool:
        """True behind ``stop``."""
        return self._stopped

    def errors(self) -> tuple[BatchError, ...]:
        """The first failed keys, also of pages that have not ended."""
        late = (error_of(outcome) for page in self._open for outcome in page.in_order() if not outcome.ok)
        return (*self.token.errors, *late)[:MAX_ERRORS]

    def settle(self) -> None:
        """Write what has ended of pages that have not (behind a ``stop``); the cursor stays before them."""
        with self._saving:
            for page in self._open:
                self._keep(page.number, page.in_order())

    def finish(self) -> None:
        """Everything has ended: nothing is left to do for another try."""
        with self._changed:
            self.token = replace(self.token, done=True)
        self._save()

    def _commit(self) -> None:
        """The finished pages at the head, to the report, and the cursor behind them."""
        with self._saving:
            while True:
                with self._changed:
                    if not self._open or not self._open[0].finished:
                        return
                    page = self._open[0]
                outcomes = page.in_order()
                size = self._keep(page.number, outcomes)
                with self._changed:
                    self._open.popleft()
                    self.token = self._behind(page, outcomes, size)
                    self._changed.notify_all()

    def _keep(self, number: int, outcomes: Sequence[KeyOutcome]) -> int:
        self.results += outcomes[: MAX_RESULTS - len(self.results)]
        return self._report.finish(number, outcomes) if outcomes else self.token.report_size

    def _behind(self, page: Page, outcomes: Sequence[KeyOutcome], size: int) -> BatchToken:
        token = self.token
        counts = token.counts.plus(outcomes)
        errors = token.errors + tuple(error_of(outcome) for outcome in outcomes if not outcome.ok)
        return replace(
            token, position=page.cursor, pages=page.number, counts=counts, errors=errors[:MAX_ERRORS], report_size=size
        )

    def _save(self) -> None:
        with self._saving:
            with self._changed:
                opened = tuple(OpenPage(page.cursor, len(page.entries)) for page in self._open)
                self.token = replace(self.token, window=opened + self._touched)
                token = self.token
            self._ledger.save(token)


def error_of(outcome: KeyOutcome) -> BatchError:
    """A failed key in short."""
    return BatchError(outcome.key, outcome.message or "", outcome.code)


def pages_of(
    resumed: Sequence[Page], source: Iterator[KeyPage], number: int, again: Callable[[str | None], bool],
    start: str | None,
) -> Iterator[Page]:  # fmt: skip
    """The noted pages of a killed try, then those of the source, numbered."""
    for page in resumed:
        number += 1
        start = page.cursor
        yield page
    for page_of_keys in source:
        number += 1
        yield Page(number, page_of_keys.cursor, page_of_keys.entries, again(start))
        start = page_of_keys.cursor
