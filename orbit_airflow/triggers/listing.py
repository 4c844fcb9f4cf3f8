"""One listing for all watchers of a prefix: looks, page by page, and the news of when their events are safe."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from orbit_airflow.engine.errors import ConfigError, OrbitError, printable
from orbit_airflow.engine.model import KeyPrefix, ObjectRef
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.versioning import ListedVersion
from orbit_airflow.engine.watching import ListingPage
from orbit_airflow.hooks.access import Access
from orbit_airflow.triggers.pace import Pace

if TYPE_CHECKING:
    from orbit_airflow.engine.facade import TransferEngine

log = logging.getLogger(__name__)

PAGE = 1000
# So many pages may wait for slow watchers; then the listing waits for them.
MAX_WAITING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is listed, how often, and through which connection. Equal ones share one listing."""

    access: Access
    bucket: str
    key: str | None
    prefix: str
    poll_interval: float
    max_versions: int

    @property
    def identity(self) -> tuple[object, ...]:
        """For comparison, as a hashable."""
        return (self.access.identity, self.bucket, self.key, self.prefix, self.poll_interval, self.max_versions)

    @property
    def uri(self) -> str:
        """For people."""
        return f"s3://{self.bucket}/{self.key or self.prefix}"


@dataclass(frozen=True, slots=True)
class Settled:
    """All events of a whole look are in Airflow's database (``safe``), or some watcher failed on the way."""

    safe: bool


class SharedListing(SharedStreamProducer):
    """Looks for ever. Never ends with an error: the triggerer would start its watchers anew at once, and again."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._engine: TransferEngine | None = None
        self._cancel = Cancellation()
        self._pace = Pace(interval=watched.poll_interval)
        self._rng = random.Random()  # noqa: S311 - jitter
        self._waiting = 0
        self._safe = True
        self._changed = asyncio.Event()

    async def open_stream(self) -> AsyncIterator[tuple[ListingPage | Settled, None]]:
        """The pages of one look, its Settled, a pause, and so on."""
        failures = 0
        while True:
            self._safe = True
            try:
                async for page in self._look():
                    await self._wait_until(MAX_WAITING - 1)
                    self._waiting += 1
                    yield page, None
            except Exception as exc:  # noqa: BLE001 - see the class: whatever it is, the watch goes on
                failures += 1
                pause = self._pace.after_failures(failures, self._rng)
                self._complain(exc, pause)
                await self._reopen()
            else:
                await self._wait_until(0)
                self._waiting += 1
                yield Settled(self._safe), None
                failures, pause = 0, self._pace.after(1, self._rng)
            await asyncio.sleep(pause)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Airflow says that every watcher has done with these, and that their events are stored."""
        for item in batch:
            self.resolve(safe=item.outcome.is_clean)

    def resolve(self, *, safe: bool) -> None:
        """One of the items that were given out is done with."""
        self._waiting -= 1
        self._safe = self._safe and safe
        self._changed.set()

    async def aclose(self) -> None:
        """End what still runs on a thread."""
        self._cancel.cancel("the watch has ended")
        await self._reopen()

    async def _wait_until(self, left: int) -> None:
        """Until at most so many items are not done with."""
        while self._waiting > left:
            self._changed.clear()
            await self._changed.wait()

    async def _look(self) -> AsyncIterator[ListingPage]:
        entries = await asyncio.to_thread(self._list)
        count, first, last = 0, True, False
        while not last:
            versions = await asyncio.to_thread(_next_page, entries)
            last = len(versions) < PAGE
            count += len(versions)
            if count > self._watched.max_versions:
                raise ConfigError(
                    f"{self._watched.uri} has more than max_versions={self._watched.max_versions} versions and delete "
                    "markers: watch a longer prefix, let a lifecycle rule expire old versions, or use the bucket's "
                    "event notifications; until then this watch reports nothing"
                )
            yield ListingPage(versions=versions, first=first, last=last)
            first = False

    def _list(self) -> Iterator[ListedVersion]:
        """On a thread; nothing is asked of the store before the first entry is taken."""
        if self._engine is None:
            self._engine = self._watched.access.open_engine()
        versions = self._engine.versions
        if self._watched.key is not None:
            return versions.iter_object_versions(
                ObjectRef(self._watched.bucket, self._watched.key), cancel=self._cancel
            )
        return versions.iter_versions(KeyPrefix(self._watched.bucket, self._watched.prefix), cancel=self._cancel)

    async def _reopen(self) -> None:
        """The next look has a new engine, with fresh credentials."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    def _complain(self, error: Exception, pause: float) -> None:
        hopeless = not (isinstance(error, OrbitError) and error.is_retryable)
        text = printable(f"{type(error).__name__}: {error}", 600)
        log.log(
            logging.ERROR if hopeless else logging.WARNING,
            "the watch over %s could not look, it tries again in %.0f s: %s",
            printable(self._watched.uri),
            pause,
            text,
        )


def _next_page(entries: Iterator[ListedVersion]) -> tuple[ListedVersion, ...]:
    return tuple(islice(entries, PAGE))
