"""Copies in parts over a store in memory: killed, lost, raced, and never of two sources."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from orbit_airflow.engine.copy_token import CopyToken, copy_hash, source_hash
from orbit_airflow.engine.errors import (
    AccessDenied,
    IntegrityError,
    InvalidRequest,
    NotFound,
    Paused,
    PreconditionFailed,
    TargetExists,
    Unavailable,
    Unsupported,
)
from orbit_airflow.engine.events import (
    Reporter,
    TransferCompleted,
    TransferDirection,
    TransferEvent,
    TransferFailed,
    TransferStarted,
)
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.model import (
    Checksum,
    ChecksumType,
    CopyResult,
    CreatedUpload,
    Integrity,
    ObjectAttributes,
    ObjectInfo,
    ObjectRef,
    PartReceipt,
)
from orbit_airflow.engine.options import CopyOptions, EngineConfig, UploadOptions
from orbit_airflow.engine.plan import StoreLimits
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import CopyPartRequest, TransferStore
from orbit_airflow.engine.stores.retrying import RetryingStore
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.unit.engine.bench import DictTokens, FakeTime, Killed, QuickCancellation, data_of

PART = 4096
SOURCE, TARGET = ObjectRef("bucket", "source"), ObjectRef("bucket", "copy")
WHOLE = CopyOptions(multipart_threshold=PART, chunk_size=PART)
KEPT = ObjectAttributes(
    metadata=(("colour", "blue"),),
    tags=(("a", "b"),),
    content_type="text/x",
    storage_class="GLACIER_IR",
    server_side_encryption="aws:kms",
    kms_key_id="key",
    extra_args=(("CacheControl", "no-store"), ("WebsiteRedirectLocation", "/x")),
)


class Bench:
    """One source, one target, one store; each ``copy`` is a new try."""

    def __init__(self, **profile: Any) -> None:
        self.time = FakeTime()
        self.memory = MemoryStore(**{"min_part_size": 1024, "clock": self.time, **profile})
        self.faulty = FaultyStore(self.memory)
        self.tokens = DictTokens()
        self.events: list[TransferEvent] = []
        self.workers = 1
        self.data = data_of(5 * PART + 7)

    def engine(self, **changes: Any) -> TransferEngine:
        fixed: dict[str, Any] = {
            "bucket": "bucket", "chunk_size": 64 * 1024, "parallel_operations": self.workers, "settle_seconds": 10.0,
            "outage_patience": 0, "limits": StoreLimits(min_part_size=1024, part_size_step=1024),
            "retry": RetryPolicy.fast(),
        }  # fmt: skip
        settings = EngineConfig(**{**fixed, **changes})
        dice = random.Random(3)

        def store_for(cancel: Cancellation, reporter: Reporter) -> TransferStore:
            return RetryingStore(self.faulty, settings.policy, sleep=cancel.sleep, rng=dice, reporter=reporter)

        return TransferEngine(settings, store_for, clock=self.time, monotonic=self.time, rng=dice)

    def write(self, data: bytes | None = None, attributes: ObjectAttributes = KEPT) -> None:
        """The source, straight into the store."""
        store, self.faulty = self.faulty, FaultyStore(self.memory)
        self.engine().upload_bytes(self.data if data is None else data, SOURCE, UploadOptions(attributes=attributes))
        self.faulty = store

    def copy(self, options: CopyOptions = WHOLE, source: ObjectRef = SOURCE, **config: Any) -> CopyResult:
        """One try."""
        return self.engine(**config).copy_object(
            source, TARGET, options, tokens=self.tokens, reporter=self.events.append,
            cancel=QuickCancellation(self.time),
        )  # fmt: skip

    def asked(self, operation: str) -> list[int | None]:
        return [item.part_number for item in self.memory.requests if item.operation == operation]

    def settled(self) -> None:
        """The promise: the right bytes, one version, no open upload."""
        assert self.memory.read(TARGET) == self.data
        assert len(self.memory.versions(TARGET)) == 1
        assert self.memory.uploads() == []

    @property
    def told(self) -> str:
        return "\n".join(getattr(event, "message", "") for event in self.events)


@pytest.fixture
def bench() -> Bench:
    made = Bench(versioned=True)
    made.write()
    return made


def test_a_copy_in_parts_keeps_all_that_its_source_had(bench: Bench) -> None:
    """Headers, metadata, tags, class, encryption and redirect, although a Create inherits nothing."""
    result = bench.copy()
    info, source = bench.engine().get_metadata(TARGET), bench.engine().get_metadata(SOURCE)
    bench.settled()
    assert (result.integrity, result.size, result.parts_found) == (Integrity.FULL_CRC, len(bench.data), 0)
    assert (info.headers, info.storage_class, info.kms_key_id) == (source.headers, "GLACIER_IR", "key")
    assert info.metadata_value("colour") == "blue"
    assert bench.memory.get_tags(TARGET) == (("a", "b"),)
    assert bench.asked("copy_part") == [1, 2, 3, 4, 5, 6]
    assert bench.asked("put_tags") == []
    assert [part.size for part in bench.memory.versions(TARGET)[0].parts] == [PART] * 5 + [7]


def test_options_change_what_they_name_and_nothing_else(bench: Bench) -> None:
    """Metadata, type, tags and class of the caller's; the other headers stay."""
    options = replace(WHOLE, metadata=(("size", "xl"),), tags=(), storage_class="STANDARD", content_type="text/y")
    bench.copy(options)
    info = bench.engine().get_metadata(TARGET)
    assert (info.metadata_value("colour"), info.metadata_value("size")) == (None, "xl")
    assert (info.headers.content_type, info.headers.cache_control, info.storage_class) == ("text/y", "no-store", None)
    assert bench.memory.get_tags(TARGET) == ()


