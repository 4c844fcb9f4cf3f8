"""Multipart uploads: what every store must do, and every wrapper must not change."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace

import pytest

from orbit_airflow.engine.checksums import composite, to_base64
from orbit_airflow.engine.errors import UploadGone
from orbit_airflow.engine.model import Checksum, ChecksumType, ListedPart, ListedUpload, ObjectRef, Part, PartReceipt
from tests.bodies import BytesBody
from tests.contract.benches import Bench
from tests.contract.bodies import PLAIN, Uploading, data_of, digests_of, refusing


def _listed(bench: Bench, upload: Uploading, after: int = 0) -> list[ListedPart]:
    """All parts, page by page."""
    found: list[ListedPart] = []
    marker: int | None = after
    while marker is not None:
        page = bench.store.list_parts(upload.ref, upload.id, marker)
        found.extend(page.parts)
        marker = page.next_marker
    return found


def _uploads(bench: Bench, ref: ObjectRef) -> list[ListedUpload]:
    """All open uploads, page by page."""
    found: list[ListedUpload] = []
    page = bench.store.list_uploads(ref)
    found.extend(page.uploads)
    while page.next_marker is not None:
        page = bench.store.list_uploads(ref, page.next_marker)
        found.extend(page.uploads)
    return found


def test_parts_in_any_order_make_the_object(bench: Bench) -> None:
    """3, 1, 2: joined by number, with the checksum that the store promised at Create."""
    upload = Uploading(bench.store, bench.ref())
    for number in (3, 1, 2):
        upload.send(number, data_of(bench.part if number < 3 else 100, number))
    receipt = bench.store.complete(upload.ref, upload.request())
    info = bench.store.head(upload.ref)
    assert bench.window.read(upload.ref) == upload.data
    assert info.size == len(upload.data)
    assert (receipt.etag == info.etag) is bench.quirks.complete_answers_etag
    assert upload.created.checksum_type is bench.quirks.multipart_checksum


def test_the_object_s_etag_is_s3_s(bench: Bench) -> None:
    """The MD5 of the parts' MD5s: what the engine compares where there is no CRC."""
    upload = Uploading(bench.store, bench.ref())
    chunks = [data_of(bench.part, 1), data_of(7, 2)]
    receipts = [upload.send(number, chunk) for number, chunk in enumerate(chunks, 1)]
    md5s = [hashlib.md5(chunk).digest() for chunk in chunks]
    assert [receipt.etag for receipt in receipts] == [md5.hex() for md5 in md5s]
    bench.store.complete(upload.ref, upload.request())
    assert bench.store.head(upload.ref).etag == f"{hashlib.md5(b''.join(md5s)).hexdigest()}-2"


def test_the_object_s_checksum_is_of_the_promised_kind(bench: Bench) -> None:
    """Of all bytes, of the parts' checksums, or none."""
    upload = Uploading(bench.store, bench.ref())
    crcs = [zlib.crc32(data) for data in (data_of(bench.part, 1), data_of(7, 2))]
    upload.send(1, data_of(bench.part, 1))
    upload.send(2, data_of(7, 2))
    bench.store.complete(upload.ref, upload.request())
    expected = {
        ChecksumType.FULL_OBJECT: Checksum("CRC32", to_base64(zlib.crc32(upload.data))),
        ChecksumType.COMPOSITE: Checksum("CRC32", composite(crcs), ChecksumType.COMPOSITE),
        None: None,
    }
    assert bench.store.head(upload.ref).checksum == expected[bench.quirks.object_checksum]


def test_a_part_sent_twice_is_the_last_one(bench: Bench) -> None:
    """Whatever its size was."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"first and longer")
    upload.send(1, b"second")
    assert [(part.number, part.size) for part in _listed(bench, upload)] == [(1, 6)]
    bench.store.complete(upload.ref, upload.request())
    assert bench.window.read(upload.ref) == b"second"


def test_a_hole_in_the_numbers_is_allowed(bench: Bench) -> None:
    """1 and 10,000: S3 counts by order."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, data_of(bench.part))
    upload.send(10_000, b"end")
    bench.store.complete(upload.ref, upload.request())
    assert bench.window.read(upload.ref) == upload.data


