"""DeleteObjects, and the tags of single objects."""

from tests.model_server.blobs import Content
from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.state import ObjectTraits, StoredVersion
from tests.model_server.wire import Response
from tests.model_server.xml_text import document, node, parse, text_of, tree

_MOST = 1000
_MOST_TAGS = 10


def delete_objects(ex: Exchange) -> Response:
    """Delete what the body names, key by key; a key that the profile lets fail or be forgotten is left as it is."""
    _check_digest(ex)
    root = parse(ex.body.data, "Delete")
    named = [(item.findtext("Key") or "", text_of(item, "VersionId")) for item in root.findall("Object")]
    if not 1 <= len(named) <= _MOST or any(not key for key, _ in named):
        raise S3Error("MalformedXML", "The XML you provided was not well-formed.")
    if len(set(named)) != len(named):
        raise S3Error("MalformedXML", "A key is named twice.")
    ex.world.store.bucket(ex.bucket)
    quiet, answers = text_of(root, "Quiet") == "true", []
    for key, version in named:
        answer = _deleted(ex, key, version)
        if answer and not (quiet and answer.startswith("<Deleted>")):
            answers.append(answer)
    return document("DeleteResult", *answers)


def _check_digest(ex: Exchange) -> None:
    if not ex.head.header("content-md5") and (ex.declared is None or not ex.world.profile.flexible_checksums):
        code = "InvalidRequest" if ex.world.profile.flexible_checksums else "MissingContentMD5"
        raise S3Error(code, "Missing required header for this request: Content-MD5", status=400)


def _deleted(ex: Exchange, key: str, version: str) -> str:
    profile, store = ex.world.profile, ex.world.store
    seen = ex.world.seen_keys.setdefault((ex.bucket, key), len(ex.world.seen_keys) + 1)
    first = (ex.bucket, key) not in ex.world.struck_keys
    ex.world.struck_keys.add((ex.bucket, key))
    if first and profile.delete_error_every and seen % profile.delete_error_every == 0:
        code = profile.delete_error_code
        return tree("Error", node("Key", key), node("Code", code), node("Message", "made up by the profile"))
    forgotten = first and seen == profile.delete_forgets
    if version or not store.bucket(ex.bucket).versioning:
        removed = store.remove(ex.bucket, key, version or "null")
        marker = removed is not None and removed.delete_marker
        told = [node("VersionId", version)] if version else []
        told += [node("DeleteMarker", value=True), node("DeleteMarkerVersionId", version)] if marker else []
    else:
        made = StoredVersion(key, "null", Content(), "", ObjectTraits(), store.now(), ex.world.owner)
        made.delete_marker = True
        store.put(ex.bucket, made)
        told = [node("DeleteMarker", value=True), node("DeleteMarkerVersionId", made.version_id)]
    return "" if forgotten else tree("Deleted", node("Key", key), *told)
