"""One batch, from its first key to its last, over as many tries as it takes.

How nothing is done twice, and nothing forgotten, is told in ``token``; who is to blame for a failure, in ``judge``; how
fast it goes, in ``resilience.pace``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from orbit_airflow.engine.batch.config import BatchConfig
from orbit_airflow.engine.batch.guards import check_guards
from orbit_airflow.engine.batch.judge import Judge, about_all
from orbit_airflow.engine.batch.report import Report
from orbit_airflow.engine.batch.result import BatchResult, KeyOutcome
from orbit_airflow.engine.batch.tag_notes import TagNotes
from orbit_airflow.engine.batch.token import MAX_WINDOW, BatchLedger, BatchToken, OpenPage, batch_target
from orbit_airflow.engine.batch.window import Page, Unit, Window, pages_of
from orbit_airflow.engine.batch.work import AboutAll, BatchWork, Hands, Unfinished, Worker
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import OrbitError, Paused
from orbit_airflow.engine.events import BatchProgress
from orbit_airflow.engine.keys import KeySource
from orbit_airflow.engine.model import KeyPrefix, ObjectRef
from orbit_airflow.engine.resilience.pace import Pace
from orbit_airflow.engine.runner import run_all
from orbit_airflow.engine.token import TokenStore

PROGRESS_SECONDS = 0.5
# How often the same unit is done again when the store turned out to be at fault.
MAX_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """One batch's fixed things. ``call`` is unpaced, for the source and for asking; ``paced`` is for the work."""

    work: BatchWork
    source: KeySource
    config: BatchConfig
    call: Call
    paced: Call
    pace: Pace
    report: Report
    tokens: TokenStore
    ask: Callable[[ObjectRef], object]
    clock: Callable[[], float] = time.monotonic


