"""Listings of a bucket: objects and versions."""

import base64
import binascii

from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.state import StoredVersion
from tests.model_server.wire import Response
from tests.model_server.xml_text import document, encoding_of, iso_time, key_text, node, person, tree

_PAGE = 1000


def list_objects(ex: Exchange) -> Response:
    """One page of the current objects (version 2 of the API), grouped by the delimiter if there is one."""
    prefix, delimiter = ex.head.parameter("prefix"), ex.head.parameter("delimiter")
    encoding = encoding_of(ex.head.parameter("encoding-type"))
    most = ex.integer("max-keys", _PAGE, 0, 2**31)
    token = ex.head.parameter("continuation-token")
    after = _from_token(token) if token else ex.head.parameter("start-after")
    names, entries, groups = 0, [], []
    last, more = "", False
    for version in _current(ex, prefix):
        group = _group(version.key, prefix, delimiter)
        name = group or version.key
        if name <= after or (group and group == last):
            continue
        if names == min(most, _PAGE):
            more = most > 0
            break
        names, last = names + 1, name
        if group:
            groups.append(tree("CommonPrefixes", node("Prefix", key_text(group, encoding))))
        else:
            entries.append(_entry(version, encoding))
    fields = [
        node("Name", ex.bucket),
        node("Prefix", key_text(prefix, encoding)),
        node("MaxKeys", min(most, _PAGE)),
        node("KeyCount", names),
        node("IsTruncated", more),
    ]
    fields += [node("Delimiter", key_text(delimiter, encoding))] if delimiter else []
    fields += [node("EncodingType", encoding)] if encoding else []
    fields += [node("ContinuationToken", token)] if token else []
    fields += [node("NextContinuationToken", _to_token(last))] if more else []
    return document("ListBucketResult", *fields, *entries, *groups)


def _current(ex: Exchange, prefix: str) -> list[StoredVersion]:
    store = ex.world.store
    with store.lock:
        keys = sorted(key for key in store.bucket(ex.bucket).objects if key.startswith(prefix))
        found = [store.current(ex.bucket, key) for key in keys]
    return [version for version in found if version is not None]


def _group(key: str, prefix: str, delimiter: str) -> str:
    if not delimiter:
        return ""
    at = key.find(delimiter, len(prefix))
    return "" if at < 0 else key[: at + len(delimiter)]


def _to_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError) as exc:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect") from exc


def _entry(version: StoredVersion, encoding: str) -> str:
    checksum = version.checksum
    known = (
        []
        if checksum is None
        else [
            node("ChecksumAlgorithm", checksum.algorithm.name),
            node("ChecksumType", checksum.type),
        ]
    )
    return tree(
        "Contents",
        node("Key", key_text(version.key, encoding)),
        node("LastModified", iso_time(version.last_modified)),
        node("ETag", f'"{version.etag}"'),
        *known,
        node("Size", version.size),
        node("StorageClass", version.traits.storage_class),
    )


def list_versions(ex: Exchange) -> Response:
    """One page of all versions and delete markers, newest first within a key."""
    prefix = ex.head.parameter("prefix")
    encoding = encoding_of(ex.head.parameter("encoding-type"))
    most = min(_PAGE, ex.integer("max-keys", _PAGE, 0, 2**31))
    if ex.head.has_parameter("delimiter"):
        raise S3Error("NotImplemented", "A delimiter of versions is not modelled.")
    found = _behind_marker(ex, prefix)
    page, more = found[:most], len(found) > most > 0
    fields = [
        node("Name", ex.bucket),
        node("Prefix", key_text(prefix, encoding)),
        node("KeyMarker", key_text(ex.head.parameter("key-marker"), encoding)),
        node("VersionIdMarker", ex.head.parameter("version-id-marker")),
        node("MaxKeys", most),
        node("IsTruncated", more),
    ]
    fields += [node("EncodingType", encoding)] if encoding else []
    if more:
        fields.append(node("NextKeyMarker", key_text(page[-1][0].key, encoding)))
        fields.append(node("NextVersionIdMarker", page[-1][0].version_id))
    return document("ListVersionsResult", *fields, *(_version_entry(item, newest, encoding) for item, newest in page))


def _behind_marker(ex: Exchange, prefix: str) -> list[tuple[StoredVersion, bool]]:
    """The versions behind the marker, each with whether it is its key's newest."""
    store = ex.world.store
    key_marker, id_marker = ex.head.parameter("key-marker"), ex.head.parameter("version-id-marker")
    with store.lock:
        keys = sorted(key for key in store.bucket(ex.bucket).objects if key.startswith(prefix) and key >= key_marker)
        held = [store.versions(ex.bucket, key) for key in keys]
    found = []
    for versions in held:
        ids = [item.version_id for item in versions]
        start = 0
        if versions[0].key == key_marker:
            start = ids.index(id_marker) + 1 if id_marker in ids else len(ids)
        found += [(item, item is versions[0]) for item in versions[start:]]
    return found


def _version_entry(version: StoredVersion, newest: bool, encoding: str) -> str:
    fields = [
        node("Key", key_text(version.key, encoding)),
        node("VersionId", version.version_id),
        node("IsLatest", newest),
        node("LastModified", iso_time(version.last_modified)),
        person("Owner", version.owner),
    ]
    if version.delete_marker:
        return tree("DeleteMarker", *fields)
    fields += [node("ETag", f'"{version.etag}"'), node("Size", version.size)]
    return tree("Version", *fields, node("StorageClass", version.traits.storage_class))
