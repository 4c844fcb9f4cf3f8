"""Operations on open multipart uploads."""

from datetime import UTC, datetime, timedelta

from tests.model_server.checksums import Algorithm, ChecksumType, algorithm_named, encode_digest
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.operations.conditions import refuse_conditions
from tests.model_server.operations.customer import check_upload_key
from tests.model_server.operations.traits import check_locked_body, etag_for, opaque, traits_from
from tests.model_server.state import StoredPart, Upload
from tests.model_server.store import fresh_id, no_such_upload
from tests.model_server.wire import Response
from tests.model_server.xml_text import document, encoding_of, http_time, iso_time, key_text, node, person, tree

_PAGE = 1000


def admit_create(ex: Exchange) -> None:
    """The bucket exists and the headers say nothing impossible."""
    ex.world.store.bucket(ex.bucket)
    refuse_conditions(ex)
    traits_from(ex)
    _checksum_wish(ex)


def create_upload(ex: Exchange) -> Response:
    """A new upload with its own id."""
    algorithm, kind = _checksum_wish(ex)
    store = ex.world.store
    upload = Upload(fresh_id(), ex.key, ex.identity, store.now(), traits_from(ex), algorithm, kind)
    with store.lock:
        store.bucket(ex.bucket).uploads[upload.upload_id] = upload
    ex.record.upload_id = upload.upload_id
    answer = document(
        "InitiateMultipartUploadResult",
        node("Bucket", ex.bucket),
        node("Key", ex.key),
        node("UploadId", upload.upload_id),
    )
    answer.headers.update(upload.traits.encryption)
    if algorithm is not None and kind is not None:
        answer.headers |= {"x-amz-checksum-algorithm": algorithm.name, "x-amz-checksum-type": kind}
    answer.headers.update(abort_headers(ex, upload))
    return answer


def _checksum_wish(ex: Exchange) -> tuple[Algorithm | None, ChecksumType | None]:
    name, kind = ex.head.header("x-amz-checksum-algorithm"), ex.head.header("x-amz-checksum-type").upper()
    if not ex.world.profile.flexible_checksums:
        return None, None
    if not name:
        if kind:
            raise S3Error("InvalidRequest", "x-amz-checksum-type needs x-amz-checksum-algorithm.")
        return None, None
    algorithm = algorithm_named(name)
    for possible in algorithm.types:
        if kind in ("", possible):
            whole = ex.world.profile.full_object_checksums or "COMPOSITE" not in algorithm.types
            return algorithm, possible if whole else "COMPOSITE"
    raise S3Error("InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm.name} algorithm.")


def abort_headers(ex: Exchange, upload: Upload) -> dict[str, str]:
    """When the bucket's lifecycle will abort the upload, if a rule says so."""
    rules = ex.world.store.bucket(ex.bucket).abort_rules
    matching = [rule for rule in rules if rule.enabled and upload.key.startswith(rule.prefix)]
    if not matching:
        return {}
    rule = min(matching, key=lambda item: item.days)
    # S3 rounds up to the next midnight UTC.
    day = (upload.initiated + timedelta(days=rule.days + 1)).date()
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return {"x-amz-abort-date": http_time(moment), "x-amz-abort-rule-id": rule.rule_id}


def admit_part(ex: Exchange) -> None:
    """The part may be sent: number, upload, size and checksum algorithm fit."""
    profile = ex.world.profile
    number = ex.integer("partNumber", 0, 1, profile.max_part_number)
    if number == 0:
        raise S3Error("InvalidArgument", "partNumber is missing.")
    upload = ex.world.store.upload(ex.bucket, ex.key, ex.head.parameter("uploadId"))
    refuse_conditions(ex)
    check_upload_key(ex, upload.traits)
    check_locked_body(ex)
    if ex.record.bytes_expected > profile.max_part_size:
        raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    if upload.algorithm is not None and ex.declared is not upload.algorithm:
        actual = "null" if ex.declared is None else ex.declared.name.lower()
        expected = upload.algorithm.name.lower()
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}",
        )


def upload_part(ex: Exchange) -> Response:
    """Keep the received part; it replaces an earlier one of the same number."""
    assert ex.body.blob is not None
    checksum = (ex.declared, ex.body.digests[ex.declared]) if ex.declared is not None else None
    number = int(ex.head.parameter("partNumber"))
    part = StoredPart(number, ex.body.blob, ex.body.md5, checksum, ex.world.store.now())
    try:
        upload = ex.world.store.upload(ex.bucket, ex.key, ex.head.parameter("uploadId"))
        with upload.lock:
            if not upload.open:
                raise no_such_upload(upload.upload_id)
            part.etag = etag_for(ex, part.etag, encrypted=opaque(upload.traits))
            replaced = upload.parts.get(number)
            upload.parts[number] = part
    except S3Error:
        ex.body.blob.delete()
        raise
    if replaced is not None:
        replaced.blob.delete()
    ex.touched = part
    return Response(headers={"ETag": f'"{part.etag}"', **_part_checksum_header(part), **upload.traits.encryption})


def _part_checksum_header(part: StoredPart) -> dict[str, str]:
    return {} if part.checksum is None else {part.checksum[0].header: encode_digest(part.checksum[1])}


