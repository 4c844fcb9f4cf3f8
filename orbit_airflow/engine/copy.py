"""A copy inside the store: pinned to one version of its source, and compared with it afterwards.

One CopyObject up to what it can carry, parts above that (``copy_parts``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.copy_job import CopyJob
from orbit_airflow.engine.copy_parts import PartsCopy
from orbit_airflow.engine.copy_plan import STRENGTH, as_wished, compared, copy_request, equals, not_kept
from orbit_airflow.engine.copy_token import CopyToken, copy_hash
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConfigError,
    IntegrityError,
    InvalidRequest,
    NotFound,
    OrbitError,
    PreconditionFailed,
    StoreError,
    TargetExists,
)
from orbit_airflow.engine.events import TransferCompleted, TransferDirection, TransferFailed, TransferStarted
from orbit_airflow.engine.model import CopyResult, Integrity, ObjectInfo, ObjectRef, WriteReceipt
from orbit_airflow.engine.options import CopyOptions, EngineConfig, Pairs
from orbit_airflow.engine.resilience.outcome import outcome_unknown
from orbit_airflow.engine.store import CopyRequest
from orbit_airflow.engine.tags import set_dropped_tags
from orbit_airflow.engine.token import Ledger, NoTokens, Outcome, TokenStore


@dataclass(frozen=True, slots=True)
class _Copied:
    """How a copy came about."""

    outcome: Outcome
    copied: int
    saved: int = 0
    found: int = 0
    resumed: bool = False


def copied_in_parts(config: EngineConfig, options: CopyOptions, info: ObjectInfo) -> bool:
    """True for an object of more bytes than one CopyObject is given."""
    most, chosen = config.limits.max_put_size, options.multipart_threshold
    return info.size > (most if chosen is None else min(most, chosen))


class CopyFlow:
    """One copy. What S3 drops on the way although a request can carry it (class, KMS key, redirect) is sent again.

    ``info``: the source as the caller has just seen it; then it is not asked for again. ``proves``: asked about
    what the target holds after a lost answer, where its ETag and checksum do not tell whether that is the copy.
    """

    def __init__(
        self, call: Call, source: ObjectRef, target: ObjectRef, options: CopyOptions, tokens: TokenStore | None = None,
        *, info: ObjectInfo | None = None, proves: Callable[[ObjectInfo], bool] | None = None,
    ) -> None:  # fmt: skip
        self._call = call
        self._source = source
        self._target = target
        self._options = options
        self._info = info
        self._proves = proves
        kept = tokens if tokens is not None and options.resume else NoTokens()
        self._hash = copy_hash(source, target)
        self._ledger = Ledger(kept, self._hash, CopyToken.from_mapping)
        self._flow: PartsCopy | None = None
        self._tagged_again = False
        self._started = call.monotonic()

    def run(self) -> CopyResult:
        """The finished copy.

        NotFound is the source's; ConfigError for more than the store can hold; PreconditionFailed when the source
        changed; TargetExists when replace is False and the key is taken.
        """
        call = self._call
        self._refuse_nothing_to_do()
        info = self._info or call.store.head(self._source)
        self._refuse(info)
        in_parts = copied_in_parts(call.config, self._options, info)
        request = copy_request(self._source, info, self._options, in_parts=in_parts)
        try:
            done = self._in_parts(info, request) if in_parts else self._at_once(info, request)
        except OrbitError as exc:
            kept = self._flow.meter.snapshot().bytes_done if self._flow is not None else 0
            call.reporter(TransferFailed(key=self._target.key, error=str(exc), kept_bytes=kept))
            raise
        result = self._result(info, request, done)
        call.reporter(
            TransferCompleted(
                key=self._target.key,
                total_bytes=result.size,
                bytes_sent=result.bytes_copied,
                bytes_saved=result.bytes_saved,
                duration=result.duration,
                integrity=result.integrity,
                resumed=result.resumed,
                peak_bps=self._flow.meter.peak_bps if self._flow is not None else None,
            )
        )
        return result

    @property
    def _onto_itself(self) -> bool:
        return (self._source.bucket, self._source.key) == (self._target.bucket, self._target.key)

    @property
    def _of_the_newest(self) -> bool:
        """Onto itself, and not from an older version."""
        return self._onto_itself and self._source.version_id is None

    def _refuse_nothing_to_do(self) -> None:
        if self._target.version_id is not None:
            raise ConfigError("a copy makes a new version; the target cannot name one")
        if self._onto_itself and self._source.version_id is None and not self._options.changes_something:
            raise ConfigError(f"a copy of {self._target.uri} onto itself would change nothing")

    def _refuse(self, info: ObjectInfo) -> None:
        most = self._call.config.limits.max_object_size
        if info.size > most:
            raise ConfigError(f"an object holds at most {most} bytes, {info.ref.uri} has {info.size}")
        if self._options.if_match not in (None, info.etag):
            raise PreconditionFailed(f"the ETag of {info.ref.uri} is {info.etag} and not {self._options.if_match}")

    def _in_parts(self, info: ObjectInfo, request: CopyRequest) -> _Copied:
        job = CopyJob(
            call=self._call,
            info=info,
            ref=self._target,
            request=request,
            options=self._options,
            ledger=self._ledger,
            target=self._hash,
        )
        self._flow = flow = PartsCopy(job)
        outcome = flow.run()
        return _Copied(outcome, flow.meter.sent, flow.meter.found, flow.found, flow.resumed)

    def _at_once(self, info: ObjectInfo, request: CopyRequest) -> _Copied:
        self._call.reporter(
            TransferStarted(
                key=self._target.key, total_bytes=info.size, direction=TransferDirection.COPY, part_size=info.size
            )
        )
        tags = self._tags_at_risk(info, request)
        answer, sent = self._accepted(info, request)
        receipt, integrity = self._proved(info, answer)
        if sent is not request:
            # It is an old version, whose tags are where they were.
            tags = self._tags_at_risk(info, sent)
        made = replace(self._target, version_id=receipt.version_id)
        self._tagged_again = set_dropped_tags(self._call.store, made, receipt.etag, tags, self._call.notice)
        outcome = Outcome(receipt.etag, info.size, integrity, None, receipt.version_id, receipt.checksum)
        return _Copied(outcome, info.size)

    def _result(self, info: ObjectInfo, request: CopyRequest, done: _Copied) -> CopyResult:
        outcome = done.outcome
        return CopyResult(
            ref=self._target,
            source=request.source,
            etag=outcome.etag,
            size=info.size,
            checksum=outcome.checksum,
            integrity=outcome.integrity,
            duration=self._call.monotonic() - self._started,
            version_id=outcome.version_id,
            storage_class=request.attributes.storage_class,
            not_kept=not_kept(info, outcome.etag, outcome.checksum),
            resumed=done.resumed,
            bytes_copied=done.copied,
            bytes_saved=done.saved,
            parts_found=done.found,
            tagged_again=self._tagged_again or (self._flow is not None and self._flow.tagged_again),
        )

    def _accepted(self, info: ObjectInfo, request: CopyRequest) -> tuple[WriteReceipt, CopyRequest]:
        """The answer to the one request, which some stores must be sent in other words; and what was sent."""
        try:
            return self._copied(info, request), request
        except InvalidRequest:
            again = copy_request(self._source, info, self._options, in_parts=True)
            if request.source.version_id is None or not self._onto_itself or again == request:
                raise
            # Some stores do not see that an old version of a key is another object than the one it shows.
            self._call.notice("the store takes it for a copy onto itself; sending the metadata again as if changed")
            return self._copied(info, again), again

    def _copied(self, info: ObjectInfo, request: CopyRequest) -> WriteReceipt:
        """One CopyObject; when its answer was lost, the target is looked at before it is sent again."""
        call, attempts = self._call, self._call.config.policy.max_attempts
        if not self._options.replace and self._existing() is not None:
            raise TargetExists(f"{self._target.uri} exists and replace is False")
        for attempt in range(1, attempts + 1):
            call.cancel.check()
            try:
                return call.store.copy(self._target, request)
            except PreconditionFailed as exc:
                found = self._existing() if self._of_the_newest or not self._options.replace else None
                if found is not None and attempt > 1 and self._is_it(found, info, request):
                    return WriteReceipt(found.etag, found.version_id, found.checksum)
                if found is None or self._options.replace:
                    raise
                raise TargetExists(f"{self._target.uri} exists and replace is False", exc.context) from exc
            except StoreError as exc:
                if not outcome_unknown(exc):
                    raise
                call.notice(f"the answer to CopyObject was lost ({exc.message}); looking at the target")
                found = self._existing()
                if found is not None and self._is_it(found, info, request):
                    return WriteReceipt(found.etag, found.version_id, found.checksum)
                if attempt == attempts:
                    raise
                call.pause(attempt, exc)
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def _is_it(self, found: ObjectInfo, info: ObjectInfo, request: CopyRequest) -> bool:
        if self._of_the_newest and found.etag != info.etag and as_wished(found, info, request):
            # It was another object before our request; and what it was copied from may be gone with that.
            return True
        return equals(found, info, request) or (self._proves is not None and self._proves(found))

    def _tags_at_risk(self, info: ObjectInfo, request: CopyRequest) -> Pairs:
        """Some stores drop the tags of a copy with new metadata; onto itself, nobody could read them afterwards. Tags
        that were asked for are looked at in any case.
        """
        if request.replace_tags:
            return request.attributes.tags
        if not info.tag_count or not request.replace_metadata:
            return ()
        try:
            return self._call.store.get_tags(request.source)
        except AccessDenied:
            self._call.notice("the source's tags may not be looked at; whether the copy keeps them is up to the store")
            return ()

    def _existing(self) -> ObjectInfo | None:
        try:
            return self._call.store.head(self._target)
        except NotFound:
            return None
        except AccessDenied:
            self._call.notice("these credentials may not look at the target (HEAD: 403); going on without")
            return None

    def _proved(self, info: ObjectInfo, receipt: WriteReceipt) -> tuple[WriteReceipt, Integrity]:
        """From the answer if it says enough, else with HEAD's help."""
        integrity = compared(info, receipt.etag, receipt.checksum)
        if integrity is Integrity.SIZE_ETAG:
            self._refuse_another_source(info, receipt)
        strongest = integrity is Integrity.FULL_CRC or (integrity is Integrity.MD5 and info.checksum is None)
        # Some stores keep versions and do not say in this answer which one was made (Ceph).
        named = receipt.version_id is not None or info.version_id is None
        if strongest and (named or integrity is Integrity.FULL_CRC):
            # HEAD could add nothing.
            return receipt, integrity
        found = self._existing()
        if found is None or found.etag != receipt.etag:
            self._call.notice("the copy cannot be looked at, or another writer has replaced it")
            return receipt, integrity
        if found.size != info.size:
            raise IntegrityError(f"the copy has {found.size} bytes, its source {info.size}")
        seen = compared(info, found.etag, found.checksum)
        best = seen if integrity is Integrity.SIZE_ETAG else max(integrity, seen, key=STRENGTH.index)
        return WriteReceipt(receipt.etag, receipt.version_id or found.version_id, found.checksum), best

    def _refuse_another_source(self, info: ObjectInfo, receipt: WriteReceipt) -> None:
        """Some stores copy whatever is there, whatever If-Match says; where the bytes prove nothing, look again. What
        was copied onto itself shows the copy now.
        """
        if info.version_id is not None:
            return
        # Without versions there is one object at a key, however it is named.
        expected = receipt.etag if self._onto_itself else info.etag
        if self._call.store.head(self._source).etag != expected:
            raise PreconditionFailed(f"{info.ref.uri} was replaced while it was copied; the copy may be of either")
