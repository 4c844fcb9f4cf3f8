"""CompleteMultipartUpload: every claim of the client is checked before the object appears."""

import hashlib
import itertools
from dataclasses import dataclass, replace
from xml.etree import ElementTree as ET

from isal import isal_zlib

from tests.model_server.blobs import Content
from tests.model_server.checksums import (
    ALGORITHMS,
    BY_HEADER,
    Algorithm,
    composite,
    decode_digest,
    digest_of,
    encode_digest,
)
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.operations.conditions import check_write, claim_write
from tests.model_server.operations.customer import check_upload_key
from tests.model_server.operations.traits import etag_for, new_version, opaque, version_id_header
from tests.model_server.state import CompletedUpload, ObjectChecksum, StoredPart, StoredVersion, Upload
from tests.model_server.store import no_such_upload
from tests.model_server.wire import Response
from tests.model_server.xml_text import document, node, number_of, parse, text_of


@dataclass(frozen=True)
class _Listed:
    """A part as the client lists it."""

    number: int
    etag: str
    checksums: dict[Algorithm, str]


def admit_complete(ex: Exchange) -> None:
    """The upload is open, or was finished and the store repeats its answer."""
    if _repeatable(ex) is None:
        upload = ex.world.store.upload(ex.bucket, ex.key, ex.head.parameter("uploadId"))
        check_upload_key(ex, upload.traits, optional=upload.algorithm is None)
        claim_write(ex)


def _repeatable(ex: Exchange) -> CompletedUpload | None:
    if ex.world.profile.complete_repeat == "gone":
        return None
    return ex.world.store.completed(ex.bucket, ex.key, ex.head.parameter("uploadId"))


def complete_upload(ex: Exchange) -> Response:
    """Assemble the object, or repeat the answer of the Complete that did."""
    listed = _listed_parts(ex.body.data)
    if (finished := _repeatable(ex)) is not None:
        return _answer(ex, finished.version)
    upload = ex.world.store.upload(ex.bucket, ex.key, ex.head.parameter("uploadId"))
    with upload.lock:
        # Another Complete may have won the lock in the meantime.
        if not upload.open:
            finished = _repeatable(ex)
            if finished is None:
                raise no_such_upload(upload.upload_id)
            return _answer(ex, finished.version)
        version = _assemble(ex, upload, listed)
    ex.touched = version
    answer = _answer(ex, version)
    if ex.world.profile.empty_complete_etag:
        # The store this imitates answers an empty ETag the first time only.
        quoted = f'"{version.etag}"'.encode()
        answer.body = answer.body.replace(b"<ETag>" + quoted + b"</ETag>", b"<ETag></ETag>")
    return answer


def _listed_parts(data: bytes) -> list[_Listed]:
    entries = parse(data, "CompleteMultipartUpload").findall("Part")
    if not entries:
        raise S3Error("MalformedXML", "You must specify at least one part")
    listed = [
        _Listed(number_of(item, "PartNumber"), text_of(item, "ETag").strip('"'), _checksums(item)) for item in entries
    ]
    numbers = [item.number for item in listed]
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        raise S3Error("InvalidPartOrder", "The list of parts was not in ascending order.")
    return listed


def _checksums(entry: ET.Element) -> dict[Algorithm, str]:
    return {item: text for item in ALGORITHMS.values() if (text := text_of(entry, item.element))}


def _assemble(ex: Exchange, upload: Upload, listed: list[_Listed]) -> StoredVersion:
    parts = [_checked_part(ex, upload, item) for item in listed]
    _check_sizes(ex, parts)
    version = new_version(ex, upload)
    version.multipart = True
    version.content = Content(tuple(part.blob for part in parts))
    version.part_numbers = tuple(part.number for part in parts)
    digest = hashlib.md5(b"".join(_etag_bytes(part) for part in parts)).hexdigest()
    version.etag = etag_for(ex, f"{digest}-{len(parts)}", encrypted=opaque(version.traits))
    version.checksum = _object_checksum(ex, upload, parts)
    if version.checksum is not None and version.checksum.type == "COMPOSITE":
        version.part_digests = tuple(part.checksum[1] for part in parts if part.checksum is not None)
    store = ex.world.store
    with store.lock:
        check_write(ex)
        store.put(ex.bucket, version)
        home = store.bucket(ex.bucket)
        del home.uploads[upload.upload_id]
        home.completed[upload.upload_id] = CompletedUpload(upload.key, replace(version))
    upload.open = False
    used = {part.number for part in parts}
    for part in upload.parts.values():
        if part.number not in used:
            part.blob.delete()
    return version


def _etag_bytes(part: StoredPart) -> bytes:
    return bytes.fromhex(part.etag)


