"""Uploads on a day without faults: sizes, figures, attributes, integrity by store."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any

import pytest

from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.errors import ConfigError, NotFound, SourceError
from orbit_airflow.engine.events import Progress, TransferCompleted, TransferEvent, TransferFailed, TransferStarted
from orbit_airflow.engine.model import Integrity, ObjectAttributes, ObjectRef
from orbit_airflow.engine.scripts import default_state_directory
from orbit_airflow.engine.token import FileTokenStore
from tests.unit.engine.bench import PART, Bench


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 7 * PART + 13, 100 * PART])
def test_every_size_arrives(bench: Bench, size: int) -> None:
    """Empty, small, exactly one part, exactly two, many: the right bytes, one version, nothing left open."""
    data = bench.write(size)
    result = bench.upload()
    bench.settled(data)
    assert (result.size, result.bytes_sent, result.bytes_saved, result.resumed) == (size, size, 0, False)
    assert (result.ref, result.integrity) == (bench.ref, Integrity.FULL_CRC)
    assert bench.sent == size


@pytest.mark.parametrize(("size", "operation"), [(0, "put"), (PART - 1, "put"), (PART, "create"), (9 * PART, "create")])
def test_the_chunk_size_divides_the_ways(bench: Bench, size: int, operation: str) -> None:
    """Below it one request, from it on parts; an empty file has no parts."""
    bench.write(size)
    bench.upload()
    assert len(bench.asked(operation)) == 1
    assert not (bench.asked("put") and bench.asked("create"))


def test_a_small_upload_is_one_request(bench: Bench) -> None:
    """No HEAD before, none behind, when the answer proves the whole."""
    bench.write(10)
    bench.upload()
    assert [request.operation for request in bench.memory.requests] == ["put"]


def test_a_large_upload_asks_no_more_than_it_must(bench: Bench) -> None:
    """Create, the parts, Complete."""
    bench.write(3 * PART)
    bench.upload()
    assert sorted(request.operation for request in bench.memory.requests) == [
        "complete",
        "create",
        *["upload_part"] * 3,
    ]


def test_the_token_goes_through_its_phases(bench: Bench) -> None:
    """Intent before the first request, started before the first part, done behind Complete."""
    bench.write(3 * PART)
    bench.upload()
    assert bench.token["phase"] == "done"
    assert list(dict.fromkeys(bench.phases)) == ["intent", "started", "completing", "done"]


def test_the_token_is_saved_before_what_it_speaks_of(bench: Bench) -> None:
    """At the moment of Create there is an intent, at the first part the upload id, at Complete the proof."""
    seen: list[str] = []
    bench.write(2 * PART)
    bench.workers = 1
    for operation in ("create", "upload_part", "complete"):
        bench.on(operation, lambda: seen.append(bench.token["phase"]))
    bench.upload()
    assert seen == ["intent", "started", "completing"]


@pytest.mark.parametrize(
    ("profile", "checksums", "small", "large"),
    [
        ({}, True, Integrity.FULL_CRC, Integrity.FULL_CRC),
        ({"full_object": False}, True, Integrity.FULL_CRC, Integrity.PART_CRC),
        ({"opaque_etags": True}, True, Integrity.FULL_CRC, Integrity.FULL_CRC),
        ({"checksums": False}, True, Integrity.MD5, Integrity.MD5),
        ({"checksums": False, "opaque_etags": True}, True, Integrity.SIZE_ETAG, Integrity.SIZE_ETAG),
        ({}, False, Integrity.SIZE_ETAG, Integrity.SIZE_ETAG),
    ],
)
def test_the_proof_is_the_strongest_that_the_store_allows(
    bench: Bench, profile: dict[str, Any], checksums: bool, small: Integrity, large: Integrity
) -> None:
    """And the result names it."""
    for size, expected in ((100, small), (3 * PART + 5, large)):
        bench.use(**profile)
        bench.tokens = bench.fresh_tokens()
        data = bench.write(size)
        assert bench.upload(verify_checksums=checksums).integrity is expected
        bench.settled(data)


@pytest.mark.parametrize("size", [100, 3 * PART])
def test_the_result_describes_the_object(bench: Bench, size: int) -> None:
    """ETag, checksum and version as the store shows them."""
    bench.use(versioned=True)
    data = bench.write(size)
    result = bench.upload()
    (version,) = bench.memory.versions(bench.ref)
    assert (result.etag, result.version_id) == (version.etag, version.version_id)
    assert result.checksum is not None
    assert result.checksum.value == to_base64(zlib.crc32(data))


@pytest.mark.parametrize("size", [100, 3 * PART])
def test_attributes_go_with_the_object(bench: Bench, size: int) -> None:
    """Metadata, tags, type and class, and our mark beside them."""
    attributes = ObjectAttributes(
        metadata=(("Colour", "blue"),), tags=(("a", "1"),), content_type="text/x", storage_class="STANDARD_IA"
    )
    bench.write(size)
    bench.upload(attributes=attributes)
    (version,) = bench.memory.versions(bench.ref)
    assert version.metadata == {"colour": "blue", "orbit-upload": bench.token["mark"]}
    assert version.attributes.tags == (("a", "1"),)
    assert (version.attributes.content_type, version.attributes.storage_class) == ("text/x", "STANDARD_IA")


def test_parts_grow_when_ten_thousand_are_not_enough(bench: Bench) -> None:
    """Said in a notice, and kept in the token."""
    from orbit_airflow.engine.plan import StoreLimits

    bench.settings = {"limits": StoreLimits(min_part_size=1024, part_size_step=1024, max_parts=10)}
    data = bench.write(50 * PART)
    bench.upload()
    bench.settled(data)
    assert len(bench.asked("upload_part")) == 10
    assert bench.token["part_size"] == 5 * PART
    assert "so that" in bench.notices


def test_one_upload_may_have_its_own_chunk_size(bench: Bench) -> None:
    """The option wins over the engine's setting."""
    bench.write(8 * PART)
    bench.upload(chunk_size=4 * PART)
    assert len(bench.asked("upload_part")) == 2


