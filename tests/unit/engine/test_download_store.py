"""Downloads from stores whose answers contradict each other, and reruns that believe too much."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Self

import pytest

from orbit_airflow.engine.checksums import crc32
from orbit_airflow.engine.errors import (
    AccessDenied,
    ConnectionLost,
    Garbled,
    KmsDenied,
    NotFound,
    ObjectChanged,
    OrbitError,
    PreconditionFailed,
    RequestContext,
)
from orbit_airflow.engine.journal import _line
from orbit_airflow.engine.model import ByteRange, ChecksumType, Integrity, ObjectInfo, ObjectPart, ObjectRef
from orbit_airflow.engine.store import ObjectStream
from orbit_airflow.testing import Fault, FaultyStore
from tests.unit.engine.bench import PART, Bench, DictTokens, data_of

SIZE = 8 * PART + 100
CONTEXT = RequestContext("GetObject", "bucket", "key")


class ByVersionRefused(FaultyStore):
    """Credentials with s3:GetObject and without s3:GetObjectVersion."""

    error: OrbitError = AccessDenied("no", replace(CONTEXT, status=403, code="AccessDenied"))

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> ObjectStream:
        """Not by version."""
        if ref.version_id is not None:
            raise self.error
        return super().get(ref, span, if_match=if_match)


def test_who_may_not_read_versions_downloads_all_the_same(bench: Bench) -> None:
    """A versioned bucket and a policy that says s3:GetObject: the ETag pins the object alone."""
    bench.use(versioned=True)
    data = bench.store(data_of(SIZE))
    bench.faulty = ByVersionRefused(bench.memory)
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.FULL_CRC
    assert "s3:GetObjectVersion" in bench.notices


def test_who_may_not_read_versions_resumes_all_the_same(bench: Bench) -> None:
    bench.use(versioned=True)
    data = bench.store(data_of(SIZE))
    bench.die_downloading(5)
    bench.faulty = ByVersionRefused(bench.memory)
    assert bench.download().bytes_saved == 3 * PART
    assert bench.target.read_bytes() == data


def test_who_may_not_read_versions_gets_no_mixture(bench: Bench) -> None:
    bench.use(versioned=True)
    bench.store(data_of(SIZE, 1))
    bench.workers = 1
    bench.faulty = ByVersionRefused(bench.memory)
    bench.faulty.add(Fault("get", nth=3, call=lambda: bench.store(data_of(SIZE, 2))))
    with pytest.raises(ObjectChanged):
        bench.download()
    assert not bench.target.exists()


@pytest.mark.parametrize("error", [KmsDenied("kms:Decrypt", CONTEXT), AccessDenied("no", CONTEXT)])
def test_a_refusal_stays_one(bench: Bench, error: OrbitError) -> None:
    """Of the key; and of the version that the caller asks for."""
    bench.use(versioned=True)
    bench.store(data_of(SIZE))
    refusing = ByVersionRefused(bench.memory)
    refusing.error, bench.faulty = error, refusing
    if type(error) is AccessDenied:
        bench.ref = replace(bench.ref, version_id=bench.memory.head(bench.ref).version_id)
    with pytest.raises(type(error)):
        bench.download()


@pytest.mark.parametrize("kind", ["etag", "size"])
def test_one_answer_of_another_object_does_not_throw_a_night_away(bench: Bench, kind: str) -> None:
    """A cache answers for somebody else, once: the object is asked, says that it is the same, and it goes on."""
    data = bench.store(data_of(SIZE))
    bench.die_downloading(6)
    stream = bench.memory.get(bench.ref, ByteRange(4 * PART, 5 * PART))
    if kind == "etag":
        wrong = PreconditionFailed("another ETag", replace(CONTEXT, status=412))
        bench.faulty.add(Fault("get", error=wrong))
    else:
        stream._info = replace(stream.info, size=SIZE + 1)
        bench.faulty.add(Fault("get", answer=stream))
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.bytes_saved == 4 * PART


@pytest.mark.parametrize("kind", ["etag", "size"])
def test_answers_that_never_agree_are_an_error_and_keep_what_is_there(bench: Bench, kind: str) -> None:
    """HEAD says one thing and GET another, for ever."""
    bench.store(data_of(SIZE))
    bench.die_downloading(6)
    stream = bench.memory.get(bench.ref, ByteRange(4 * PART, 5 * PART))
    if kind == "etag":
        bench.faulty.add(Fault("get", times=None, error=PreconditionFailed("other", replace(CONTEXT, status=412))))
    else:
        stream._info = replace(stream.info, size=SIZE + 1)
        bench.faulty.add(Fault("get", times=None, answer=stream))
    with pytest.raises(Garbled) as caught:
        bench.download()
    assert caught.value.is_retryable
    bench.faulty.clear()
    assert bench.download().bytes_saved >= 4 * PART


def test_a_head_that_says_nothing_is_there_is_not_believed_alone(bench: Bench) -> None:
    """A gateway that answers HEAD with Content-Length 0: an empty file is no success."""
    bench.object_checksum = False
    bench.store(data_of(SIZE))
    lie = replace(bench.memory.head(bench.ref), size=0, etag="opaque-etag")
    bench.faulty.add(Fault("head", times=None, answer=lie))
    with pytest.raises(OrbitError):
        bench.download()
    assert not bench.target.exists()
    assert bench.hidden == []


def test_an_object_that_is_replaced_before_its_proof_is_no_integrity_error(bench: Bench) -> None:
    """The proof meets the new object's layout; with on_object_change="fail" the new one is not fetched on the sly."""
    bench.store(data_of(SIZE, 1))
    info = bench.memory.head(bench.ref)
    assert info.checksum is not None
    of_parts = replace(info.checksum, type=ChecksumType.COMPOSITE, value="AAAAAA==-2")
    bench.faulty.add(Fault("head", answer=replace(info, checksum=of_parts)))
    # The new object has as many bytes, and other parts.
    part = ObjectPart(1, 1, SIZE, None, "another")
    bench.on("head_part", lambda: bench.store(data_of(SIZE, 2)))
    bench.faulty.add(Fault("head_part", times=None, answer=part))
    with pytest.raises(ObjectChanged):
        bench.download()
    assert not bench.target.exists()
    assert bench.hidden == []


