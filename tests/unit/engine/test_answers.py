"""Answers of a store, to the letter: streams that are what was asked for, restore states, keys, damaged XML."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.response import StreamingBody

from orbit_airflow.engine.errors import ConnectionLost, PreconditionFailed, RequestContext, Unavailable
from orbit_airflow.engine.model import ByteRange, Checksum, ObjectPart, ObjectRef, RestoreState
from orbit_airflow.engine.stores.answers import make_legible, object_part_in, page_in, restore_state, upload_key
from orbit_airflow.engine.stores.stream import opened

REF = ObjectRef("bucket", "key")
CONTEXT = RequestContext("GetObject", "bucket", "key")


class Raw(io.BytesIO):
    """A line that remembers whether it was closed."""


def _answer(data: bytes = b"0123456789", status: int = 200, **fields: Any) -> dict[str, Any]:
    answer = {
        "Body": StreamingBody(Raw(data), len(data)),
        "ContentLength": len(data),
        "ETag": '"etag"',
        "ResponseMetadata": {"HTTPStatusCode": status},
        **fields,
    }
    return {name: value for name, value in answer.items() if value is not None}


PART: dict[str, Any] = {"data": b"234", "status": 206, "ContentRange": "bytes 2-4/10"}


def test_a_right_answer_is_taken() -> None:
    """The whole, a range, and a range that is the whole."""
    assert opened(_answer(), REF, None, None, CONTEXT).length == 10
    ranged = opened(_answer(**PART), REF, ByteRange(2, 5), "etag", CONTEXT)
    assert (ranged.length, ranged.info.size) == (3, 10)
    assert opened(_answer(), REF, ByteRange(0, 10), None, CONTEXT).length == 10


@pytest.mark.parametrize(
    ("answer", "span"),
    [
        ({"ContentLength": None}, None),
        ({"ContentLength": "many"}, None),
        ({"ETag": None}, None),
        ({"ETag": '""'}, None),
        ({"status": 206, "ContentRange": "bytes 0-9/10"}, None),
        ({"ContentRange": "bytes 0-9/10"}, None),
        ({}, ByteRange(2, 5)),
        ({}, ByteRange(0, 9)),
        ({**PART, "ContentRange": None}, ByteRange(2, 5)),
        ({**PART, "ContentRange": "bytes 3-5/10"}, ByteRange(2, 5)),
        ({**PART, "ContentRange": "bytes 2-4/*"}, ByteRange(2, 5)),
        ({**PART, "ContentRange": "bytes 2-4/4"}, ByteRange(2, 5)),
        ({**PART, "ContentRange": "bytes 2-5/10"}, ByteRange(2, 6)),
        ({**PART, "data": b"23"}, ByteRange(2, 5)),
        ({**PART, "status": 200}, ByteRange(2, 5)),
    ],
)
def test_an_answer_that_is_not_to_the_letter_is_unavailable(answer: dict[str, Any], span: ByteRange | None) -> None:
    """And its connection is closed: the bytes on it are nobody's."""
    given = _answer(**answer)
    with pytest.raises(Unavailable):
        opened(given, REF, span, None, CONTEXT)
    assert given["Body"]._raw_stream.closed


def test_another_etag_or_version_is_refused() -> None:
    """Also where the store ignores If-Match and versionId."""
    with pytest.raises(PreconditionFailed):
        opened(_answer(), REF, None, "other", CONTEXT)
    pinned = ObjectRef("bucket", "key", "v1")
    with pytest.raises(Unavailable, match="version v2"):
        opened(_answer(VersionId="v2"), pinned, None, None, CONTEXT)
    assert opened(_answer(VersionId="v1"), pinned, None, None, CONTEXT).info.version_id == "v1"


@pytest.mark.parametrize("end", [0, 4, 9])
def test_a_body_that_ends_too_early_is_an_error(end: int) -> None:
    """Never a short read that looks like the end."""
    answer = _answer()
    answer["Body"] = StreamingBody(Raw(b"0123456789"[:end]), 10)
    stream = opened(answer, REF, None, None, CONTEXT)
    with pytest.raises(ConnectionLost, match="too early"):
        stream.read_into(memoryview(bytearray(10)))


def test_bytes_behind_the_promised_end_are_not_read() -> None:
    """The length is the answer's word."""
    answer = _answer()
    answer["Body"] = StreamingBody(Raw(b"0123456789trailing"), 10)
    view = memoryview(bytearray(18))
    with opened(answer, REF, None, None, CONTEXT) as stream:
        assert stream.read_into(view) == 10
        assert stream.read_into(view) == 0