def test_wrong_part_bytes_are_refused(bench: Bench) -> None:
    """And the part is not there."""
    upload = Uploading(bench.store, bench.ref())
    with refusing(bench.quirks.wrong_part):
        upload.send(1, b"bytes", digests_of(b"other", upload.created))
    assert (_listed(bench, upload) == []) is (bench.quirks.wrong_part is not None)


def test_parts_are_listed_as_they_are(bench: Bench) -> None:
    """Number, size, ETag, checksum: what a second try compares with its file."""
    upload = Uploading(bench.store, bench.ref())
    for number in (5, 1, 3, 2, 4):
        upload.send(number, data_of(100 + number, number))
    listed = _listed(bench, upload)
    assert [(part.number, part.size) for part in listed] == [(number, 100 + number) for number in range(1, 6)]
    assert [part.etag for part in listed] == [hashlib.md5(data_of(100 + n, n)).hexdigest() for n in range(1, 6)]
    crcs = [to_base64(zlib.crc32(data_of(100 + n, n))) for n in range(1, 6)]
    shown = [part.checksum.value if part.checksum else None for part in listed]
    assert (shown == crcs) is bench.quirks.lists_part_crc


def test_a_listing_begins_behind_its_marker(bench: Bench) -> None:
    """The marker is a number, not a position."""
    upload = Uploading(bench.store, bench.ref())
    for number in (1, 40, 41, 9000):
        upload.send(number, b"x")
    assert ([part.number for part in _listed(bench, upload, after=40)] == [41, 9000]) is bench.quirks.marker_is_a_number
    assert _listed(bench, upload, after=9000) == []


def test_no_parts_are_an_empty_list(bench: Bench) -> None:
    """Not an error."""
    assert _listed(bench, Uploading(bench.store, bench.ref())) == []


def test_an_unknown_upload_is_gone(bench: Bench) -> None:
    """For every verb but Abort, for which that is what was wanted."""
    upload = Uploading(bench.store, bench.ref())
    receipt = upload.send(1, b"x")
    bench.store.abort(upload.ref, upload.id)
    with refusing(bench.quirks.gone_part):
        upload.send(1, b"x")
    with pytest.raises(UploadGone):
        bench.store.list_parts(upload.ref, upload.id)
    with refusing(bench.quirks.gone_complete):
        bench.store.complete(upload.ref, replace(upload.request(), receipts=(receipt,)))
    bench.store.abort(upload.ref, upload.id)


def test_completing_an_aborted_upload_leaves_the_object_alone(bench: Bench) -> None:
    """Whatever the store answers: the key holds what it held."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"new")
    bench.store.abort(upload.ref, upload.id)
    bench.store.put(upload.ref, BytesBody(b"old"), digests_of(b"old"), PLAIN, if_none_match=False)
    with refusing(bench.quirks.gone_complete_over_object):
        bench.store.complete(upload.ref, upload.request())
    assert bench.window.read(upload.ref) == b"old"


def test_an_aborted_upload_leaves_nothing(bench: Bench) -> None:
    """No object, no open upload."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"x")
    bench.store.abort(upload.ref, upload.id)
    assert bench.window.open_uploads(upload.ref) == []


def test_another_key_s_upload_is_not_ours(bench: Bench) -> None:
    """An upload id works with its own key alone: parts cannot be put into a stranger's upload."""
    victim, other = Uploading(bench.store, bench.ref()), bench.ref()
    receipt = victim.send(1, b"x")
    digests = digests_of(b"y", victim.created)
    with refusing(bench.quirks.other_key_part):
        bench.store.upload_part(other, victim.id, Part(2, 0, 1), BytesBody(b"y"), digests)
    with refusing(bench.quirks.other_key_list):
        bench.store.list_parts(other, victim.id)
    with refusing(bench.quirks.other_key_complete):
        bench.store.complete(other, replace(victim.request(), receipts=(receipt,), size=1, full_crc32=None))


def test_a_part_that_is_not_there_cannot_be_completed(bench: Bench) -> None:
    """A number that was never sent, and an ETag that is not the part's."""
    for wrong in (PartReceipt(2, 1, "0" * 32, 0), PartReceipt(1, 1, "0" * 32, zlib.crc32(b"x"))):
        upload = Uploading(bench.store, bench.ref())
        upload.send(1, b"x")
        with refusing(bench.quirks.missing_part):
            bench.store.complete(upload.ref, replace(upload.request(), receipts=(wrong,)))