def _requests_of_a_copy() -> int:
    bench = Bench(versioned=True)
    bench.write()
    before = len(bench.memory.requests)
    bench.copy()
    return len(bench.memory.requests) - before


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("request_number", range(1, _requests_of_a_copy() + 1))
def test_a_copy_that_was_killed_at_any_request_goes_on(bench: Bench, request_number: int, when: Any) -> None:
    """The next try ends with one version, no open upload, and copies no part twice but the one that was under way."""
    bench.faulty.add(Fault("*", nth=request_number, times=None, when=when, error=Killed()))
    with pytest.raises(Killed):
        bench.copy()
    bench.faulty.clear()
    result = bench.copy()
    bench.settled()
    copied = bench.asked("copy_part")
    assert set(copied) == {1, 2, 3, 4, 5, 6}
    assert len(copied) == 6
    assert result.integrity is Integrity.FULL_CRC
    assert result.bytes_copied + result.bytes_saved == len(bench.data)


def test_a_finished_copy_is_not_made_again(bench: Bench) -> None:
    """The same call once more, as after a try that died behind its last request; a removed copy is made again."""
    first, second = bench.copy(), bench.copy()
    bench.settled()
    assert (second.resumed, second.version_id, second.bytes_copied) == (True, first.version_id, 0)
    bench.engine().versions.delete_version(TARGET, first.version_id or "")
    assert bench.copy().resumed is False
    bench.settled()


def test_parts_of_another_source_are_not_used(bench: Bench) -> None:
    """A source that was replaced between two tries begins anew, and the old parts are aborted."""
    bench.faulty.add(Fault("copy_part", nth=4, times=None, error=Killed()))
    with pytest.raises(Killed):
        bench.copy()
    bench.faulty.clear()
    bench.data = data_of(5 * PART + 7, seed=9)
    bench.write()
    result = bench.copy()
    bench.settled()
    assert result.parts_found == 0
    assert "source is another one now" in bench.told


@pytest.mark.parametrize("versioned", [True, False])
def test_a_source_that_is_replaced_meanwhile(versioned: bool) -> None:
    """Pinned by its version the copy goes on; without versions it ends, and leaves nothing."""
    bench = Bench(versioned=versioned)
    bench.write()
    bench.faulty.add(Fault("copy_part", nth=3, call=lambda: bench.write(b"other" * PART)))
    if versioned:
        bench.copy()
        bench.settled()
        return
    with pytest.raises(PreconditionFailed, match="replaced while it was copied"):
        bench.copy()
    assert bench.memory.uploads() == []
    assert TARGET not in bench.memory.objects


