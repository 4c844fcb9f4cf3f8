"""Operations on single objects."""

import re
import urllib.parse
from dataclasses import replace

from tests.model_server.blobs import Content
from tests.model_server.checksums import digest_of, encode_digest
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.operations.conditions import check_read, check_write, claim_write
from tests.model_server.operations.customer import check_read_key
from tests.model_server.operations.parts import count_header, part_checksum_headers, part_span
from tests.model_server.operations.traits import (
    REDIRECT,
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
from tests.model_server.xml_text import document, iso_time, node, parse, tree

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
    return version_of(ex, ex.bucket, ex.key, ex.head.parameter("versionId"))


def version_of(ex: Exchange, bucket: str, key: str, wanted: str) -> StoredVersion:
    """The version of that name, or without a name the newest; raises as `find_version`."""
    versions = ex.world.store.versions(bucket, key)
    if wanted:
        versions = [item for item in versions if item.version_id == wanted]
        if not versions:
            raise S3Error("NoSuchVersion", "The specified version does not exist.", fields={"VersionId": wanted})
    if not versions:
        raise S3Error("NoSuchKey", "The specified key does not exist.", fields={"Key": key})
    if versions[0].delete_marker:
        headers = {"x-amz-delete-marker": "true", "x-amz-version-id": versions[0].version_id}
        raise S3Error("MethodNotAllowed" if wanted else "NoSuchKey", headers=headers, fields={"Key": key})
    return versions[0]


def get_object(ex: Exchange) -> Response:
    """The bytes of a version, or of one range or part of it; a HEAD gets the same headers and no bytes."""
    version = find_version(ex)
    check_read_key(ex, version.traits)
    check_read(ex, version)
    number = ex.integer("partNumber", 0, 1, ex.world.profile.max_part_number)
    headers = {**version_headers(ex, version), **(count_header(version) if number else {})}
    if number and ex.head.header("range"):
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    span = part_span(version, number) if number else _requested_span(ex, version.size)
    start, stop = span or (0, version.size)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{version.size}"
    if ex.head.header("x-amz-checksum-mode").upper() == "ENABLED":
        headers.update(part_checksum_headers(version, number) if number else {} if span else checksum_headers(version))
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


def put_tagging(ex: Exchange) -> Response:
    """Replace the tags of a version."""
    if ex.declared is None and "content-md5" not in ex.head.headers:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    version, found = find_version(ex), parse(ex.body.data, "Tagging").findall("TagSet/Tag")
    tags = tuple((item.findtext("Key") or "", item.findtext("Value") or "") for item in found)
    if len(tags) > 10 or len({name for name, _ in tags}) != len(tags):
        raise S3Error("InvalidTag", "Object tags cannot be greater than 10, and a key stands once.")
    version.traits = replace(version.traits, tags=tags)
    return Response(headers=version_id_header(ex, version))


def admit_copy(ex: Exchange) -> None:
    """The target may be written; the source is looked at when the work is done."""
    ex.world.store.bucket(ex.bucket)
    for name in ("x-amz-metadata-directive", "x-amz-tagging-directive"):
        if ex.head.header(name, "COPY") not in ("COPY", "REPLACE"):
            raise S3Error("InvalidArgument", f"Unknown {name}.")
    traits_from(ex)
    claim_write(ex)


def copy_object(ex: Exchange) -> Response:
    """A new version of the key with another version's bytes: one part, whatever the source was made of."""
    place, source = copy_source(ex)
    if source.size > ex.world.profile.max_put_size:
        raise S3Error("InvalidRequest", "The specified copy source is larger than the maximum allowable size.")
    check_source(ex, source)
    version = new_version(ex, _copied_traits(ex, source))
    same = place == (ex.bucket, ex.key) and not _named_version(ex)
    if same and ex.head.header("x-amz-metadata-directive", "COPY") == "COPY" and _plain(version, source):
        message = "This copy request is illegal because it is trying to copy an object to itself without changing it."
        raise S3Error("InvalidRequest", message)
    blob, md5 = ex.world.blobs.copy_of(source.content)
    version.content, version.etag = Content((blob,)), etag_for(ex, md5)
    if source.checksum is not None and ex.world.profile.flexible_checksums:
        value = digest_of(source.checksum.algorithm, blob.blocks(0, blob.size))
        version.checksum = ObjectChecksum(source.checksum.algorithm, encode_digest(value), "FULL_OBJECT")
    try:
        with ex.world.store.lock:
            check_write(ex)
            ex.world.store.put(ex.bucket, version)
    except S3Error:
        blob.delete()
        raise
    ex.touched = version
    known = version.checksum
    fields = [node("LastModified", iso_time(version.last_modified)), node("ETag", f'"{version.etag}"')]
    if known is not None:
        fields += [node(known.algorithm.element, known.value), node("ChecksumType", known.type)]
    answer = document("CopyObjectResult", *fields)
    answer.headers |= {**version.traits.encryption, **version_id_header(ex, version)}
    if ex.world.store.bucket(place[0]).versioning:
        answer.headers["x-amz-copy-source-version-id"] = source.version_id
    return answer


def _named_version(ex: Exchange) -> str:
    found = ex.head.header("x-amz-copy-source").partition("?versionId=")[2]
    return urllib.parse.unquote(found)


def copy_source(ex: Exchange) -> tuple[tuple[str, str], StoredVersion]:
    """(bucket, key) and the version that the header names; a literal '?' in a key is percent-encoded there."""
    path = ex.head.header("x-amz-copy-source").partition("?versionId=")[0]
    if not path.isascii():
        raise S3Error("InvalidArgument", "Copy Source must be URL-encoded.")
    bucket, _, key = urllib.parse.unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey")
    owner = ex.head.header("x-amz-source-expected-bucket-owner", ex.world.profile.account_id)
    if owner != ex.world.profile.account_id:
        raise S3Error("AccessDenied", "The bucket is not owned by the expected account.")
    return (bucket, key), version_of(ex, bucket, key, _named_version(ex))


def check_source(ex: Exchange, source: StoredVersion) -> None:
    """The conditions on the source hold."""
    wanted, unless = ex.head.header("x-amz-copy-source-if-match"), ex.head.header("x-amz-copy-source-if-none-match")
    failed = wanted and wanted.strip('"') not in ("*", source.etag)
    if failed or (unless and unless.strip('"') in ("*", source.etag)):
        raise S3Error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold")


def _copied_traits(ex: Exchange, source: StoredVersion) -> ObjectTraits:
    """Class, encryption and ACL of the request alone; metadata and tags as the directives say."""
    given, had = traits_from(ex), source.traits
    if ex.head.header("x-amz-metadata-directive", "COPY") == "COPY":
        redirect = {name: value for name, value in given.system.items() if name == REDIRECT}
        kept = {name: value for name, value in had.system.items() if name != REDIRECT}
        given = replace(given, metadata=had.metadata, system={**kept, **redirect})
    if ex.head.header("x-amz-tagging-directive", "COPY") == "COPY":
        given = replace(given, tags=had.tags)
    if ex.world.profile.new_metadata_drop_tags and ex.head.header("x-amz-metadata-directive") == "REPLACE":
        given = replace(given, tags=())
    return given


def _plain(version: StoredVersion, source: StoredVersion) -> bool:
    return version.traits.storage_class == source.traits.storage_class and not version.traits.encryption
