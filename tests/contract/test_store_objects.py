"""Reading, copying, deleting and listing objects: what every store must do, and every wrapper must not change."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from contextlib import suppress

import pytest

from orbit_airflow.engine.checksums import to_base64
from orbit_airflow.engine.errors import ConnectionLost, InvalidRequest, NotFound, PreconditionFailed
from orbit_airflow.engine.model import (
    ByteRange,
    Checksum,
    ChecksumType,
    KeyPrefix,
    ListedObject,
    ListResult,
    ObjectAttributes,
    ObjectRef,
    WriteReceipt,
)
from orbit_airflow.engine.store import CopyRequest, ListRequest, ObjectStream
from tests.bodies import BytesBody
from tests.contract.benches import BUCKET, Bench
from tests.contract.bodies import PLAIN, Uploading, data_of, digests_of, refusing
from tests.contract.keys import ODD_KEYS


def _put(bench: Bench, ref: ObjectRef, data: bytes, attributes: ObjectAttributes = PLAIN) -> WriteReceipt:
    return bench.store.put(ref, BytesBody(data), digests_of(data), attributes, if_none_match=False)


def _all(stream: ObjectStream, block: int = 100_000) -> bytes:
    """Every byte, in blocks of a size that fits nothing."""
    got, view = bytearray(), memoryview(bytearray(block))
    with stream:
        while count := stream.read_into(view):
            got += view[:count]
        assert len(got) == stream.length
    return bytes(got)


def _patiently(bench: Bench, ref: ObjectRef) -> bytes:
    """All bytes; again where the store cuts off readers that a busy machine has made slow."""
    for _ in range(0 if bench.quirks.waits_for_slow_readers else 3):
        with suppress(ConnectionLost):
            return _all(bench.store.get(ref))
    return _all(bench.store.get(ref))


def _listed(bench: Bench, prefix: str, **choices: object) -> list[ListResult]:
    """All pages."""
    pages: list[ListResult] = []
    token: str | None = None
    while True:
        request = ListRequest(where=KeyPrefix(BUCKET, prefix), token=token, **choices)  # type: ignore[arg-type]
        pages.append(bench.store.list_objects(request))
        token = pages[-1].continuation_token
        assert (token is not None) is pages[-1].is_truncated
        if token is None:
            return pages


def _keys(pages: Iterable[ListResult]) -> list[str]:
    return [item.key for page in pages for item in page.objects]


@pytest.mark.parametrize("size", [0, 1, 3 * 1024 * 1024 + 1])
def test_what_was_put_comes_back(bench: Bench, size: int) -> None:
    """The bytes, and what HEAD says of them."""
    ref, data = bench.ref(), data_of(size)
    _put(bench, ref, data)
    stream = bench.store.get(ref)
    head = bench.store.head(ref)
    assert (stream.info.size, stream.info.etag, stream.info.checksum) == (size, head.etag, head.checksum)
    assert stream.length == size
    stream.close()
    assert _patiently(bench, ref) == data


@pytest.mark.parametrize("span", [ByteRange(0, 1), ByteRange(10, 250_000), ByteRange(299_999, 300_000)])
def test_a_range_is_exactly_its_bytes(bench: Bench, span: ByteRange) -> None:
    """With the whole object's size, and without a checksum, which would be of other bytes."""
    ref, data = bench.ref(), data_of(300_000)
    _put(bench, ref, data)
    stream = bench.store.get(ref, span)
    assert (stream.info.size, stream.length, stream.info.checksum) == (300_000, span.length, None)
    assert _all(stream, 70_000) == data[span.start : span.stop]


def test_the_whole_may_be_asked_for_as_a_range(bench: Bench) -> None:
    """All bytes, whether the store calls it 206 or 200."""
    ref = bench.ref()
    _put(bench, ref, b"0123456789")
    assert _all(bench.store.get(ref, ByteRange(0, 10))) == b"0123456789"


def test_a_range_across_parts_is_one_stretch(bench: Bench) -> None:
    """Parts are the writer's affair."""
    upload = Uploading(bench.store, bench.ref())
    for number in (1, 2, 3):
        upload.send(number, data_of(bench.part if number < 3 else 9, number))
    bench.store.complete(upload.ref, upload.request())
    span = ByteRange(bench.part - 5, 2 * bench.part + 5)
    assert _all(bench.store.get(upload.ref, span)) == upload.data[span.start : span.stop]