def test_parts_are_named_in_order(bench: Bench) -> None:
    """2 before 1 is refused."""
    upload = Uploading(bench.store, bench.ref())
    first, second = upload.send(1, data_of(bench.part)), upload.send(2, b"x")
    with refusing(bench.quirks.wrong_part_order):
        bench.store.complete(upload.ref, replace(upload.request(), receipts=(second, first)))


def test_small_parts_in_the_middle_are_refused(bench: Bench) -> None:
    """The last one may be small."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"x")
    upload.send(2, b"y")
    with refusing(bench.quirks.small_part):
        bench.store.complete(upload.ref, upload.request())


def test_a_wrong_size_is_refused(bench: Bench) -> None:
    """MpuObjectSize: a part that is missing at the end is noticed."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"xyz")
    with refusing(bench.quirks.wrong_size):
        bench.store.complete(upload.ref, replace(upload.request(), size=4))


def test_a_wrong_checksum_of_the_whole_is_refused(bench: Bench) -> None:
    """Where the upload has one."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"xyz")
    request = upload.request()
    wrong = None if request.full_crc32 is None else request.full_crc32 ^ 1
    with refusing(bench.quirks.wrong_full_crc):
        bench.store.complete(upload.ref, replace(request, full_crc32=wrong))


def test_a_condition_on_complete_protects_what_is_there(bench: Bench) -> None:
    """It belongs to the request that makes the object visible; the upload stays open."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"second")
    bench.store.put(upload.ref, BytesBody(b"first"), digests_of(b"first"), PLAIN, if_none_match=False)
    with refusing(bench.quirks.taken_key_on_complete):
        bench.store.complete(upload.ref, upload.request(if_none_match=True))
    assert (bench.window.read(upload.ref) == b"first") is (bench.quirks.taken_key_on_complete is not None)


def test_a_condition_on_complete_lets_a_new_key_pass(bench: Bench) -> None:
    """Nothing is there."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"bytes")
    bench.store.complete(upload.ref, upload.request(if_none_match=True))
    assert bench.window.read(upload.ref) == b"bytes"


def test_a_repeated_complete_changes_nothing(bench: Bench) -> None:
    """The same answer, or an upload that is gone."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"bytes")
    bench.store.complete(upload.ref, upload.request())
    with refusing(bench.quirks.repeated_complete):
        bench.store.complete(upload.ref, upload.request())
    assert bench.window.read(upload.ref) == b"bytes"


def test_nothing_is_visible_before_complete(bench: Bench) -> None:
    """The old object stays whole until the new one is."""
    upload = Uploading(bench.store, bench.ref())
    bench.store.put(upload.ref, BytesBody(b"old"), digests_of(b"old"), PLAIN, if_none_match=False)
    upload.send(1, b"new")
    assert bench.window.read(upload.ref) == b"old"


def test_open_uploads_of_a_key_are_listed(bench: Bench) -> None:
    """Three of this key, page by page, each with time and identity; the key is compared as a whole."""
    ref = bench.ref()
    ours = [Uploading(bench.store, ref).id for _ in range(3)]
    deeper = Uploading(bench.store, ObjectRef(ref.bucket, ref.key + "/deeper")).id
    stranger = Uploading(bench.store, bench.ref()).id
    listed = _uploads(bench, ref)
    assert sorted(item.upload_id for item in listed if item.key == ref.key) == sorted(ours)
    assert stranger not in [item.upload_id for item in listed]
    assert {item.key for item in listed if item.upload_id == deeper} == {ref.key + "/deeper"}
    assert all(item.initiated is not None and item.initiated.tzinfo is not None for item in listed)
    assert None not in {item.initiator for item in listed}


def test_a_finished_upload_is_not_open(bench: Bench) -> None:
    """It is in no listing."""
    upload = Uploading(bench.store, bench.ref())
    upload.send(1, b"x")
    bench.store.complete(upload.ref, upload.request())
    assert _uploads(bench, upload.ref) == []