def test_an_object_that_vanishes_before_its_proof_was_fetched_all_the_same(bench: Bench) -> None:
    """Every byte came under its ETag; what cannot be asked any more is not claimed."""
    data = bench.store(data_of(SIZE))
    info = bench.memory.head(bench.ref)
    assert info.checksum is not None
    of_parts = replace(info.checksum, type=ChecksumType.COMPOSITE, value="AAAAAA==-2")
    bench.faulty.add(Fault("head", answer=replace(info, checksum=of_parts)))
    bench.on("head_part", lambda: bench.memory.delete(bench.ref))
    result = bench.download()
    assert bench.target.read_bytes() == data
    assert result.integrity is Integrity.MD5


@pytest.mark.parametrize("keep_mtime", [True, False])
def test_a_file_that_was_written_to_is_not_the_one_that_was_fetched(bench: Bench, keep_mtime: bool) -> None:
    """In place, same size, its time set back: the change time is what nobody can set."""
    data = bench.store(data_of(SIZE))
    bench.download(keep_mtime=keep_mtime)
    found = bench.target.stat()
    with bench.target.open("r+b") as file:
        file.write(b"wrong")
    # The file system's clock is coarse: not in the same tick.
    while bench.target.stat().st_ctime_ns == found.st_ctime_ns or bench.target.stat().st_mtime_ns != found.st_mtime_ns:
        os.utime(bench.target, ns=(found.st_atime_ns, found.st_mtime_ns))
    result = bench.download(keep_mtime=keep_mtime)
    assert bench.target.read_bytes() == data
    assert result.bytes_received == SIZE


@pytest.mark.parametrize("size", [0, SIZE])
def test_a_finished_download_whose_file_and_object_are_gone_is_not_found(bench: Bench, size: int) -> None:
    """Not an empty file, and no reserved room."""
    bench.store(data_of(size))
    bench.download()
    bench.target.unlink()
    bench.memory.delete(bench.ref)
    with pytest.raises(NotFound):
        bench.download()
    assert not bench.target.exists()
    assert bench.hidden == []


def test_a_finished_download_without_its_object_is_as_proved_as_it_was(bench: Bench) -> None:
    """require_integrity looks at what was proved, not at what an absent object could still show."""
    bench.store(data_of(SIZE))
    bench.download(require_integrity="full-crc")
    bench.memory.delete(bench.ref)
    assert bench.download(require_integrity="full-crc").integrity is Integrity.FULL_CRC


@pytest.mark.parametrize("claim", ["full-crc", "part-crc", "md5"])
def test_a_token_cannot_claim_more_than_the_object_can_prove(bench: Bench, claim: str) -> None:
    """A hand (or a REST call) wrote it."""
    bench.object_checksum = False
    bench.store(data_of(SIZE))
    bench.download(verify_checksums=False)
    bench.edit_token(integrity=claim)
    assert bench.download().integrity is Integrity.MD5
    assert bench.download(verify_checksums=False).integrity is Integrity.SIZE_ETAG


