"""Copies between stores, or between accounts that may not read each other: through this machine, object by object."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from orbit_airflow.engine.batch.change import Copy
from orbit_airflow.engine.batch.copying import without_transfers
from orbit_airflow.engine.batch.judge import Judge
from orbit_airflow.engine.batch.result import KeyOutcome
from orbit_airflow.engine.batch.scratch import scratch
from orbit_airflow.engine.batch.second_look import Likeness, likeness
from orbit_airflow.engine.batch.work import AboutAll, Hands, Worker
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.copy_plan import compared, copy_request, not_kept
from orbit_airflow.engine.copy_token import copy_hash
from orbit_airflow.engine.errors import (
    AccessDenied,
    IntegrityError,
    NotFound,
    ObjectChanged,
    OrbitError,
    PreconditionFailed,
    Unsupported,
)
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.model import (
    DownloadResult,
    KeyPrefix,
    ObjectAttributes,
    ObjectInfo,
    ObjectRef,
    UploadResult,
)
from orbit_airflow.engine.options import DownloadOptions, UploadOptions
from orbit_airflow.engine.proof import MARK
from orbit_airflow.engine.resilience.pace import Pace
from orbit_airflow.engine.store import ListRequest
from orbit_airflow.engine.token import state_key, target_hash

T = TypeVar("T")
# So often a source that is replaced under its copy is begun anew; then the key fails.
MAX_LOOKS = 3
# So often a key is done again when the target's store turned out to be at fault.
MAX_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class StreamedCopy(Copy):
    """As Copy, with one engine that reads and another one that writes.

    Each object is downloaded into a file in ``directory`` (None: the system's temporary one) and uploaded from there,
    both proved as downloads and uploads are, and the two compared; the file is gone afterwards. Memory is that of
    transfers, the disk must have room for as many objects as run at once. The requests of both sides together keep the
    batch's ``max_concurrent`` and ``rate_limit``. A key that was interrupted goes on with the ranges and parts that are
    there, on another host with the parts. A source that is replaced meanwhile is begun anew, and PreconditionFailed in
    the end. KMS keys belong to an account and are not taken along: the target's bucket decides, unless ``options`` do.
    """

    reader: TransferEngine = field(repr=False)
    writer: TransferEngine = field(repr=False)
    directory: str | None = None

    def __post_init__(self) -> None:
        """The same address in another store is another object."""
        self._check_addresses()

    def lists_own_output(self, call: Call, where: KeyPrefix) -> bool:
        """Whether both connections lead to one bucket: the writer is shown the first object of the listing. Where it
        may not look, they are taken for two.
        """
        first = next(iter(call.store.list_objects(ListRequest(where=where, max_keys=1)).objects), None)
        if first is None:
            return False
        ref = ObjectRef(where.bucket, first.key)
        one = call.store.head(ref)
        try:
            other = self.writer.get_metadata(ref)
        except (AccessDenied, NotFound):
            return False
        return all(
            getattr(one, name) == getattr(other, name) for name in ("etag", "size", "version_id", "last_modified")
        )

    def words(self) -> list[object]:
        """What is copied whereto; the engines are how."""
        return [self.bucket, self.dest_prefix, self.dest_bucket, self.strip_prefix, self.options, "streamed"]

    def worker(self, hands: Hands) -> Worker:
        """At work, both engines at the batch's pace."""
        return _Streaming(self, hands)


class _Streaming:
    """The Worker. An outage of the source's store is the flow's to wait out, one of the target's is waited out here."""

    def __init__(self, work: StreamedCopy, hands: Hands) -> None:
        self._work = work
        self._hands = hands
        self._reader = _paced(work.reader, hands)
        self._writer = _paced(work.writer, hands)
        call = work.writer.call(hands.call.cancel, hands.call.reporter)
        alone = Pace(1, None, sleep=call.cancel.sleep, clock=call.monotonic)
        ask = work.writer.paced_store(call, alone, hands.policy.with_max_retries(0)).head
        self._judge = Judge(call, KeyPrefix(work.target_bucket).probe, ask)
        self._clock = call.monotonic

    def do(self, entries: Sequence[KeyEntry], *, again: bool) -> list[KeyOutcome]:
        """One by one."""
        return [self._copied(entry, again=again) for entry in entries]

    def _copied(self, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        for rounds in range(1, MAX_ROUNDS + 1):
            began = self._clock()
            try:
                return self._copy(entry, again=again)
            except _Writing as exc:
                error = exc.error
            if rounds == MAX_ROUNDS or not self._out(error, began):
                raise error
            again = True
        raise AssertionError("the last round returns or raises")  # pragma: no cover

    def _out(self, error: OrbitError, began: float) -> bool:
        """True when it was the target's store, which is back."""
        try:
            return self._judge.again(error, began)
        except OrbitError as exc:
            # The flow would ask the source's store, which is well, and blame the key.
            raise AboutAll(exc) from exc

    def _copy(self, entry: KeyEntry, *, again: bool) -> KeyOutcome:
        work, hands = self._work, self._hands
        source, target = entry.ref(work.bucket), work.target(entry.key)
        for _ in range(MAX_LOOKS):
            info = hands.call.store.head(source)
            attributes, lost = self._attributes(info)
            if again:
                found = _writing(lambda: self._found(target))
                if found is not None and likeness(found, info, work.options) is Likeness.SAME:
                    return KeyOutcome.done(entry, found.version_id, (*lost, *_changed(info, found)))
            hands.untimed()
            made = self._through_file(info, target, attributes)
            if made is not None:
                return KeyOutcome.done(entry, made.version_id, (*lost, *_changed(info, made)))
            hands.call.notice(f"{source.uri} was replaced while it was copied; beginning anew")
        raise PreconditionFailed(f"{source.uri} was replaced again and again while it was copied")

    def _through_file(self, info: ObjectInfo, target: ObjectRef, attributes: ObjectAttributes) -> UploadResult | None:
        """What was made; None when the source is another one than ``info`` by now."""
        work, hands, cancel = self._work, self._hands, self._hands.call.cancel
        name = copy_hash(info.ref, target)[:32]
        source = replace(info.ref, version_id=info.ref.version_id or info.version_id)
        with scratch(work.directory, name) as folder:
            path = os.path.join(folder, "object")
            try:
                fetched = self._reader.download(source, path, DownloadOptions(), cancel=cancel)
            except (ObjectChanged, PreconditionFailed):
                return None
            if (fetched.etag, fetched.size) != (info.etag, info.size):
                return None
            options = UploadOptions(replace=work.options.replace, attributes=attributes)
            told = without_transfers(hands.call.reporter)
            made = _writing(
                lambda: self._writer.upload(path, target, options, tokens=hands.tokens, cancel=cancel, reporter=told)
            )
            _refuse_other_bytes(info, fetched, made)
            hands.tokens.drop(state_key(target_hash("upload", target, path)))
            return made

    def _found(self, target: ObjectRef) -> ObjectInfo | None:
        try:
            return self._writer.get_metadata(target)
        except NotFound:
            return None

    def _attributes(self, info: ObjectInfo) -> tuple[ObjectAttributes, tuple[str, ...]]:
        """What the target gets, and the names of what it does not."""
        options = self._work.options
        lost = list(not_kept(info))
        wanted = copy_request(info.ref, info, options, in_parts=True).attributes
        tags, extra = options.tags, wanted.extra_args
        if tags is None:
            tags = _unless_refused(lambda: self._hands.call.store.get_tags(info.ref), lost)
        encryption, key = options.server_side_encryption, options.kms_key_id
        if encryption is None:
            kms = (info.server_side_encryption or "").startswith("aws:kms")
            customers = info.customer_key and self._work.writer.config.customer_key is None
            lost += ["encryption"] if kms or customers else []
            extra = tuple(item for item in extra if item[0] != "BucketKeyEnabled")
        metadata = tuple(item for item in wanted.metadata if item[0] != MARK)
        kept = replace(
            wanted, tags=tags, metadata=metadata, extra_args=extra, server_side_encryption=encryption, kms_key_id=key
        )
        return kept, tuple(lost)


class _Writing(Exception):
    """An error of the target's store, which the flow knows nothing of."""

    def __init__(self, error: OrbitError) -> None:
        super().__init__(error.message)
        self.error = error


def _writing(call: Callable[[], T]) -> T:
    try:
        return call()
    except OrbitError as exc:
        raise _Writing(exc) from exc


def _paced(engine: TransferEngine, hands: Hands) -> TransferEngine:
    """The same engine at the batch's pace, with its retries; without a pace, as it is."""
    pace, call = hands.pace, engine.call()
    if pace is None:
        return engine
    return TransferEngine(
        replace(engine.config, retry=hands.policy, max_retries=None),
        lambda cancel, reporter: engine.paced_store(engine.call(cancel, reporter), pace, hands.policy),
        monotonic=call.monotonic,
        rng=call.rng,
    )


def _refuse_other_bytes(info: ObjectInfo, fetched: DownloadResult, made: UploadResult) -> None:
    """IntegrityError when what was written is not what was read: the file lay on a disk in between."""
    compared(info, made.etag, made.checksum)
    one, other = fetched.checksum, made.checksum
    differ = one is not None and other is not None and (one.algorithm, one.type) == (other.algorithm, other.type)
    if made.size != info.size or (differ and one != other):
        raise IntegrityError(f"the bytes that were written to {made.ref.uri} are not those that were read")


def _changed(info: ObjectInfo, made: ObjectInfo | UploadResult) -> tuple[str, ...]:
    return tuple(name for name in not_kept(info, made.etag, made.checksum) if name not in not_kept(info))


def _unless_refused(ask: Callable[[], tuple[tuple[str, str], ...]], lost: list[str]) -> tuple[tuple[str, str], ...]:
    """Tags need a right of their own, and some stores have none."""
    try:
        return tuple(ask())
    except (AccessDenied, Unsupported):
        lost.append("tags")
        return ()