def test_a_chunk_size_below_the_store_s_least_is_refused(bench: Bench) -> None:
    """Before an upload is begun."""
    bench.write(8 * PART)
    with pytest.raises(ConfigError, match="chunk_size"):
        bench.upload(chunk_size=100)
    assert bench.memory.uploads() == []


def _totals(events: Sequence[TransferEvent]) -> list[tuple[int, int]]:
    return [(event.bytes_done, event.bytes_sent) for event in events if isinstance(event, Progress)]


def test_events_tell_the_story(bench: Bench) -> None:
    """Started with the plan, completed with the figures."""
    bench.write(4 * PART + 1)
    bench.upload()
    (started,), (completed,) = bench.seen(TransferStarted), bench.seen(TransferCompleted)
    assert (started.total_bytes, started.part_size, started.parts, started.parts_found) == (4 * PART + 1, PART, 5, 0)
    assert started.upload_id == bench.token["upload_id"]
    assert (completed.bytes_sent, completed.bytes_saved, completed.resumed) == (4 * PART + 1, 0, False)


def test_progress_grows_to_the_total(bench: Bench) -> None:
    """Each event at least as far as the one before, on a line without faults."""
    bench.workers = 1
    bench.write(20 * PART)
    bench.on("upload_part", lambda: bench.time.sleep(1), times=None)
    bench.upload()
    done = [figures[0] for figures in _totals(bench.events)]
    assert done == sorted(done)
    assert len(done) >= 18
    assert done[-1] <= 20 * PART


def test_a_failure_is_an_event_too(bench: Bench) -> None:
    """With the error's words."""
    with pytest.raises(SourceError):
        bench.upload()
    (failed,) = bench.seen(TransferFailed)
    assert "cannot open" in failed.error


def test_a_reporter_that_raises_is_harmless(bench: Bench) -> None:
    """The object arrives."""
    data = bench.write(5 * PART)

    def broken(event: TransferEvent) -> None:
        raise ValueError("broken")

    bench.engine().upload(bench.path, bench.ref, reporter=broken)
    bench.settled(data)


def test_a_missing_bucket_is_an_error(bench: Bench) -> None:
    """Not a missing object."""
    bench.use(buckets=["other"])
    bench.write(3 * PART)
    with pytest.raises(NotFound):
        bench.upload()


def test_the_script_verb_returns_a_finished_state(bench: Bench) -> None:
    """Kept in files, under the user's state directory unless told otherwise."""
    data = bench.write(3 * PART)
    engine = bench.engine(bench.config(bucket="bucket"))
    state = engine.upload_file_multipart(bench.path, bench.ref.key, tokens=FileTokenStore(bench.folder / "state"))
    assert (state.key, state.completed) == (bench.ref.key, True)
    assert json.loads(state.token)["phase"] == "done"
    bench.settled(data)


def test_the_script_verb_takes_its_state_again(bench: Bench) -> None:
    """A finished upload is not sent again, with no files in between."""
    bench.write(3 * PART)
    engine = bench.engine(bench.config(bucket="bucket"))
    state = engine.upload_file_multipart(bench.path, bench.ref.key, tokens=FileTokenStore(bench.folder / "one"))
    sent = bench.sent
    engine.upload_file_multipart(bench.path, bench.ref.key, state, tokens=FileTokenStore(bench.folder / "two"))
    assert bench.sent == sent


def test_the_script_verb_needs_a_bucket(bench: Bench) -> None:
    """From the configuration."""
    with pytest.raises(ConfigError, match="bucket"):
        bench.engine().upload_file_multipart(bench.path, "key")


def test_the_state_directory_follows_the_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME, else ~/.local/state."""
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert str(default_state_directory()) == "/somewhere/orbit"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert str(default_state_directory()).endswith("/.local/state/orbit")


def test_two_keys_do_not_meet(bench: Bench) -> None:
    """One engine, one token store, two transfers."""
    data = bench.write(3 * PART)
    bench.upload()
    bench.ref = ObjectRef("bucket", "folder/other.bin")
    bench.upload()
    assert hashlib.md5(bench.stored).digest() == hashlib.md5(data).digest()
    assert len(bench.memory.objects) == 2