def test_a_broken_line_is_a_lost_connection() -> None:
    """And the stream is closed."""

    class Broken(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            raise ConnectionResetError("reset")

    answer = _answer()
    answer["Body"] = StreamingBody(Broken(), 10)
    stream = opened(answer, REF, None, None, CONTEXT)
    with pytest.raises((ConnectionLost, Unavailable)):
        stream.read_into(memoryview(bytearray(10)))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ('ongoing-request="true"', RestoreState(ongoing=True)),
        (
            'ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"',
            RestoreState(False, datetime(2012, 12, 21, tzinfo=UTC)),
        ),
        ('ongoing-request="false"', RestoreState(ongoing=False)),
    ],
)
def test_a_restore_state_is_read(header: str | None, expected: RestoreState | None) -> None:
    """None: was never asked for."""
    assert restore_state(header) == expected


@pytest.mark.parametrize("header", ["yes", 'ongoing-request="maybe"', 'ongoing-request="false", expiry-date="soon"'])
def test_a_restore_state_that_says_nothing_is_an_error(header: str) -> None:
    """Not a guess."""
    with pytest.raises(ValueError, match=r"x-amz-restore|date|parse"):
        restore_state(header)


@pytest.mark.parametrize(
    ("shown", "prefix", "key"),
    [
        ("a%2Bb+c", "a+b", "a+b c"),
        ("a+b", "a+b", "a+b"),
        ("50%25", "50%25", "50%25"),
        ("50%2525", "50%25", "50%25"),
        ("p%2Bq%20r", "p+q", "p+q r"),
    ],
)
def test_a_key_of_an_open_upload_is_found_by_its_prefix(shown: str, prefix: str, key: str) -> None:
    """Whether the store has encoded it or not, and whatever it says about that."""
    assert upload_key(shown, prefix) == key


def test_control_characters_do_not_make_an_answer_an_error() -> None:
    """What XML cannot carry is replaced, as it is and as a reference; botocore's 500 is taken back."""
    answer: dict[str, Any] = {"status_code": 500, "body": b"<A><Key>\x01&#x1;&#31;&#x0B;&#xD;&#10;\t</Key></A>"}
    make_legible(answer)
    damaged = "\ufffd".encode()
    assert answer == {"status_code": 200, "body": b"<A><Key>" + damaged * 4 + b"&#xD;&#10;\t</Key></A>"}
    for body in (b"<Error><Key>\x01</Key></Error>", b"plain"):
        answer = {"status_code": 500, "body": body}
        make_legible(answer)
        assert answer["status_code"] == 500


def test_a_damaged_key_in_a_listing_is_an_error() -> None:
    """It would be the name of another object; encoded, U+FFFD is a character like any other."""
    entry = {"Size": 1, "ETag": '"e"'}
    with pytest.raises(ValueError, match="no valid XML"):
        page_in({"EncodingType": "url", "Contents": [{**entry, "Key": "a\ufffd"}]})
    page = page_in({"EncodingType": "url", "Contents": [{**entry, "Key": "a%EF%BF%BD"}]})
    assert page.objects[0].key == "a\ufffd"


def _part(**fields: Any) -> dict[str, Any]:
    return {"ContentLength": 3, "PartsCount": 4, "ETag": '"etag-4"', **fields}


def test_an_answer_about_a_part() -> None:
    """With the range or without, and with the checksum of a part of a COMPOSITE one."""
    bare = ObjectPart(2, 4, 3, None, "etag-4")
    assert object_part_in(_part(), 2, CONTEXT) == bare
    assert object_part_in(_part(ContentRange="bytes 3-5/12"), 2, CONTEXT) == bare
    found = object_part_in(_part(ChecksumCRC32="y/Q5Jg==", ChecksumType="COMPOSITE"), 2, CONTEXT)
    assert found == ObjectPart(2, 4, 3, Checksum("CRC32", "y/Q5Jg=="), "etag-4")


@pytest.mark.parametrize(
    "fields",
    [
        {"PartsCount": None},
        {"PartsCount": 0},
        {"ContentRange": "bytes 0-2/3"},
    ],
)
def test_an_answer_that_is_not_about_a_part(fields: dict[str, Any]) -> None:
    """Without a count, or with the whole object's range although there are several parts."""
    assert object_part_in(_part(**fields), 1, CONTEXT) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"ChecksumCRC32": "y/Q5Jg==-4", "ChecksumType": "COMPOSITE"},
        {"ChecksumCRC32": "y/Q5Jg==-4"},
        {"ChecksumCRC64NVME": "rosUhgp5mIg=", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumCRC32": "y/Q5Jg=="},
    ],
)
def test_a_checksum_of_other_bytes_is_not_the_part_s(fields: dict[str, Any]) -> None:
    """Neither that of the parts' checksums nor, of several parts, one over the full object."""
    part = object_part_in(_part(**fields), 2, CONTEXT)
    assert part is not None
    assert part.checksum is None


def test_a_part_that_contradicts_itself_is_no_answer() -> None:
    """Another length than that of the range."""
    with pytest.raises(Unavailable, match="has 3 bytes"):
        object_part_in(_part(ContentRange="bytes 3-6/12"), 2, CONTEXT)