def test_a_store_that_ignores_if_match_copies_no_mixture() -> None:
    """The source is looked at again behind the last part."""
    bench = Bench()
    bench.write()
    replaced, copied = lambda: bench.write(bytes(len(bench.data))), PartReceipt(6, 7, "0" * 32)
    bench.faulty.add(Fault("copy_part", nth=6, call=replaced), Fault("copy_part", nth=6, answer=copied))
    with pytest.raises(PreconditionFailed, match="replaced while it was copied"):
        bench.copy()
    assert TARGET not in bench.memory.objects


def test_a_lost_create_is_swept(bench: Bench) -> None:
    """Its upload is told from others' by identity, time and emptiness."""
    bench.faulty.add(Fault("create", when="after"))
    bench.copy()
    bench.settled()
    assert bench.asked("create") == [None, None]


@pytest.mark.parametrize("gone", ["idempotent", "gone"])
def test_a_lost_complete_is_settled_by_the_mark(gone: Any) -> None:
    """One version, whatever a repeated Complete would get."""
    bench = Bench(versioned=True, complete_again=gone)
    bench.write()
    bench.faulty.add(Fault("complete", when="after"))
    result = bench.copy()
    bench.settled()
    assert (result.integrity, bench.asked("complete")) == (Integrity.FULL_CRC, [None])


def test_an_upload_that_vanishes_begins_anew(bench: Bench) -> None:
    """Somebody's lifecycle rule in the middle of it."""

    def abort() -> None:
        for item in bench.memory.uploads():
            bench.memory.abort(TARGET, item.upload_id)

    bench.faulty.add(Fault("copy_part", nth=3, call=abort))
    result = bench.copy(settle_seconds=1.0)
    bench.settled()
    assert result.bytes_copied == len(bench.data)
    assert "upload is gone" in bench.told


def test_a_missing_upload_may_be_called_a_missing_key(bench: Bench) -> None:
    """Some stores say so; source and upload are asked for before that is believed."""

    def abort() -> None:
        for item in bench.memory.uploads():
            bench.memory.abort(TARGET, item.upload_id)

    bench.faulty.add(Fault("copy_part", nth=3, call=abort, error=NotFound("NoSuchKey")))
    bench.copy(settle_seconds=1.0)
    bench.settled()
    bench.faulty.add(Fault("copy_part", nth=3, error=NotFound("NoSuchKey")))
    with pytest.raises(NotFound, match="but shows it"):
        bench.copy(replace(WHOLE, resume=False))


def test_a_source_that_vanishes_is_not_found() -> None:
    """And the parts are kept: a person may bring it back."""
    bench = Bench()
    bench.write()
    bench.faulty.add(Fault("copy_part", nth=3, call=lambda: bench.memory.delete(SOURCE)))
    with pytest.raises(NotFound) as caught:
        bench.copy()
    assert "keeps 8192 bytes" in str(caught.value)
    assert len(bench.memory.uploads(TARGET)) == 1


@pytest.mark.parametrize("late", [True, False])
def test_a_taken_key_is_left_alone(bench: Bench, late: bool) -> None:
    """With replace=False, also when the other writer comes between the last part and Complete; nothing stays open."""

    def take() -> None:
        taken = FaultyStore(bench.memory)
        store, bench.faulty = bench.faulty, taken
        bench.engine().upload_bytes(b"other", TARGET)
        bench.faulty = store

    if late:
        bench.faulty.add(Fault("complete", call=take))
    else:
        take()
    with pytest.raises(TargetExists):
        bench.copy(replace(WHOLE, replace=False))
    assert bench.memory.read(TARGET) == b"other"
    assert bench.memory.uploads() == []


