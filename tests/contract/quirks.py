"""What each store does otherwise than S3, as data. The tests ask this table, never a server's name.

Each line that is not the default says what bare boto3 showed of that server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orbit_airflow.engine.errors import (
    ChecksumRefused,
    InvalidRequest,
    PreconditionFailed,
    StoreError,
    Unavailable,
    UploadGone,
)
from orbit_airflow.engine.model import ChecksumType, Integrity

Refusal = type[StoreError] | None


@dataclass(frozen=True, kw_only=True)
class Quirks:
    """The answers to wrong and repeated requests, and what the store remembers; the defaults are S3's.

    A class is the error that must come; None means that the store does not notice.
    """

    wrong_crc: Refusal = ChecksumRefused
    wrong_md5: Refusal = ChecksumRefused
    wrong_part: Refusal = ChecksumRefused
    wrong_full_crc: Refusal = ChecksumRefused
    wrong_size: Refusal = InvalidRequest
    small_part: Refusal = InvalidRequest
    missing_part: Refusal = InvalidRequest
    wrong_part_order: Refusal = InvalidRequest
    taken_key: Refusal = PreconditionFailed
    taken_key_on_complete: Refusal = PreconditionFailed
    taken_key_on_copy: Refusal = PreconditionFailed
    refused_copy_keeps_target: bool = True
    replaced_source_on_copy: Refusal = PreconditionFailed
    replaced_source_on_copy_part: Refusal = PreconditionFailed
    gone_copy_part: type[StoreError] = UploadGone
    versions_in_order: bool = True
    suspending_keeps_versions: bool = True
    delete_tells_markers: bool = True
    markers_pile_up: bool = True
    head_tells_markers: bool = True
    impossible_copy_parts: frozenset[str] = frozenset()
    tags_can_be_emptied: bool = True
    tags_of_any_characters: bool = True
    copied_parts_have_checksums: bool = True
    copies_take_tags: bool = True
    waits_for_slow_readers: bool = True
    pages_keep_non_ascii: bool = True
    impossible_keys: frozenset[str] = frozenset()
    impossible_uploads: frozenset[str] = frozenset()
    garbled_uploads: frozenset[str] = frozenset()
    garbled_versions: frozenset[str] = frozenset()
    other_key_part: Refusal = UploadGone
    other_key_list: Refusal = UploadGone
    other_key_complete: Refusal = UploadGone
    gone_part: Refusal = UploadGone
    gone_complete: Refusal = UploadGone
    gone_complete_over_object: Refusal = UploadGone
    repeated_complete: Refusal = None
    knows_key_pairs: bool = True
    marker_is_a_number: bool = True
    complete_answers_etag: bool = True
    multipart_tags: bool = True
    echoes_crc: bool = True
    multipart_checksum: ChecksumType | None = ChecksumType.FULL_OBJECT
    object_checksum: ChecksumType | None = ChecksumType.FULL_OBJECT
    lists_part_crc: bool = True
    shows_parts: bool = True
    shows_part_checksums: bool = True
    parts_have_the_objects_etag: bool = True
    unknown_part: Refusal = InvalidRequest
    small_integrity: Integrity = Integrity.FULL_CRC
    large_integrity: Integrity = Integrity.FULL_CRC
    parts_download_integrity: Integrity = Integrity.FULL_CRC
    archives: bool = True
    shows_delete_markers: bool = True


S3 = Quirks()

# Ceph 16.2.15
CEPH = Quirks(
    # PutObject and UploadPart with ChecksumCRC32="AAAAAQ==": 200. Content-MD5 is checked: 400 BadDigest.
    wrong_crc=None,
    # CreateMultipartUpload answers no ChecksumAlgorithm, HEAD and ListParts show no checksum.
    echoes_crc=False,
    multipart_checksum=None,
    object_checksum=None,
    lists_part_crc=False,
    wrong_full_crc=None,
    # HeadObject ignores PartNumber: 200, the whole object's length, no PartsCount; also for a part that is not there.
    shows_parts=False,
    unknown_part=None,
    small_integrity=Integrity.MD5,
    large_integrity=Integrity.MD5,
    # An ETag of parts whose sizes nobody tells cannot be computed from the bytes.
    parts_download_integrity=Integrity.SIZE_ETAG,
    # x-amz-mp-object-size is ignored.
    wrong_size=None,
    # Parts [2, 1] are taken: 200.
    wrong_part_order=None,
    # IfNoneMatch on CompleteMultipartUpload is ignored: 200; on PutObject it is obeyed.
    taken_key_on_complete=None,
    # CompleteMultipartUpload of an unknown upload: 500 InternalError "This multipart completion is already in
    # progress"; but 200 when the key holds an object with the very ETag that these parts would make.
    other_key_complete=Unavailable,
    gone_complete=Unavailable,
    gone_complete_over_object=Unavailable,
    # The first Complete answers <ETag></ETag>, a repeated one the ETag.
    complete_answers_etag=False,
    # Tagging on CreateMultipartUpload is dropped: get_object_tagging shows none.
    multipart_tags=False,
    # CopyObject ignores CopySourceIfMatch and IfNoneMatch: 200. Tagging and TaggingDirective are ignored:
    # MetadataDirective=COPY keeps the source's tags, REPLACE takes them away.
    replaced_source_on_copy=None,
    taken_key_on_copy=None,
    copies_take_tags=False,
    # UploadPartCopy ignores CopySourceIfMatch: 200. It decodes x-amz-copy-source twice: NoSuchKey for the keys "50%"
    # and "what?versionId=x", which CopyObject finds.
    replaced_source_on_copy_part=None,
    impossible_copy_parts=frozenset({"percent", "encoded", "query"}),
    # HEAD of a deleted key: 404 without x-amz-delete-marker.
    head_tells_markers=False,
    # Two DeleteObject of a versioned key: one marker, and the second answer has no VersionId.
    markers_pile_up=False,
    # CompleteMultipartUpload of a key of 1,024 bytes: 500 InternalError; of 960 bytes: 200.
    impossible_uploads=frozenset({"long", "long-utf8"}),
    # HeadObject of a key whose newest version is a delete marker: 404 without x-amz-delete-marker.
    shows_delete_markers=False,
)

# LocalStack 4.14.0
LOCALSTACK = Quirks(
    # A second CompleteMultipartUpload: 404 NoSuchUpload.
    repeated_complete=UploadGone,
    # GetObject of 8 MB, read 3 s after the answer's headers came: the connection is closed in the middle of the body.
    waits_for_slow_readers=False,
    # CopyObject with IfNoneMatch over an object: 412, and the object's bytes are gone (HEAD 3 bytes, GET none).
    refused_copy_keeps_target=False,
    # ListMultipartUploads does not encode keys, whatever EncodingType says: a carriage return is a line feed then, and
    # a control character makes the answer no XML.
    garbled_uploads=frozenset({"return", "control"}),
    # ListObjectsV2 with MaxKeys=3 of a, a-b, a/1, b, bc, z, é, 🙂: the second page ends with z and IsTruncated=false.
    pages_keep_non_ascii=False,
    # put, delete, put, put of a versioned key: ListObjectVersions writes the marker, and then the three versions.
    versions_in_order=False,
    # PutObjectTagging with the value "data & more": 400 InvalidTag, as AWS says of characters outside + - = . _ : / @.
    tags_of_any_characters=False,
    # Any access key is taken: put_object with an invented one answers 200.
    knows_key_pairs=False,
)

# moto 5.2.5
MOTO = Quirks(
    # PutObject and UploadPart with ChecksumCRC32="AAAAAQ==" or another body's Content-MD5: 200, the wrong CRC echoed.
    wrong_crc=None,
    wrong_md5=None,
    wrong_part=None,
    # Neither ChecksumCRC32 nor x-amz-mp-object-size is compared on CompleteMultipartUpload.
    wrong_full_crc=None,
    wrong_size=None,
    # ListParts shows no checksum, and its marker is an index: behind part 40 of (1, 40, 41, 9000) it shows nothing.
    lists_part_crc=False,
    marker_is_a_number=False,
    # HeadObject with PartNumber of a multipart object: 200 without Content-Range, the part's own ETag, no checksum; 500
    # for a part that is not there.
    shows_part_checksums=False,
    parts_have_the_objects_etag=False,
    unknown_part=Unavailable,
    # An upload id works under any key: UploadPart and ListParts 200, CompleteMultipartUpload 200 when the parts match.
    other_key_part=None,
    other_key_list=None,
    other_key_complete=None,
    # UploadPart and CompleteMultipartUpload of an aborted upload: 500 without a code; ListParts: 404 NoSuchUpload.
    gone_part=Unavailable,
    gone_complete=Unavailable,
    gone_complete_over_object=Unavailable,
    # CopyObject ignores CopySourceIfMatch and IfNoneMatch: 200.
    replaced_source_on_copy=None,
    taken_key_on_copy=None,
    # UploadPartCopy ignores CopySourceIfMatch: 200; into an aborted upload: 500.
    replaced_source_on_copy_part=None,
    gone_copy_part=Unavailable,
    # put, delete, put of a versioned key: ListObjectVersions writes both versions and then the marker.
    versions_in_order=False,
    # Two PutObject in a bucket whose versioning is suspended: the versions that it had are gone.
    suspending_keeps_versions=False,
    # DeleteObject with a marker's version id: 204 without DeleteMarker.
    delete_tells_markers=False,
    # PutObjectTagging with the value "data & more": 400 InvalidTag.
    tags_of_any_characters=False,
    # PutObjectTagging with an empty TagSet: 500.
    tags_can_be_emptied=False,
    # put_object(Key="line\nbreak"): 404 without a code.
    impossible_keys=frozenset({"newline", "return"}),
    # ListMultipartUploads and ListObjectVersions do not encode keys: a control character makes the answer no XML.
    garbled_uploads=frozenset({"control"}),
    garbled_versions=frozenset({"control"}),
    # Any access key is taken.
    knows_key_pairs=False,
)

_STORES: Mapping[str, Quirks] = {
    "memory": S3,
    "retrying": S3,
    "limited": S3,
    "faulty": S3,
    "model-http": S3,
    "model-https": S3,
    "moto": MOTO,
    "ceph-http": CEPH,
    "ceph-https": CEPH,
    "localstack-http": LOCALSTACK,
    "localstack-https": LOCALSTACK,
}

# What a client reaches is asked twice: by the lean path, and through botocore alone.
_REACHED = [name for name in _STORES if "-" in name or name == "moto"]
QUIRKS: Mapping[str, Quirks] = {**_STORES, **{f"{name}-botocore": _STORES[name] for name in _REACHED}}
