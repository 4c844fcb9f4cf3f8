"""UploadPartCopy: a part whose bytes are a range of another object."""

import hashlib
import re

from tests.model_server.checksums import digest_of, encode_digest
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.operations.conditions import refuse_conditions
from tests.model_server.operations.customer import check_upload_key
from tests.model_server.operations.objects import check_source, copy_source
from tests.model_server.operations.traits import etag_for, opaque
from tests.model_server.state import StoredPart, StoredVersion
from tests.model_server.store import no_such_upload
from tests.model_server.wire import Response
from tests.model_server.xml_text import document, iso_time, node

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def admit_copied_part(ex: Exchange) -> None:
    """Number, upload and key fit; the source is looked at when the work is done."""
    if ex.integer("partNumber", 0, 1, ex.world.profile.max_part_number) == 0:
        raise S3Error("InvalidArgument", "partNumber is missing.")
    upload = ex.world.store.upload(ex.bucket, ex.key, ex.head.parameter("uploadId"))
    refuse_conditions(ex)
    check_upload_key(ex, upload.traits)


def copy_part(ex: Exchange) -> Response:
    """Keep the range as a part, with the checksum that the upload was begun with."""
    (bucket, _), source = copy_source(ex)
    check_source(ex, source)
    start, stop = _span(ex, source)
    upload = ex.world.store.upload(ex.bucket, ex.key, ex.head.parameter("uploadId"))
    writer, digest = ex.world.blobs.create(), hashlib.md5()
    for block in source.content.blocks(start, stop):
        digest.update(block)
        writer.write(block)
    blob, number = writer.finish(), int(ex.head.parameter("partNumber"))
    algorithm = upload.algorithm
    checksum = (algorithm, digest_of(algorithm, blob.blocks(0, blob.size))) if algorithm is not None else None
    etag = etag_for(ex, digest.hexdigest(), encrypted=opaque(upload.traits))
    part = StoredPart(number, blob, etag, checksum, ex.world.store.now())
    with upload.lock:
        if not upload.open:
            blob.delete()
            raise no_such_upload(upload.upload_id)
        replaced = upload.parts.get(number)
        upload.parts[number] = part
    if replaced is not None:
        replaced.blob.delete()
    ex.touched = part
    known = [node(checksum[0].element, encode_digest(checksum[1]))] if checksum is not None else []
    answer = document(
        "CopyPartResult", node("LastModified", iso_time(part.last_modified)), node("ETag", f'"{part.etag}"'), *known
    )
    if ex.world.store.bucket(bucket).versioning:
        answer.headers["x-amz-copy-source-version-id"] = source.version_id
    return answer


def _span(ex: Exchange, source: StoredVersion) -> tuple[int, int]:
    """The range within the source; all of it without one."""
    text, profile = ex.head.header("x-amz-copy-source-range"), ex.world.profile
    start, stop = 0, source.size
    if text:
        match = _RANGE.fullmatch(text)
        if match is None or not int(match[1]) <= int(match[2]) < source.size:
            raise S3Error("InvalidArgument", f"Range specified is not valid for source object of size: {source.size}")
        if source.size <= profile.min_part_size:
            raise S3Error("InvalidRequest", "A range of a source that is no larger than a part cannot be copied.")
        start, stop = int(match[1]), int(match[2]) + 1
    if stop - start > profile.max_part_size:
        raise S3Error("InvalidRequest", "The specified copy source is larger than the maximum allowable size.")
    return start, stop