def test_a_stop_order_keeps_the_parts(bench: Bench) -> None:
    """Paused; the next try copies the rest."""
    cancel = QuickCancellation(bench.time)
    bench.faulty.add(Fault("copy_part", nth=4, call=cancel.cancel))
    with pytest.raises(Paused) as caught:
        bench.engine().copy_object(SOURCE, TARGET, WHOLE, tokens=bench.tokens, cancel=cancel)
    assert "the next try continues it" in str(caught.value)
    result = bench.copy()
    bench.settled()
    assert result.parts_found >= 3
    assert len(bench.asked("copy_part")) == 6


def test_without_tokens_a_copy_begins_anew(bench: Bench) -> None:
    """And with resume=False, although there are some."""
    bench.faulty.add(Fault("copy_part", nth=4, error=AccessDenied("no")))
    with pytest.raises(AccessDenied):
        bench.copy()
    assert bench.copy(replace(WHOLE, resume=False)).parts_found == 0
    assert bench.memory.read(TARGET) == bench.data


def test_changed_wishes_begin_anew_and_abort_the_old_parts(bench: Bench) -> None:
    """An open upload cannot be given another class."""
    bench.faulty.add(Fault("copy_part", nth=4, error=AccessDenied("no")))
    with pytest.raises(AccessDenied):
        bench.copy()
    result = bench.copy(replace(WHOLE, storage_class="STANDARD_IA"))
    bench.settled()
    assert (result.parts_found, result.storage_class) == (0, "STANDARD_IA")


def test_parts_that_are_not_what_was_said_are_copied_again(bench: Bench) -> None:
    """Once; then it is an error, and nothing is visible."""
    bench.faulty.add(Fault("copy_part", nth=2, answer=PartReceipt(2, PART, "0" * 32)))
    bench.copy()
    bench.settled()
    bench = Bench()
    bench.write()
    bench.faulty.add(Fault("copy_part", times=None, when="after", answer=PartReceipt(2, PART, "0" * 32)))
    with pytest.raises(IntegrityError, match="not its source's"):
        bench.copy()
    assert TARGET not in bench.memory.objects


def test_a_wrong_checksum_is_an_error(bench: Bench) -> None:
    """The source's CRC32 goes with Complete; a store that does not look at it is looked at."""
    listed = bench.memory.head(SOURCE)
    wrong = replace(listed, checksum=Checksum("CRC32", "AAAAAA=="))
    bench.faulty.add(Fault("head", nth=1, answer=wrong))
    with pytest.raises(IntegrityError):
        bench.copy()
    assert TARGET not in bench.memory.objects


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"checksums": False}, Integrity.SIZE_ETAG),
        ({"full_object": False}, Integrity.SIZE_ETAG),
        ({"opaque_etags": True, "checksums": False}, Integrity.SIZE_ETAG),
        ({}, Integrity.FULL_CRC),
    ],
)
def test_the_proof_is_as_strong_as_the_store_allows(profile: dict[str, Any], expected: Integrity) -> None:
    """Never more than was compared."""
    bench = Bench(**profile)
    bench.write()
    assert bench.copy().integrity is expected
    bench.settled()


def test_a_refusal_of_checksums_falls_back(bench: Bench) -> None:
    """The copy is made without."""
    bench.faulty.add(Fault("create", error=InvalidRequest("x-amz-checksum-algorithm is not known here")))
    assert bench.copy().integrity is Integrity.SIZE_ETAG
    bench.settled()


def test_the_sources_own_kind_of_checksum_is_asked_for(bench: Bench) -> None:
    """CRC64NVME is what AWS gives to objects of others; only the same kind can be compared."""
    seen: list[ObjectAttributes] = []
    create = bench.memory.create

    def noted(ref: ObjectRef, attributes: ObjectAttributes, *, checksums: bool) -> Any:
        seen.append(attributes)
        assert checksums is False
        return create(ref, attributes, checksums=checksums)

    bench.memory.create = noted  # type: ignore[method-assign]
    info = replace(bench.memory.head(SOURCE), checksum=Checksum("CRC64NVME", "AAAAAAAAAAA="))
    bench.faulty.add(Fault("head", nth=1, answer=info))
    bench.copy()
    assert dict(seen[0].extra_args)["ChecksumAlgorithm"] == "CRC64NVME"
    assert dict(seen[0].extra_args)["ChecksumType"] == "FULL_OBJECT"


