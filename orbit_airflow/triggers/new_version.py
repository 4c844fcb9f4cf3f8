"""OrbitS3NewVersionTrigger: an asset event for each new version of a key, or of any key under a prefix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import KeyPrefix
from orbit_airflow.engine.sensing import told
from orbit_airflow.engine.versioning import ListedVersion
from orbit_airflow.engine.watching import PrefixWatch
from orbit_airflow.hooks.access import Access

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

    from orbit_airflow.triggers.listing import SharedListing, Watched

MAX_VERSIONS = 100_000
_MOST_VERSIONS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersionWatch:
    """All parameters of the trigger; what it is stored as. No secret is among them."""

    bucket_name: str
    bucket_key: str | None = None
    prefix: str | None = None
    key_pattern: str | None = None
    delete_markers: bool = False
    poll_interval: float = 60.0
    max_versions: int = MAX_VERSIONS
    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    verify: bool | str | None = None
    botocore_config: Mapping[str, Any] | None = None

    @property
    def access(self) -> Access:
        """The way to the store. ConfigError for a secret in ``botocore_config``."""
        return Access(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )

    @property
    def state_name(self) -> str:
        """Where the watermark is kept. Another connection, place or filter is another watch."""
        words = [
            self.aws_conn_id, self.region_name, self.bucket_name, self.bucket_key, self.prefix, self.key_pattern,
            self.delete_markers,
        ]  # fmt: skip
        return "orbit:watch:" + hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]

    def check(self) -> None:
        """ConfigError for what means nothing."""
        if self.bucket_key is not None and self.prefix is not None:
            raise ConfigError("give bucket_key or prefix, not both")
        KeyPrefix(self.bucket_name, self.bucket_key or self.prefix or "")
        if self.bucket_key == "":
            raise ConfigError("bucket_key is a key; for all keys of the bucket give neither it nor a prefix")
        if isinstance(self.max_versions, bool) or not 1 <= self.max_versions <= _MOST_VERSIONS:
            raise ConfigError(f"max_versions is 1 to {_MOST_VERSIONS}, got {self.max_versions!r}")
        if not self.poll_interval > 0:
            raise ConfigError(f"poll_interval is a number of seconds above 0, got {self.poll_interval!r}")
        _ = self.access

    def wants(self, item: ListedVersion) -> bool:
        """Whether this entry is one to tell of."""
        if item.delete_marker and not self.delete_markers:
            return False
        return self.key_pattern is None or fnmatchcase(item.key, self.key_pattern)


class OrbitS3NewVersionTrigger(BaseEventTrigger):
    """For an AssetWatcher: fires once for each version that a key, or any key under a prefix, gets.

    It lists the versions every ``poll_interval`` seconds, and what the listing before did not have is new. What was
    listed is remembered in the asset's state store when Airflow has stored the events, so a triggerer that restarts
    goes on where it was: no version is missed that is still there at the next look, and one is told of twice only when
    the triggerer dies between the storing of its event and that of the watermark, some seconds (at least once). What is
    there when the watch begins is not told of. Watchers of one prefix, connection and interval share one listing.

    Memory and state grow with the number of versions under the prefix, so that has a limit; beyond it, or while the
    store is not well or refuses, the watch reports nothing, says so in the triggerer's log, and tries again after
    growing pauses of up to five minutes.

    The event's payload: ``uri``, ``bucket``, ``key``, ``version_id``, ``size``, ``etag``, ``last_modified``,
    ``delete_marker`` and ``is_latest`` (whether it was the newest one when it was seen).

    :param bucket_name: the bucket; without versioning, each overwrite that a look sees is a new version "null".
    :param bucket_key: this key alone. Not together with prefix.
    :param prefix: all keys that begin with it; without both, all keys of the bucket.
    :param key_pattern: only keys that match, as a file name pattern (``*`` also matches ``/``).
    :param delete_markers: whether delete markers are told of, too.
    :param poll_interval: seconds between two listings, at least 1.
    :param max_versions: how many versions and delete markers there may be, up to 1,000,000. Each costs some 165 bytes
        of the triggerer's memory during a look, and 8 of the state store; a listing is one request for 1,000 of them.
    :param aws_conn_id: the ``aws`` connection; None for boto3's own credential chain.
    :param region_name: the region; None leaves it to the connection.
    :param verify: whether, or with which CA file, TLS certificates are verified.
    :param botocore_config: botocore's client settings; they replace those of the connection.
    """

    def __init__(
        self,
        *,
        bucket_name: str,
        bucket_key: str | None = None,
        prefix: str | None = None,
        key_pattern: str | None = None,
        delete_markers: bool = False,
        poll_interval: float = 60.0,
        max_versions: int = MAX_VERSIONS,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parameters = NewVersionWatch(
            bucket_name=bucket_name,
            bucket_key=bucket_key,
            prefix=prefix,
            key_pattern=key_pattern,
            delete_markers=delete_markers,
            poll_interval=poll_interval,
            max_versions=max_versions,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
        )
        try:
            self.parameters.check()
        except ConfigError as exc:
            # The one error of a constructor that does not end the whole triggerer.
            raise TypeError(exc.message) from exc
        self._own: SharedListing | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path, and the parameters as they were given."""
        kwargs = {item.name: getattr(self.parameters, item.name) for item in fields(NewVersionWatch)}
        return "orbit_airflow.triggers.new_version.OrbitS3NewVersionTrigger", kwargs

    def shared_stream_key(self) -> Hashable | None:
        """Equal for all watchers that may share a listing."""
        return ("orbit_airflow", *self._watched().identity)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """The listing that these watchers share. Airflow tells it when the events of a look are stored."""
        from orbit_airflow.triggers.listing import SharedListing

        return SharedListing(cls(**kwargs)._watched())

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """What this watcher tells of; it writes its watermark whenever the events of a whole look are safe."""
        from orbit_airflow.triggers.listing import Settled
        from orbit_airflow.triggers.watermark import Watermark

        watermark = Watermark(self.asset_state_store, self.parameters.state_name, self.log)
        watch = PrefixWatch(await watermark.load())
        async for item in shared_stream:
            if isinstance(item, Settled):
                if item.safe:
                    await watermark.save(watch.known)
                continue
            for version in watch.take(item):
                if self.parameters.wants(version):
                    yield TriggerEvent(told(self.parameters.bucket_name, version))  # type: ignore[no-untyped-call]
            if item.last:
                watch.finish()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The same with a listing of its own, where nobody shares one: whoever takes the next event has stored this."""
        async for event in self.filter_shared_stream(self._alone()):
            yield event

    async def cleanup(self) -> None:
        """End a listing of its own; a shared one is its group's."""
        if self._own is not None:
            await self._own.aclose()

    async def _alone(self) -> AsyncIterator[Any]:
        from orbit_airflow.triggers.listing import SharedListing

        self._own = SharedListing(self._watched())
        async for item, _ in self._own.open_stream():
            yield item
            self._own.resolve(safe=True)

    def _watched(self) -> Watched:
        from orbit_airflow.triggers.listing import Watched

        return Watched(
            access=self.parameters.access,
            bucket=self.parameters.bucket_name,
            key=self.parameters.bucket_key,
            prefix=self.parameters.prefix or "",
            poll_interval=self.parameters.poll_interval,
            max_versions=self.parameters.max_versions,
        )