def test_a_token_with_a_wrong_files_crc_is_not_believed(bench: Bench) -> None:
    """The object's own checksum is the judge whenever bytes are looked at."""
    data = bench.store(data_of(SIZE))
    bench.download()
    wrong = data_of(SIZE, 9)
    bench.target.write_bytes(wrong)
    bench.edit_token(file={**bench.token["file"], "crc": crc32(wrong)})
    bench.download()
    assert bench.target.read_bytes() == data


def test_a_journal_with_a_wrong_files_crcs_is_not_believed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed behind the name, the token lost, and the file written to since with its journal made to match."""
    data = bench.store(data_of(2 * PART))
    bench.die_downloading(3)
    header = bench.journal_file.read_bytes().splitlines(keepends=True)[0]
    wrong = data_of(2 * PART, 9)
    part, journal = bench.part_file, bench.journal_file
    with part.open("r+b") as file:
        file.write(wrong)
    part.rename(bench.target)
    lines = [_line(["range", index, crc32(wrong[index * PART : (index + 1) * PART])]) for index in range(2)]
    journal.write_bytes(b"".join([header, *lines, _line(["proved", "full-crc"])]))
    bench.tokens = DictTokens()
    bench.download()
    assert bench.target.read_bytes() == data


class Crumbs(FaultyStore):
    """Each body breaks off behind so many bytes."""

    gives = 1

    def get(self, ref: ObjectRef, span: ByteRange | None = None, *, if_match: str | None = None) -> ObjectStream:
        """A few bytes, then a lost line."""
        return _Crumb(super().get(ref, span, if_match=if_match), self.gives)


class _Crumb:
    def __init__(self, inner: ObjectStream, gives: int) -> None:
        self._inner = inner
        self._left = gives

    info = property(lambda self: self._inner.info)
    length = property(lambda self: self._inner.length)

    def read_into(self, view: memoryview) -> int:
        """As the real one: what is not full is lost."""
        if len(view) > self._left and self._left < self.length:
            raise ConnectionLost("cut", CONTEXT)
        self._left -= len(view)
        return self._inner.read_into(view)

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def test_a_line_that_cuts_every_body_short_of_a_block_gets_there(bench: Bench) -> None:
    """Each body has less than the engine's own block of 1 MiB."""
    bench.workers, bench.part_size = 1, 2 * 1024 * 1024
    data = bench.store(data_of(2 * 1024 * 1024))
    bench.faulty = crumbs = Crumbs(bench.memory)
    crumbs.gives = 900_000
    bench.download()
    assert bench.target.read_bytes() == data
    assert len(bench.asked("get")) <= 4


@pytest.mark.parametrize("gives", [0, 1, 10_000])
def test_bodies_of_a_few_bytes_do_not_go_on_for_ever(bench: Bench, gives: int) -> None:
    """A line that dies behind every byte brings something each time, and would need millions of requests."""
    bench.workers, bench.part_size = 1, 1024 * 1024
    bench.store(data_of(1024 * 1024))
    bench.faulty = crumbs = Crumbs(bench.memory)
    crumbs.gives = gives
    with pytest.raises(ConnectionLost):
        bench.download()
    assert len(bench.asked("get")) < 100


@pytest.mark.parametrize("known", [None, "null"])
def test_a_bucket_that_began_to_keep_versions_costs_nothing(bench: Bench, known: Any) -> None:
    """What had no version id is version "null" now; the ETag and the size say that it is the same."""
    bench.store(data_of(SIZE))
    bench.die_downloading(5)
    info: ObjectInfo = replace(bench.memory.head(bench.ref), version_id=known)
    bench.faulty.add(Fault("head", answer=info))
    bench.tokens = DictTokens()
    assert bench.download().bytes_saved == 3 * PART


def test_a_hostile_key_writes_no_line_of_its_own(bench: Bench) -> None:
    """A line break in a key stays escaped in errors and notices."""
    bench.ref = replace(bench.ref, key="night\nERROR forged\u202e.bin")
    bench.store(data_of(SIZE, 1))
    bench.die_downloading(5)
    bench.store(data_of(SIZE, 2))
    with pytest.raises(ObjectChanged) as caught:
        bench.download()
    assert "\n" not in str(caught.value)
    assert "\u202e" not in str(caught.value)