class BatchFlow:
    """Runs one job once."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job
        self._started = job.clock()
        self._told = float("-inf")
        self._telling = threading.Lock()

    def run(self) -> BatchResult:
        """The whole batch, or what is left of it. Raises what is about the batch and not about a key: no such bucket,
        expired credentials, a guard, an outage beyond the patience, a stop order. The next try continues then.
        """
        job = self._job
        identity = job.source.identity(job.call)
        target = batch_target(job.work.verb, job.work.words(), job.config.page_keys)
        ledger = BatchLedger(job.tokens, target, identity, f"{job.call.rng.getrandbits(64):016x}")
        token, complaint = ledger.load()
        if complaint is not None:
            job.call.notice(f"an earlier try's state is not used: {complaint}")
        if token.done:
            job.call.notice("an earlier try has done all of this batch")
            return self._result(token, None, complete=True, resumed=True)
        resumed = token.pages > 0 or bool(token.window)
        if not resumed:
            check_guards(job.call, job.work, job.source, job.config)
        for warning in job.work.warnings():
            job.call.notice(warning)
        if not job.report.open(token.run, token.report_size, fresh=not resumed):
            job.call.notice("the report of the earlier tries is not all there; it lacks the keys of before")
        noted = self._noted(token)
        window = self._window(self._settled(token, noted), noted, ledger)
        complete = False
        try:
            self._work(window, job.work.worker(self._hands()))
            complete = not window.stopped
            self._close(window, complete=complete)
        finally:
            job.report.close(done=complete)
        return self._result(window.token, window, complete=complete, resumed=resumed)

    def _hands(self) -> Hands:
        job = self._job
        return Hands(
            call=job.paced,
            policy=job.config.policy,
            tokens=job.tokens,
            untimed=lambda: job.pace.until(None),
            pace=job.pace,
            notes=TagNotes(job.tokens),
            pinned=job.source.stable,
        )

    def _settled(self, token: BatchToken, noted: list[Page]) -> BatchToken:
        """Where a killed try's deletes can neither be named again nor were noted: what is gone of its window counts."""
        job = self._job
        if not token.window or noted or job.source.stable or not job.work.removes:
            return token
        last, there = token.window[-1].cursor, 0
        for page in job.source.pages(job.call, after=token.position, most=job.config.page_keys):
            there += sum(not job.source.within(last, entry.key) for entry in page.entries)
            if not job.source.within(page.cursor, last):
                break
        gone = max(0, sum(page.count for page in token.window) - there)
        if gone:
            job.call.notice(f"{gone} keys were deleted by an earlier try; their names are not known any more")
        return replace(
            token, counts=replace(token.counts, done=token.counts.done + gone), window=(OpenPage(last, there),)
        )

    def _window(self, token: BatchToken, noted: list[Page], ledger: BatchLedger) -> Window:
        job = self._job
        start = noted[-1].cursor if noted else token.position
        last = token.window[-1].cursor if token.window else None

        def again(behind: str | None) -> bool:
            return last is not None and job.source.within(behind, last)

        source = job.source.pages(job.call, after=start, most=job.config.page_keys)
        return Window(
            pages_of(noted, source, token.pages, again, start),
            most=max(1, min(job.config.max_concurrent, MAX_WINDOW)),
            unit=job.config.page_keys if job.work.whole_pages else 1,
            token=replace(token, report=job.report.place),
            within=job.source.within,
            ledger=ledger,
            report=job.report,
            note=job.work.removes and not job.source.stable and job.report.place is not None,
            check=job.call.cancel.check,
        )

    def _noted(self, token: BatchToken) -> list[Page]:
        """The pages that a killed try had begun, as it noted them."""
        job, pages = self._job, list[Page]()
        if job.source.stable or not job.work.removes:
            return pages
        for number, opened in enumerate(token.window, token.pages + 1):
            # A page without keys has no note: whatever lies at its place is not its own.
            entries = job.report.begun(number, opened.count) if opened.count else ()
            if entries is None:
                return []
            pages.append(Page(number, opened.cursor, entries, again=True))
        return pages

    def _work(self, window: Window, worker: Worker) -> None:
        job = self._job
        judge = Judge(job.call, KeyPrefix(job.work.bucket).probe, job.ask)

        def work_on(index: int, item: int) -> None:
            del index, item
            try:
                while (unit := window.next()) is not None:
                    outcomes = self._done(worker, judge, unit)
                    window.end(unit, outcomes)
                    if job.config.fail_fast and not all(outcome.ok for outcome in outcomes):
                        window.stop()
                    self._tell(window)
            except BaseException:
                # The others end behind what they are at.
                window.stop()
                raise

        workers = job.config.max_concurrent
        run_all(range(workers), work_on, workers=workers, cancel=job.call.cancel, name="orbit-batch")

    def _done(self, worker: Worker, judge: Judge, unit: Unit) -> list[KeyOutcome]:
        """A unit's outcomes, whatever happens to its requests."""
        job, again, left = self._job, unit.page.again, unit.entries
        ended: list[KeyOutcome] = []
        for rounds in range(1, MAX_ROUNDS + 1):
            began = job.clock()
            job.pace.until(began + job.config.operation_timeout)
            error: OrbitError
            try:
                return _in_order(unit, [*ended, *worker.do(left, again=again)])
            except Unfinished as exc:
                error, left = exc.error, exc.left
                ended += exc.ended
            except AboutAll as exc:
                raise exc.error from exc
            except Paused:
                raise
            except OrbitError as exc:
                error = exc
            finally:
                job.pace.until(None)
            if about_all(error):
                raise error
            if rounds == MAX_ROUNDS or not judge.again(error, began):
                return _in_order(unit, [*ended, *(KeyOutcome.failed(entry, error) for entry in dict.fromkeys(left))])
            again = True
        raise AssertionError("the last round returns or raises")  # pragma: no cover

    def _close(self, window: Window, *, complete: bool) -> None:
        if not complete:
            window.settle()
            return
        window.finish()
        self._tell(window, final=True)

    def _tell(self, window: Window, *, final: bool = False) -> None:
        now = self._job.clock()
        with self._telling:
            if not final and now - self._told < PROGRESS_SECONDS:
                return
            self._told = now
        counts, total = window.counts, self._job.source.total
        self._job.call.reporter(
            BatchProgress(
                completed=counts.total,
                total=max(total or 0, window.seen),
                succeeded=counts.done + counts.skipped,
                failed=counts.failed,
                more=total is None and not final,
            )
        )

    def _result(self, token: BatchToken, window: Window | None, *, complete: bool, resumed: bool) -> BatchResult:
        counts = token.counts if window is None else window.counts
        errors = token.errors if window is None else window.errors()
        return BatchResult(
            total=counts.total,
            successful=counts.done + counts.skipped,
            failed=counts.failed,
            skipped=counts.skipped,
            duration=self._job.clock() - self._started,
            errors=errors,
            results=() if window is None else tuple(window.results),
            report=token.report,
            complete=complete,
            resumed=resumed,
            requests=self._job.pace.requests,
        )


def _in_order(unit: Unit, outcomes: list[KeyOutcome]) -> list[KeyOutcome]:
    """As the source names them."""
    places = {(entry.key, entry.version_id): place for place, entry in enumerate(unit.entries)}
    return sorted(outcomes, key=lambda outcome: places[outcome.key, outcome.version_id])