def test_dropped_tags_are_set_again(bench: Bench) -> None:
    """By one request behind Complete."""
    bench.faulty.add(Fault("get_tags", nth=2, answer=()))
    bench.copy()
    assert bench.asked("put_tags") == [None]
    assert bench.memory.get_tags(TARGET) == (("a", "b"),)


def test_tags_that_may_not_be_read_are_not_lost_silently(bench: Bench) -> None:
    """AccessDenied, as CopyObject has it; a caller who names tags needs none of the source's."""
    bench.faulty.add(Fault("get_tags", times=None, error=AccessDenied("no")))
    with pytest.raises(AccessDenied):
        bench.copy()
    bench.copy(replace(WHOLE, tags=(("x", "y"),)))
    assert bench.memory.get_tags(TARGET) == (("x", "y"),)


def test_no_room_for_a_mark_is_no_reason_to_fail(bench: Bench) -> None:
    """2 KiB of metadata are copied as they are, and the copy is known by all that it has."""
    bench.write(attributes=ObjectAttributes(metadata=(("x", "y" * 1980),)))
    full = replace(bench.memory.head(SOURCE), metadata=(("x", "y" * 2040),))
    bench.faulty.add(Fault("head", nth=1, answer=full))
    bench.faulty.add(Fault("complete", when="after"))
    bench.copy()
    bench.settled()
    assert bench.memory.objects[TARGET].metadata == {"x": "y" * 2040}


def test_the_events_are_of_a_copy(bench: Bench) -> None:
    """Start with the parts, end with the figures; a failure says what is kept."""
    bench.faulty.add(Fault("copy_part", nth=4, error=AccessDenied("no")))
    with pytest.raises(AccessDenied):
        bench.copy()
    bench.copy()
    started = [event for event in bench.events if isinstance(event, TransferStarted)]
    failed = [event for event in bench.events if isinstance(event, TransferFailed)]
    ended = [event for event in bench.events if isinstance(event, TransferCompleted)]
    assert [(event.direction, event.parts, event.parts_found) for event in started] == [
        (TransferDirection.COPY, 6, 0),
        (TransferDirection.COPY, 6, 3),
    ]
    assert [event.kept_bytes for event in failed] == [3 * PART]
    assert [(event.bytes_saved, event.bytes_sent) for event in ended] == [(3 * PART, 2 * PART + 7)]
    assert [event.resumed for event in ended] == [True]


def test_many_workers_copy_each_part_once(bench: Bench) -> None:
    """In any order."""
    bench.workers = 4
    bench.copy()
    bench.settled()
    assert sorted(str(number) for number in bench.asked("copy_part")) == list("123456")


def test_small_copies_are_one_request_with_events(bench: Bench) -> None:
    """Up to the threshold."""
    bench.copy(CopyOptions())
    assert bench.asked("copy") == [None]
    assert [type(event).__name__ for event in bench.events] == ["TransferStarted", "TransferCompleted"]


def test_an_outage_is_an_error_that_keeps_the_parts(bench: Bench) -> None:
    """And the next try goes on."""
    bench.faulty.add(Fault("copy_part", nth=3, times=4, error=Unavailable("503")))
    with pytest.raises(Unavailable, match="keeps 8192 bytes"):
        bench.copy()
    assert bench.copy().parts_found == 2
    bench.settled()


def test_a_complete_without_a_look_at_the_target(bench: Bench) -> None:
    """HEAD is refused: a lost answer is asked again, since Complete may be repeated."""
    bench.faulty.add(Fault("complete", when="after"), Fault("head", nth=2, times=None, error=AccessDenied("403")))
    assert bench.copy().integrity is Integrity.FULL_CRC
    bench.settled()


# The token.