def _checked_part(ex: Exchange, upload: Upload, listed: _Listed) -> StoredPart:
    part = upload.parts.get(listed.number)
    fields = {"UploadId": upload.upload_id, "PartNumber": str(listed.number), "ETag": listed.etag}
    refusal = S3Error("InvalidPart", "One or more of the specified parts could not be found.", fields=fields)
    if part is None or part.etag != listed.etag:
        raise refusal
    if not ex.world.profile.flexible_checksums:
        return part
    if upload.checksum_type == "COMPOSITE" and upload.algorithm not in listed.checksums:
        name = upload.algorithm.name.lower() if upload.algorithm else ""
        message = f"The upload was created using a {name} checksum. The complete request must include it for each part."
        raise S3Error("InvalidRequest", message, fields=fields)
    known = {part.checksum[0]: encode_digest(part.checksum[1])} if part.checksum else {}
    if any(known.get(item) != text for item, text in listed.checksums.items()):
        raise refusal
    return part


def _check_sizes(ex: Exchange, parts: list[StoredPart]) -> None:
    profile = ex.world.profile
    for part in parts[:-1]:
        if part.size < profile.min_part_size:
            fields = {
                "ProposedSize": str(part.size),
                "MinSizeAllowed": str(profile.min_part_size),
                "PartNumber": str(part.number),
                "ETag": part.etag,
            }
            message = "Your proposed upload is smaller than the minimum allowed size"
            raise S3Error("EntityTooSmall", message, fields=fields)
    total = sum(part.size for part in parts)
    if total > profile.max_object_size:
        raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
    declared = ex.head.header("x-amz-mp-object-size")
    if declared and declared != str(total):
        message = (
            f"The provided 'x-amz-mp-object-size' header value {declared} does not match what was uploaded: {total}"
        )
        raise S3Error("InvalidRequest", message)


def _object_checksum(ex: Exchange, upload: Upload, parts: list[StoredPart]) -> ObjectChecksum | None:
    """The checksum of the object, compared with the one the client claims."""
    if not ex.world.profile.flexible_checksums:
        return None
    claimed = {BY_HEADER[name]: value for name, value in ex.head.headers.items() if name in BY_HEADER}
    kind = ex.head.header("x-amz-checksum-type").upper()
    wrong_type = kind not in ("", upload.checksum_type) and ex.world.profile.full_object_checksums
    if wrong_type or set(claimed) - {upload.algorithm}:
        raise S3Error("InvalidRequest", "The checksum type or algorithm is not the one the upload was created with.")
    if upload.algorithm is None or upload.checksum_type is None:
        return None
    if upload.checksum_type == "COMPOSITE":
        digests = [part.checksum[1] for part in parts if part.checksum is not None]
        checksum = ObjectChecksum(upload.algorithm, composite(upload.algorithm, digests), "COMPOSITE")
        matches = all(value in (checksum.value, checksum.value.partition("-")[0]) for value in claimed.values())
    else:
        digest = _whole_digest(upload.algorithm, parts)
        checksum = ObjectChecksum(upload.algorithm, encode_digest(digest), "FULL_OBJECT")
        matches = all(decode_digest(value, upload.algorithm) == digest for value in claimed.values())
    # A store without full-object checksums never compares one with its composite.
    if not matches and ex.world.profile.full_object_checksums:
        raise S3Error("BadDigest", f"The {upload.algorithm.name} you specified did not match the calculated checksum.")
    return checksum


def _whole_digest(algorithm: Algorithm, parts: list[StoredPart]) -> bytes:
    """The digest of the concatenation from the stored bytes, so that nothing is taken on trust."""
    if all(part.blob.path is not None for part in parts):
        content = Content(tuple(part.blob for part in parts))
        return digest_of(algorithm, content.blocks(0, content.size))
    if algorithm.name != "CRC32":
        raise S3Error("NotImplemented", "A server that discards bytes can combine only CRC32.")
    value = 0
    for part in parts:
        assert part.checksum is not None
        value = isal_zlib.crc32_combine(value, int.from_bytes(part.checksum[1], "big"), part.size)
    return value.to_bytes(4, "big")


def _answer(ex: Exchange, version: StoredVersion) -> Response:
    checksum = version.checksum
    known = (
        []
        if checksum is None
        else [
            node(checksum.algorithm.element, checksum.value),
            node("ChecksumType", checksum.type),
        ]
    )
    answer = document(
        "CompleteMultipartUploadResult",
        node("Location", f"/{ex.bucket}/{ex.key}"),
        node("Bucket", ex.bucket),
        node("Key", ex.key),
        node("ETag", f'"{version.etag}"'),
        *known,
    )
    answer.headers |= {**version.traits.encryption, **version_id_header(ex, version)}
    return answer