def test_a_part_is_found_by_its_number(bench: Bench) -> None:
    """Size and count of what was uploaded under it; None where the store does not say."""
    upload = Uploading(bench.store, bench.ref())
    sizes = {1: bench.part, 2: bench.part + 1, 3: 9}
    for number, size in sizes.items():
        upload.send(number, data_of(size, number))
    bench.store.complete(upload.ref, upload.request())
    parts = {number: bench.store.head_part(upload.ref, number) for number in sizes}
    if not bench.quirks.shows_parts:
        assert set(parts.values()) == {None}
        return
    etag = bench.store.head(upload.ref).etag
    for number, part in parts.items():
        assert part is not None
        assert (part.number, part.count, part.size) == (number, 3, sizes[number])
        assert (part.etag == etag) is bench.quirks.parts_have_the_objects_etag


def test_the_checksum_of_a_part_is_over_its_bytes(bench: Bench) -> None:
    """Of an only part it is the object's; of several under one checksum over the full object none has its own."""
    for sizes in ((bench.part,), (bench.part, 9)):
        upload = Uploading(bench.store, bench.ref())
        for number, size in enumerate(sizes, 1):
            upload.send(number, data_of(size, number))
        bench.store.complete(upload.ref, upload.request())
        own = bench.quirks.object_checksum is ChecksumType.COMPOSITE or len(sizes) == 1
        for number, data in upload.parts.items():
            part = bench.store.head_part(upload.ref, number)
            found = part.checksum if part is not None else None
            if bench.quirks.shows_parts and bench.quirks.shows_part_checksums and own:
                assert found == Checksum("CRC32", to_base64(zlib.crc32(data)))
            else:
                assert found is None