INFO = ObjectInfo(SOURCE, 10, "etag", "v1")
HASH = copy_hash(SOURCE, TARGET)


def _token() -> CopyToken:
    return CopyToken.intent(HASH, source_hash(INFO), "0" * 16, 5.0)


def test_a_token_comes_back_as_it_was(bench: Bench) -> None:
    """Of every phase, and under 1 KiB."""
    bench.copy()
    started = _token().started(CreatedUpload("id", "CRC32", ChecksumType.FULL_OBJECT), 4096, 6.0)
    for mapping in (_token().to_mapping(), started.to_mapping(), started.completing().to_mapping(), bench.tokens.only):
        token = CopyToken.from_mapping(mapping, mapping["target"])
        assert token.to_mapping() == mapping
        assert len(str(mapping)) < 1024


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"op": "upload"}, {"target": "x"}, {"mark": "zz"}, {"intent_at": -1}, {"source": "x"},
        {"attributes": 5}, {"phase": "never"}, {"phase": "started"}, {"phase": "done"}, {"upload_id": "a b"},
        {"part_size": 0}, {"checksum_type": "x"}, {"sweep": 1}, {"outcome": []}, {"outcome": {"etag": "x"}},
        {"outcome": {"etag": "x", "size": 1, "integrity": "md5", "checksum": ["a"]}},
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_is_rejected(change: dict[str, Any]) -> None:
    """Field by field."""
    with pytest.raises(TokenRejected):
        CopyToken.from_mapping({**_token().to_mapping(), **change}, HASH)


@pytest.mark.parametrize("garbage", [None, [], "x", {}, {"schema": 1}])
def test_garbage_is_no_token(garbage: object) -> None:
    """Whatever it is."""
    with pytest.raises(TokenRejected):
        CopyToken.from_mapping(garbage, HASH)


def test_a_rejected_token_is_a_fresh_start(bench: Bench) -> None:
    """With a line in the log."""
    bench.faulty.add(Fault("copy_part", nth=4, error=AccessDenied("no")))
    with pytest.raises(AccessDenied):
        bench.copy()
    bench.tokens.edit(mark="edited")
    bench.copy()
    assert bench.memory.read(TARGET) == bench.data
    assert "saved state is not used" in bench.told


def test_a_part_size_that_cannot_be_is_a_fresh_start(bench: Bench) -> None:
    """Edited by hand, say."""
    bench.faulty.add(Fault("copy_part", nth=4, error=AccessDenied("no")))
    with pytest.raises(AccessDenied):
        bench.copy()
    bench.tokens.edit(part_size=1)
    bench.copy()
    bench.settled()


class Deaf(MemoryStore):
    """Decodes the source of a part once more, and does not hear If-Match."""

    def copy_part(self, ref: ObjectRef, request: CopyPartRequest) -> PartReceipt:
        source = replace(request.source, key=unquote(request.source.key))
        return super().copy_part(ref, replace(request, source=source, if_match=self.head(source).etag))


@pytest.mark.parametrize("key", ["50%41", "what?versionId=x"])
def test_no_part_comes_from_another_key(key: str) -> None:
    """Where neither the key nor If-Match can be trusted, nothing is copied and nothing is left."""
    bench = Bench()
    bench.memory = Deaf(min_part_size=1024, clock=bench.time)
    bench.faulty = FaultyStore(bench.memory)
    source = replace(SOURCE, key=key)
    for name in (key, "50A"):
        bench.engine().upload_bytes(bench.data if name == key else b"x" * len(bench.data), replace(SOURCE, key=name))
    with pytest.raises(Unsupported, match="another object"):
        bench.copy(source=source)
    assert (bench.memory.uploads(), bench.tokens.kept) == ([], {})


def test_a_strict_store_copies_such_keys(bench: Bench) -> None:
    """One request more."""
    source = replace(SOURCE, key="50%41")
    bench.engine().upload_bytes(bench.data, source)
    bench.copy(source=source)
    bench.settled()
    assert bench.asked("copy_part") == [1, 1, 2, 3, 4, 5, 6]
