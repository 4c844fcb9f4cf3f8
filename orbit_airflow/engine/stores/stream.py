"""The body of a GetObject: exactly the bytes that were asked for, or an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

from botocore.exceptions import IncompleteReadError
from botocore.response import StreamingBody

from orbit_airflow.engine.errors import (
    ConnectionLost,
    Garbled,
    OrbitError,
    PreconditionFailed,
    RequestContext,
    StoreError,
)
from orbit_airflow.engine.model import ByteRange, ObjectInfo, ObjectRef
from orbit_airflow.engine.stores.answers import (
    CONTENT_RANGE,
    Answer,
    checksum_in,
    info_in,
    mapping,
    understanding,
    unquoted,
)


class S3Stream:
    """An ObjectStream over botocore's body."""

    def __init__(self, body: StreamingBody, info: ObjectInfo, length: int, context: RequestContext) -> None:
        self._body = body
        self._info = info
        self._length = length
        self._left = length
        self._context = context

    @property
    def info(self) -> ObjectInfo:
        """As the headers show it."""
        return self._info

    @property
    def length(self) -> int:
        """As promised by Content-Length."""
        return self._length

    def read_into(self, view: memoryview) -> int:
        """As the port says; an early end is a ConnectionLost, since the rest may come another time."""
        wanted, done = min(len(view), self._left), 0
        try:
            while done < wanted:
                count = self._received(view[done:wanted])
                if not count:
                    raise ConnectionLost(f"the body ended {self._left - done} bytes too early", self._context)
                done += count
        except OrbitError:
            self.close()
            raise
        self._left -= done
        return done

    def _received(self, view: memoryview) -> int:
        with mapping(self._context):
            try:
                # Not the override of a checking body: it would hash the bytes a second time.
                return StreamingBody.readinto(self._body, view)  # type: ignore[arg-type]  # any buffer
            except IncompleteReadError:
                return 0

    def close(self) -> None:
        """A connection with bytes left on it is of no use to anybody; one without has been given back already."""
        if self._left:
            self._body.close()
        self._left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def opened(
    answer: Answer, ref: ObjectRef, span: ByteRange | None, if_match: str | None, context: RequestContext
) -> S3Stream:
    """The stream of an answer that is to the letter; else the connection is closed and StoreError raised."""
    body: StreamingBody = answer["Body"]
    try:
        with understanding(context):
            length = int(answer["ContentLength"])
            total = _total_size(answer, span, length, context)
            etag = unquoted(answer.get("ETag"))
            if not etag:
                raise Garbled("the answer has no ETag; it may be an error's page", context)
            if if_match is not None and etag != if_match:
                raise _refused(f"the object's ETag is {etag} and not {if_match}", context)
            version = answer.get("VersionId")
            if ref.version_id is not None and version not in (None, ref.version_id):
                raise Garbled(f"the store answered with version {version}", context)
            # The checksum of a ranged answer, if there is one, is that of a part.
            info = info_in(answer, ref, total, checksum_in(answer) if length == total else None)
    except StoreError:
        body.close()
        raise
    if not length:
        with mapping(context):
            # Nothing will be read: this gives the connection back.
            body.read()
    return S3Stream(body, info, length, context)


def _total_size(answer: Answer, span: ByteRange | None, length: int, context: RequestContext) -> int:
    """The whole object's size. A range must be the one asked for; 200 will do when that is all there is."""
    status, described = answer["ResponseMetadata"]["HTTPStatusCode"], answer.get("ContentRange")
    if span is None:
        if status != 200 or described:
            raise Garbled(f"the whole object was asked for, the answer is {status} {described}", context)
        return length
    if status == 200 and not described and span == ByteRange(0, length):
        return length
    found = CONTENT_RANGE.fullmatch(described or "")
    if status != 206 or found is None:
        raise Garbled(f"{span.header} was asked for, the answer is {status} {described}", context)
    first, last, total = (int(number) for number in found.groups())
    if (first, last + 1) != (span.start, span.stop) or length != span.length or total < span.stop:
        raise Garbled(f"{span.header} was asked for, {described} came with {length} bytes", context)
    return total


def _refused(message: str, context: RequestContext) -> PreconditionFailed:
    return PreconditionFailed(message, replace(context, status=412, code="PreconditionFailed"))