def test_a_part_that_is_not_there_is_an_error(bench: Bench) -> None:
    """InvalidRequest; NotFound when there is no object."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"only")
    bench.store.complete(upload.ref, upload.request())
    with refusing(bench.quirks.unknown_part):
        assert bench.store.head_part(upload.ref, 2) is None
    with pytest.raises(NotFound):
        bench.store.head_part(bench.ref(), 1)


def test_what_was_put_whole_has_no_parts(bench: Bench) -> None:
    """None, with bytes and without."""
    for data in (b"bytes", b""):
        ref = bench.ref()
        _put(bench, ref, data)
        assert bench.store.head_part(ref, 1) is None


def test_a_range_behind_the_end_is_an_error(bench: Bench) -> None:
    """Never fewer bytes than were asked for."""
    ref = bench.ref()
    _put(bench, ref, b"0123456789")
    with pytest.raises(InvalidRequest):
        bench.store.get(ref, ByteRange(10, 11))


def test_a_read_is_pinned_to_an_etag(bench: Bench) -> None:
    """PreconditionFailed when the object was replaced, by the store's word or by the answer's own ETag."""
    ref = bench.ref()
    etag = _put(bench, ref, b"first").etag
    assert _all(bench.store.get(ref, if_match=etag)) == b"first"
    _put(bench, ref, b"other")
    for span in (None, ByteRange(0, 3)):
        with pytest.raises(PreconditionFailed):
            bench.store.get(ref, span, if_match=etag)


def test_what_is_not_there_cannot_be_read(bench: Bench) -> None:
    """NotFound by every verb but delete."""
    ref = bench.ref()
    with pytest.raises(NotFound):
        bench.store.get(ref)
    with pytest.raises(NotFound):
        bench.store.copy(bench.ref(), CopyRequest(source=ref))
    for verb in (bench.store.head, bench.store.get):
        with pytest.raises(NotFound):
            verb(ObjectRef("no-such-bucket-at-all", "key"))
    with pytest.raises(NotFound):
        bench.store.list_objects(ListRequest(where=KeyPrefix("no-such-bucket-at-all")))


def test_a_stream_that_is_left_early_does_no_harm(bench: Bench) -> None:
    """The next request is answered as if nothing had been."""
    ref, data = bench.ref(), data_of(2_000_000)
    _put(bench, ref, data)
    with bench.store.get(ref) as stream:
        assert stream.read_into(memoryview(bytearray(10))) == 10
    assert _patiently(bench, ref) == data


def test_a_copy_has_bytes_metadata_type_and_tags(bench: Bench) -> None:
    """By COPY, the default of both directives."""
    attributes = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("a", "b c"),), content_type="text/x-orbit")
    source, target = bench.ref(), bench.ref()
    etag = _put(bench, source, b"bytes", attributes).etag
    receipt = bench.store.copy(target, CopyRequest(source=source, if_match=etag))
    info = bench.store.head(target)
    assert bench.window.read(target) == b"bytes"
    assert receipt.etag == info.etag == etag
    assert info.metadata_value("colour") == "blue"
    assert info.headers.content_type == "text/x-orbit"
    assert bench.window.tags(target) == {"a": "b c"}


def test_a_copy_may_have_its_own(bench: Bench) -> None:
    """By REPLACE: metadata and type, or tags; an empty set takes them away."""
    attributes = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("a", "b"),), content_type="text/x-orbit")
    source, target = bench.ref(), bench.ref()
    _put(bench, source, b"bytes", attributes)
    new = ObjectAttributes(metadata=(("size", "xl"),), content_type="text/y")
    bench.store.copy(target, CopyRequest(source=source, attributes=new, replace_metadata=True))
    info, own = bench.store.head(target), bench.quirks.copies_take_tags
    assert (info.metadata, info.headers.content_type) == ((("size", "xl"),), "text/y")
    assert bench.window.tags(target) == ({"a": "b"} if own else {})
    for tags in ((("c", "d e"),), ()):
        request = CopyRequest(source=source, attributes=ObjectAttributes(tags=tags), replace_tags=True)
        bench.store.copy(target, request)
        assert bench.window.tags(target) == (dict(tags) if own else {"a": "b"})
        assert bench.store.head(target).metadata_value("colour") == "blue"


def test_a_copy_of_parts_is_the_same_bytes(bench: Bench) -> None:
    """As one part; a checksum over the full object stays what it was."""
    upload, target = Uploading(bench.store, bench.ref()), bench.ref()
    upload.send(1, data_of(bench.part))
    upload.send(2, b"end")
    bench.store.complete(upload.ref, upload.request())
    bench.store.copy(target, CopyRequest(source=upload.ref))
    assert bench.window.read(target) == upload.data
    if bench.quirks.object_checksum is ChecksumType.FULL_OBJECT:
        checksum = bench.store.head(target).checksum
        assert checksum is not None
        assert checksum.value == to_base64(zlib.crc32(upload.data))


def test_a_copy_is_pinned_to_its_source(bench: Bench) -> None:
    """If-Match of the source: PreconditionFailed, and the target stays."""
    source, target = bench.ref(), bench.ref()
    _put(bench, source, b"bytes")
    _put(bench, target, b"old")
    with refusing(bench.quirks.replaced_source_on_copy):
        bench.store.copy(target, CopyRequest(source=source, if_match="0" * 32))
    assert (bench.window.read(target) == b"old") is (bench.quirks.replaced_source_on_copy is not None)


def test_a_copy_may_demand_a_free_key(bench: Bench) -> None:
    """If-None-Match of the target."""
    source, target = bench.ref(), bench.ref()
    _put(bench, source, b"bytes")
    bench.store.copy(target, CopyRequest(source=source, if_none_match=True))
    _put(bench, target, b"old")
    with refusing(bench.quirks.taken_key_on_copy):
        bench.store.copy(target, CopyRequest(source=source, if_none_match=True))
    if bench.quirks.refused_copy_keeps_target:
        assert (bench.window.read(target) == b"old") is (bench.quirks.taken_key_on_copy is not None)


def test_a_deleted_object_is_gone(bench: Bench) -> None:
    """And deleting it again, or what never was, is a success."""
    ref = bench.ref()
    _put(bench, ref, b"bytes")
    for _ in range(2):
        receipt = bench.store.delete(ref)
        assert receipt.delete_marker is False
    with pytest.raises(NotFound):
        bench.store.head(ref)


def test_only_the_very_key_is_deleted(bench: Bench) -> None:
    """Neither its prefix nor what begins with it."""
    ref = bench.ref()
    others = [ObjectRef(BUCKET, ref.key + "x"), ObjectRef(BUCKET, ref.key[:-1])]
    for item in (ref, *others):
        _put(bench, item, b"bytes")
    bench.store.delete(ref)
    assert [bench.window.read(other) for other in others] == [b"bytes"] * 2


def test_a_listing_has_every_key_once_in_pages(bench: Bench) -> None:
    """In the order of UTF-8 bytes, with size, ETag and time."""
    home = bench.ref().key
    names = ["a", "a-b", "a/1", "b", "bc", "d", "z", "~"]
    if bench.quirks.pages_keep_non_ascii:
        names += ["\u00e9", "\U0001f642"]
    etags = {f"{home}/{name}": _put(bench, bench.ref(f"{home}/{name}"), name.encode()).etag for name in names}
    _put(bench, bench.ref(f"{home}-not-ours"), b"x")
    pages = _listed(bench, home + "/", max_keys=3)
    found: list[ListedObject] = [item for page in pages for item in page.objects]
    assert len(pages) >= 3
    assert [item.key for item in found] == sorted(etags, key=str.encode)
    assert {item.key: item.etag for item in found} == etags
    assert [item.size for item in found] == [len(item.key.encode()) - len(home) - 1 for item in found]
    assert all(item.last_modified is not None and item.last_modified.tzinfo is not None for item in found)


def test_a_prefix_is_no_directory(bench: Bench) -> None:
    """It also matches what goes on without a slash; nothing is an empty page."""
    home = bench.ref().key
    for name in ("b", "b/c", "bc"):
        _put(bench, bench.ref(f"{home}/{name}"), b"x")
    assert _keys(_listed(bench, f"{home}/b")) == [f"{home}/b", f"{home}/b/c", f"{home}/bc"]
    assert _listed(bench, f"{home}/none") == [ListResult(())]


def test_a_listing_may_begin_behind_a_key(bench: Bench) -> None:
    """The key itself is not shown, and need not be there."""
    home = bench.ref().key
    for name in ("a", "c", "e"):
        _put(bench, bench.ref(f"{home}/{name}"), b"x")
    assert _keys(_listed(bench, home, start_after=f"{home}/b")) == [f"{home}/c", f"{home}/e"]
    assert _keys(_listed(bench, home, start_after=f"{home}/c")) == [f"{home}/e"]


def test_a_delimiter_folds(bench: Bench) -> None:
    """What has it behind the prefix is one common prefix, once, over all pages."""
    home = bench.ref().key
    for name in ("a", "d/1", "d/2", "e+ %/1", "z"):
        _put(bench, bench.ref(f"{home}/{name}"), b"x")
    pages = _listed(bench, f"{home}/", delimiter="/", max_keys=2)
    assert _keys(pages) == [f"{home}/a", f"{home}/z"]
    assert [name for page in pages for name in page.common_prefixes] == [f"{home}/d/", f"{home}/e+ %/"]


@pytest.mark.parametrize("name", ODD_KEYS)
def test_a_key_is_taken_as_it_is_by_every_verb(bench: Bench, name: str) -> None:
    """Put, head, get, list, copy from and to, delete: to the letter, and no other key is touched."""
    key = ODD_KEYS[name]
    if name in bench.quirks.impossible_keys:
        pytest.xfail(f"{bench.name} cannot hold such a key: docs/compatible-stores.md")
    ref, plain = bench.ref(key), bench.ref()
    _put(bench, ref, key.encode())
    try:
        assert bench.store.head(ref).size == len(key.encode())
        assert _all(bench.store.get(ref)) == key.encode()
        shown = _keys(_listed(bench, key))
        assert key in shown
        assert all(item.startswith(key) for item in shown)
        bench.store.copy(plain, CopyRequest(source=ref))
        assert bench.window.read(plain) == key.encode()
        _put(bench, plain, b"copied")
        bench.store.copy(ref, CopyRequest(source=plain))
        assert bench.window.read(ref) == b"copied"
    finally:
        bench.store.delete(ref)
    with pytest.raises(NotFound):
        bench.store.head(ref)


@pytest.mark.parametrize("name", ODD_KEYS)
def test_a_key_is_taken_as_it_is_by_an_upload_and_its_listing(bench: Bench, name: str) -> None:
    """All six verbs of an upload; ListMultipartUploads is what a sweep goes by."""
    key = ODD_KEYS[name]
    if name in bench.quirks.impossible_keys | bench.quirks.impossible_uploads:
        pytest.xfail(f"{bench.name} cannot hold such a key: docs/compatible-stores.md")
    upload = Uploading(bench.store, bench.ref(key))
    try:
        upload.send(1, key.encode())
        assert [part.number for part in bench.store.list_parts(upload.ref, upload.id).parts] == [1]
        shown = {item.upload_id: item.key for item in bench.store.list_uploads(upload.ref).uploads}
        assert (shown.get(upload.id) == key) is (name not in bench.quirks.garbled_uploads)
        bench.store.complete(upload.ref, upload.request())
        assert bench.window.read(upload.ref) == key.encode()
    finally:
        bench.store.abort(upload.ref, upload.id)
        bench.store.delete(upload.ref)
