"""Whole objects and errors: what every store must do, and every wrapper must not change."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.errors import NotFound
from orbit_airflow.engine.model import Checksum, ObjectAttributes, ObjectRef
from orbit_airflow.engine.store import PartDigests
from tests.bodies import BytesBody
from tests.contract.benches import Bench
from tests.contract.bodies import PLAIN, Uploading, data_of, digests_of, refusing

ODD_KEYS = [
    "plus+plus", "two words", "50%25", "what?versionId=x", "a#b&c=d", "größe/文件 🙂", "/leading", "a//b", "trailing/",
    "a/./b/../c", "quote'\"<&>", "tilde~!*()@:,;$=", "x" * 1024, "é" * 512,
]  # fmt: skip


def _put(
    bench: Bench, ref: ObjectRef, data: bytes, *, attributes: ObjectAttributes = PLAIN, once: bool = False
) -> None:
    bench.store.put(ref, BytesBody(data), digests_of(data), attributes, if_none_match=once)


@pytest.mark.parametrize("size", [0, 1, 1000, 3 * 1024 * 1024 + 1])
def test_what_is_put_is_there(bench: Bench, size: int) -> None:
    """The bytes, their number and an ETag that HEAD repeats."""
    ref, data = bench.ref(), data_of(size)
    receipt = bench.store.put(ref, BytesBody(data), digests_of(data), PLAIN, if_none_match=False)
    info = bench.store.head(ref)
    assert bench.window.read(ref) == data
    assert (info.size, info.etag) == (size, receipt.etag)
    assert receipt.etag == hashlib.md5(data).hexdigest()


def test_a_body_is_put_without_digests(bench: Bench) -> None:
    """When checksums are switched off."""
    ref = bench.ref()
    bench.store.put(ref, BytesBody(b"bytes"), PartDigests(), PLAIN, if_none_match=False)
    assert bench.window.read(ref) == b"bytes"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_is_taken_as_it_is(bench: Bench, key: str) -> None:
    """Nothing is decoded, normalised or cut; up to 1,024 bytes."""
    ref = bench.ref(key)
    _put(bench, ref, key.encode())
    assert bench.store.head(ref).size == len(key.encode())
    assert bench.window.read(ref) == key.encode()


@pytest.mark.parametrize("key", ["plus+plus", "two words", "50%25", "größe/文件 🙂", "what?versionId=x"])
def test_a_key_is_taken_as_it_is_by_uploads(bench: Bench, key: str) -> None:
    """By all six verbs of an upload, its listing included."""
    upload = Uploading(bench.store, bench.ref(f"parts/{key}"))
    upload.send(1, b"bytes")
    assert [part.number for part in bench.store.list_parts(upload.ref, upload.id).parts] == [1]
    assert upload.id in [item.upload_id for item in bench.store.list_uploads(upload.ref).uploads]
    assert {item.key for item in bench.store.list_uploads(upload.ref).uploads} == {upload.ref.key}
    bench.store.complete(upload.ref, upload.request())
    assert bench.window.read(upload.ref) == b"bytes"


def test_metadata_comes_back_in_lower_case(bench: Bench) -> None:
    """By both ways of writing."""
    attributes = ObjectAttributes(metadata=(("Orbit-Upload", "0" * 32), ("colour", "blue")))
    small, large = bench.ref(), Uploading(bench.store, bench.ref(), attributes)
    _put(bench, small, b"x", attributes=attributes)
    large.send(1, b"x")
    bench.store.complete(large.ref, large.request())
    for ref in (small, large.ref):
        info = bench.store.head(ref)
        assert (info.metadata_value("orbit-upload"), info.metadata_value("colour")) == ("0" * 32, "blue")


def test_tags_and_type_go_with_the_object(bench: Bench) -> None:
    """By both ways of writing, with characters that need quoting."""
    attributes = ObjectAttributes(tags=(("a b", "c+d/e"), ("empty", "")), content_type="text/x-orbit")
    small, large = bench.ref(), Uploading(bench.store, bench.ref(), attributes)
    _put(bench, small, b"x", attributes=attributes)
    large.send(1, b"x")
    bench.store.complete(large.ref, large.request())
    tags = {"a b": "c+d/e", "empty": ""}
    assert bench.window.tags(small) == tags
    assert bench.window.tags(large.ref) == (tags if bench.quirks.multipart_tags else {})
    assert {bench.window.content_type(ref) for ref in (small, large.ref)} == {"text/x-orbit"}


def test_the_last_one_wins(bench: Bench) -> None:
    """Without a condition."""
    ref = bench.ref()
    _put(bench, ref, b"first")
    _put(bench, ref, b"second")
    assert bench.window.read(ref) == b"second"


def test_a_condition_protects_what_is_there(bench: Bench) -> None:
    """If-None-Match: the second one is refused, and the first one stays."""
    ref = bench.ref()
    _put(bench, ref, b"first", once=True)
    with refusing(bench.quirks.taken_key):
        _put(bench, ref, b"second", once=True)
    assert (bench.window.read(ref) == b"first") is (bench.quirks.taken_key is not None)


def test_what_is_not_there_is_not_found(bench: Bench) -> None:
    """404, also for a prefix of a key that is there."""
    ref = bench.ref()
    _put(bench, ref, b"x")
    for key in (ref.key + "x", ref.key[:-1]):
        with pytest.raises(NotFound):
            bench.store.head(ObjectRef(ref.bucket, key))


def test_a_missing_bucket_is_named(bench: Bench) -> None:
    """By its code, where the answer has a body."""
    ref = ObjectRef("no-such-bucket-at-all", "key")
    with pytest.raises(NotFound) as caught:
        _put(bench, ref, b"x")
    assert caught.value.context.code == "NoSuchBucket"
    with pytest.raises(NotFound):
        bench.store.create(ref, PLAIN, checksums=False)


def test_wrong_bytes_are_refused_by_crc(bench: Bench) -> None:
    """And nothing is written."""
    ref = bench.ref()
    with refusing(bench.quirks.wrong_crc):
        bench.store.put(ref, BytesBody(b"bytes"), PartDigests(crc32=zlib.crc32(b"other")), PLAIN, if_none_match=False)
    assert _there(bench, ref) is (bench.quirks.wrong_crc is None)


def test_wrong_bytes_are_refused_by_md5(bench: Bench) -> None:
    """The check that every store has."""
    ref = bench.ref()
    with refusing(bench.quirks.wrong_md5):
        bench.store.put(
            ref, BytesBody(b"bytes"), PartDigests(md5=hashlib.md5(b"other").digest()), PLAIN, if_none_match=False
        )
    assert _there(bench, ref) is (bench.quirks.wrong_md5 is None)


def _there(bench: Bench, ref: ObjectRef) -> bool:
    try:
        bench.store.head(ref)
    except NotFound:
        return False
    return True


def test_a_crc_is_echoed_and_remembered(bench: Bench) -> None:
    """In the answer to PutObject, and in HEAD."""
    ref = bench.ref()
    expected = Checksum("CRC32", to_base64(zlib.crc32(b"bytes")))
    receipt = bench.store.put(ref, BytesBody(b"bytes"), digests_of(b"bytes"), PLAIN, if_none_match=False)
    assert (receipt.checksum == expected) is bench.quirks.echoes_crc
    assert (bench.store.head(ref).checksum == expected) is bench.quirks.echoes_crc


def test_a_body_may_be_sent_again(bench: Bench) -> None:
    """The same body object, twice: each time from its first byte."""
    ref, data = bench.ref(), data_of(3 * 1024 * 1024)
    body = BytesBody(data)
    for _ in range(2):
        bench.store.put(ref, body, digests_of(data), PLAIN, if_none_match=False)
    assert bench.window.read(ref) == data