def abort_upload(ex: Exchange) -> Response:
    """Forget the upload and its parts."""
    store = ex.world.store
    upload = store.upload(ex.bucket, ex.key, ex.head.parameter("uploadId"))
    with upload.lock:
        if not upload.open:
            raise no_such_upload(upload.upload_id)
        upload.open = False
        with store.lock:
            store.bucket(ex.bucket).uploads.pop(upload.upload_id, None)
        for part in upload.parts.values():
            part.blob.delete()
    return Response(204)


def list_parts(ex: Exchange) -> Response:
    """One page of the parts; the markers are part numbers."""
    upload = ex.world.store.upload(ex.bucket, ex.key, ex.head.parameter("uploadId"))
    check_upload_key(ex, upload.traits, optional=upload.algorithm is None)
    encoding = encoding_of(ex.head.parameter("encoding-type"))
    most = min(ex.integer("max-parts", _PAGE, 0, 2**31), ex.world.profile.max_parts_page)
    marker = ex.integer("part-number-marker", 0, 0, 2**31)
    with upload.lock:
        behind = [upload.parts[number] for number in sorted(upload.parts) if number > marker]
    page, more = behind[:most], len(behind) > most > 0
    fields = [
        node("Bucket", ex.bucket),
        node("Key", key_text(ex.key, encoding)),
        node("UploadId", upload.upload_id),
        person("Initiator", upload.initiator),
        person("Owner", ex.world.owner),
        node("StorageClass", upload.traits.storage_class),
        node("PartNumberMarker", marker),
        node("NextPartNumberMarker", page[-1].number if page else 0),
        node("MaxParts", most),
        node("IsTruncated", more),
    ]
    if upload.algorithm is not None and upload.checksum_type is not None:
        fields += [node("ChecksumAlgorithm", upload.algorithm.name), node("ChecksumType", upload.checksum_type)]
    answer = document("ListPartsResult", *fields, *(_part_entry(part) for part in page))
    answer.headers.update(abort_headers(ex, upload))
    return answer


def _part_entry(part: StoredPart) -> str:
    checksum = [] if part.checksum is None else [node(part.checksum[0].element, encode_digest(part.checksum[1]))]
    return tree(
        "Part",
        node("PartNumber", part.number),
        node("LastModified", iso_time(part.last_modified)),
        node("ETag", f'"{part.etag}"'),
        node("Size", part.size),
        *checksum,
    )


def list_uploads(ex: Exchange) -> Response:
    """One page of the open uploads by key and time of initiation."""
    if ex.world.profile.list_uploads_denied:
        raise S3Error("AccessDenied", "Access Denied")
    if ex.head.has_parameter("delimiter"):
        raise S3Error("NotImplemented", "A delimiter of uploads is not modelled.")
    prefix = ex.head.parameter("prefix")
    encoding = encoding_of(ex.head.parameter("encoding-type"))
    most = min(_PAGE, ex.integer("max-uploads", _PAGE, 1, 2**31))
    found = _uploads_behind_marker(ex, prefix)
    page, more = found[:most], len(found) > most
    fields = [
        node("Bucket", ex.bucket),
        node("KeyMarker", key_text(ex.head.parameter("key-marker"), encoding)),
        node("UploadIdMarker", ex.head.parameter("upload-id-marker")),
        node("Prefix", key_text(prefix, encoding)),
        node("MaxUploads", most),
        node("IsTruncated", more),
    ]
    fields += [node("EncodingType", encoding)] if encoding else []
    if more:
        fields.append(node("NextKeyMarker", key_text(page[-1].key, encoding)))
        fields.append(node("NextUploadIdMarker", page[-1].upload_id))
    entries = (_upload_entry(ex, upload, encoding) for upload in page)
    return document("ListMultipartUploadsResult", *fields, *entries)


def _uploads_behind_marker(ex: Exchange, prefix: str) -> list[Upload]:
    key_marker, id_marker = ex.head.parameter("key-marker"), ex.head.parameter("upload-id-marker")
    with ex.world.store.lock:
        uploads = list(ex.world.store.bucket(ex.bucket).uploads.values())
    held = [item for item in uploads if item.key.startswith(prefix)]
    held.sort(key=lambda item: (item.key, item.initiated, item.upload_id))
    ids = [item.upload_id for item in held if item.key == key_marker]
    passed = set(ids[: ids.index(id_marker) + 1] if id_marker in ids else ids)
    return [item for item in held if item.key >= key_marker and item.upload_id not in passed]


def _upload_entry(ex: Exchange, upload: Upload, encoding: str) -> str:
    fields = [
        node("Key", key_text(upload.key, encoding)),
        node("UploadId", upload.upload_id),
        person("Initiator", upload.initiator),
        person("Owner", ex.world.owner),
        node("StorageClass", upload.traits.storage_class),
        node("Initiated", iso_time(upload.initiated)),
    ]
    if upload.algorithm is not None and upload.checksum_type is not None:
        fields += [node("ChecksumAlgorithm", upload.algorithm.name), node("ChecksumType", upload.checksum_type)]
    return tree("Upload", *fields)
