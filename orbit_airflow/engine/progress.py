"""How events reach their readers: each at its own pace, and none of them able to slow or break a transfer.

A worker that reports an event only puts it into a bounded queue. The readers are on the other side of it: a program
that takes events from a channel, or a callable on a thread of its own.
"""

from __future__ import annotations

import contextvars
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.events import (
    BatchProgress,
    GuardedReporter,
    Notice,
    Progress,
    Reporter,
    Retrying,
    TransferEvent,
    no_reporter,
)

logger = logging.getLogger(__name__)

# Several minutes of one transfer's figures; a reader that is further behind wants the newest ones.
MAX_WAITING = 256
# How long the end of a transfer waits for a callable that is still busy with earlier events.
GRACE_SECONDS = 1.0
# What may be lost, first to last: a newer figure says all that an older one said. Starts and ends are never lost.
_DROPPABLE: tuple[tuple[type[TransferEvent], ...], ...] = ((Progress, BatchProgress), (Retrying, Notice))


class _Channel:
    """A queue between threads whose writers never wait for anything but its lock."""

    def __init__(self, maxsize: int) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 1:
            raise ConfigError(f"maxsize is a whole number of events, 1 or more, got {maxsize!r}")
        self._maxsize = maxsize
        self._events: deque[TransferEvent] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, event: TransferEvent) -> None:
        with self._changed:
            if self._closed:
                return
            self._events.append(event)
            while len(self._events) > self._maxsize and self._drop_one():
                self.dropped += 1
            self._changed.notify()

    def _drop_one(self) -> bool:
        for kinds in _DROPPABLE:
            for index, event in enumerate(self._events):
                if isinstance(event, kinds):
                    del self._events[index]
                    return True
        return False

    def get(self, timeout: float | None) -> TransferEvent | None:
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._events) or self._closed, timeout):
                raise TimeoutError(f"no event within {timeout} s")
            return self._events.popleft() if self._events else None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class ProgressReceiver:
    """The reading end of a channel: iterate over it, or ask it. Threads that share it get each event once."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    @property
    def dropped(self) -> int:
        """How many events were given up because nobody read them in time."""
        return self._channel.dropped

    def recv(self, timeout: float | None = None) -> TransferEvent | None:
        """The next event, waiting for it; None when the channel is closed and empty.

        Raises TimeoutError when nothing comes within ``timeout`` seconds (0: do not wait; None: wait for ever).
        """
        return self._channel.get(timeout)

    def __iter__(self) -> Iterator[TransferEvent]:
        """All events, until the channel is closed."""
        while (event := self.recv()) is not None:
            yield event


class ProgressReporter:
    """The writing end of a channel: a Reporter that never blocks and never raises, for as many transfers as you like.

    Whoever made the channel closes it, by ``close`` or ``with``; what is reported to a closed one is ignored.
    """

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    @classmethod
    def channel(cls, maxsize: int = MAX_WAITING) -> tuple[ProgressReporter, ProgressReceiver]:
        """Both ends of a new channel, which keeps ``maxsize`` events for a slow reader.

        When there are more, the oldest figures are dropped (then retries and notices), but never a TransferStarted,
        TransferCompleted or TransferFailed: those may exceed ``maxsize``, by two per transfer. Raises ConfigError for a
        ``maxsize`` below 1.
        """
        ends = _Channel(maxsize)
        return cls(ends), ProgressReceiver(ends)

    def report(self, event: TransferEvent, /) -> None:
        """Take one event, from any thread."""
        self._channel.put(event)

    __call__ = report

    def close(self) -> None:
        """No event comes any more: the receiver ends when it has read what is there."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DetachedReporter:
    """A callable on a thread of its own, which starts with the first event and runs in its maker's context.

    It may block: then figures are dropped as in a channel, and whoever reports does not notice. It may raise: that is
    logged once, and it is given the next event all the same.
    """

    def __init__(self, reporter: Reporter, maxsize: int = MAX_WAITING) -> None:
        self._reporter = GuardedReporter(reporter)
        self._channel = _Channel(maxsize)
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self, event: TransferEvent, /) -> None:
        """Take one event, from any thread."""
        if self._thread is None:
            self._start()
        self._channel.put(event)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(
                target=self._context.run, args=(self._deliver,), name="orbit-progress", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                logger.warning("there is no thread left for the progress reporter; the transfer goes on without it")
                self._channel.close()
            self._thread = thread

    def _deliver(self) -> None:
        while (event := self._channel.get(None)) is not None:
            self._reporter(event)

    def close(self, timeout: float = GRACE_SECONDS) -> bool:
        """Take no more events, and wait until those that wait are delivered: False when ``timeout`` seconds were not
        enough. Then the thread, a daemon, goes on with them as long as the process lives.
        """
        self._channel.close()
        thread = self._thread
        if thread is None or thread is threading.current_thread() or thread.ident is None:
            return True
        thread.join(max(0.0, timeout))
        return not thread.is_alive()


class ProgressAggregator:
    """One Reporter that tells many: each gets every event, and a slow or broken one hurts none of the others.

    Channels and other aggregators are told directly; every other callable gets a thread, which ``close`` (or ``with``)
    ends. Channels are left to those who made them.
    """

    def __init__(self, reporters: Iterable[Reporter] = ()) -> None:
        self._lock = threading.Lock()
        self._reporters: tuple[Reporter, ...] = ()
        for reporter in reporters:
            self.add_reporter(reporter)

    def add_reporter(self, reporter: Reporter) -> None:
        """Tell this one, too, from the next event on."""
        harmless = reporter if never_blocks(reporter) else DetachedReporter(reporter)
        with self._lock:
            self._reporters = (*self._reporters, harmless)

    def report(self, event: TransferEvent, /) -> None:
        """Tell everybody, without waiting for anybody. Any thread may call."""
        for reporter in self._reporters:
            reporter(event)

    __call__ = report

    def close(self, timeout: float = GRACE_SECONDS) -> bool:
        """End the threads that were started here; False when one was still busy after ``timeout`` seconds in all."""
        deadline = time.monotonic() + timeout
        own = [reporter for reporter in self._reporters if isinstance(reporter, DetachedReporter)]
        for reporter in own:
            reporter.close(0)
        ended = [reporter.close(deadline - time.monotonic()) for reporter in own]
        return all(ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def never_blocks(reporter: Reporter) -> bool:
    """True for reporters that are known to return at once; all others are kept away from a transfer's threads."""
    return reporter is no_reporter or isinstance(reporter, ProgressReporter | ProgressAggregator | DetachedReporter)


class OperationReporter:
    """One transfer's way to its reporter: gives its events their operation id, and keeps the transfer safe.

    At the end of the ``with`` block everything has been told, or GRACE_SECONDS have passed.
    """

    def __init__(self, reporter: Reporter, operation_id: str | None = None) -> None:
        self.operation_id = operation_id or secrets.token_hex(8)
        self._own = None if never_blocks(reporter) else DetachedReporter(reporter)
        self._reporter: Reporter = self._own or reporter

    def __call__(self, event: TransferEvent, /) -> None:
        """Pass the event on, from any thread."""
        if self._reporter is not no_reporter:
            self._reporter(event if event.operation_id else replace(event, operation_id=self.operation_id))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None and not self._own.close():
            logger.warning("the progress reporter is busy with earlier events; the transfer does not wait for it")


@contextmanager
def reporting_to(reporter: Reporter, on_progress: Reporter | None) -> Iterator[Reporter]:
    """A reporter that tells both; ``on_progress`` may be None. At the end both have been told, or GRACE_SECONDS have
    passed.
    """
    if on_progress is None:
        yield reporter
        return
    if reporter is no_reporter:
        yield on_progress
        return
    with ProgressAggregator((reporter, on_progress)) as both:
        yield both
