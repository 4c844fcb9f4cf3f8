"""Operations on single objects."""

import re

from tests.model_server.blobs import Content
from tests.model_server.checksums import encode_digest
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.operations.conditions import check_read, check_write, claim_write
from tests.model_server.operations.customer import check_read_key
from tests.model_server.operations.traits import (
    check_locked_body,
    checksum_headers,
    etag_for,
    new_version,
    opaque,
    traits_from,
    version_headers,
    version_id_header,
)
from tests.model_server.state import ObjectChecksum, ObjectTraits, StoredVersion
from tests.model_server.wire import Response
from tests.model_server.xml_text import document, node, tree

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


def admit_put(ex: Exchange) -> None:
    """Bucket, size, headers and condition allow the write."""
    ex.world.store.bucket(ex.bucket)
    if ex.record.bytes_expected > ex.world.profile.max_put_size:
        raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    traits_from(ex)
    check_locked_body(ex)
    claim_write(ex)


def put_object(ex: Exchange) -> Response:
    """Store the received body as the newest version."""
    assert ex.body.blob is not None
    version = new_version(ex, traits_from(ex))
    version.content = Content((ex.body.blob,))
    version.etag = etag_for(ex, ex.body.md5, encrypted=opaque(version.traits))
    if ex.declared is not None:
        value = encode_digest(ex.body.digests[ex.declared])
        version.checksum = ObjectChecksum(ex.declared, value, "FULL_OBJECT")
    try:
        with ex.world.store.lock:
            check_write(ex)
            ex.world.store.put(ex.bucket, version)
    except S3Error:
        ex.body.blob.delete()
        raise
    ex.touched = version
    headers = {"ETag": f'"{version.etag}"', **version.traits.encryption}
    return Response(headers={**headers, **checksum_headers(version), **version_id_header(ex, version)})


def find_version(ex: Exchange) -> StoredVersion:
    """The version a read is about; raises NoSuchKey, NoSuchVersion or MethodNotAllowed."""
    versions = ex.world.store.versions(ex.bucket, ex.key)
    wanted = ex.head.parameter("versionId")
    if wanted:
        versions = [item for item in versions if item.version_id == wanted]
        if not versions:
            raise S3Error("NoSuchVersion", "The specified version does not exist.", fields={"VersionId": wanted})
    if not versions:
        raise S3Error("NoSuchKey", "The specified key does not exist.", fields={"Key": ex.key})
    if versions[0].delete_marker:
        headers = {"x-amz-delete-marker": "true", "x-amz-version-id": versions[0].version_id}
        raise S3Error("MethodNotAllowed" if wanted else "NoSuchKey", headers=headers, fields={"Key": ex.key})
    return versions[0]


def get_object(ex: Exchange) -> Response:
    """The bytes of a version, or of one range of it; a HEAD gets the same headers and no bytes."""
    version = find_version(ex)
    check_read_key(ex, version.traits)
    check_read(ex, version)
    headers = version_headers(ex, version)
    span = _requested_span(ex, version.size)
    start, stop = span or (0, version.size)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{version.size}"
    elif ex.head.header("x-amz-checksum-mode").upper() == "ENABLED":
        headers.update(checksum_headers(version))
    status = 200 if span is None else 206
    return Response(status, headers, stream=version.content.blocks(start, stop), stream_length=stop - start)


def _requested_span(ex: Exchange, size: int) -> tuple[int, int] | None:
    text = ex.head.header("range")
    if not text:
        return None
    match = _RANGE.match(text)
    if match is None or not (match[1] or match[2]):
        raise S3Error("NotImplemented", f"Only one plain byte range is modelled, not: {text}")
    if match[1]:
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    else:
        start, stop = max(0, size - int(match[2])), size
    if start >= size or start >= stop:
        fields = {"RangeRequested": text, "ActualObjectSize": str(size)}
        message = "The requested range is not satisfiable"
        raise S3Error("InvalidRange", message, headers={"Content-Range": f"bytes */{size}"}, fields=fields)
    return start, stop


def delete_object(ex: Exchange) -> Response:
    """Remove one version, or hide the key behind a delete marker where the bucket keeps versions."""
    store = ex.world.store
    home = store.bucket(ex.bucket)
    wanted = ex.head.parameter("versionId")
    if wanted or not home.versioning:
        removed = store.remove(ex.bucket, ex.key, wanted or "null")
        headers = {"x-amz-version-id": wanted} if wanted else {}
        if removed is not None and removed.delete_marker:
            headers["x-amz-delete-marker"] = "true"
        return Response(204, headers)
    marker = new_version(ex, ObjectTraits())
    marker.delete_marker = True
    store.put(ex.bucket, marker)
    return Response(204, {"x-amz-delete-marker": "true", "x-amz-version-id": marker.version_id})


def get_tagging(ex: Exchange) -> Response:
    """The tags of a version."""
    version = find_version(ex)
    tags = [tree("Tag", node("Key", name), node("Value", value)) for name, value in version.traits.tags]
    answer = document("Tagging", tree("TagSet", *tags))
    answer.headers.update(version_id_header(ex, version))
    return answer
