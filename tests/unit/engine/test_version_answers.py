"""ListObjectVersions and its like as S3 answers them: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from orbit_airflow.engine.errors import AccessDenied, ObjectLocked, RequestContext, StoreError, Unavailable
from orbit_airflow.engine.model import KeyPrefix, ObjectRef, Part
from orbit_airflow.engine.store import CopyPartRequest
from orbit_airflow.engine.stores import versions
from orbit_airflow.engine.stores.errormap import mapped
from orbit_airflow.engine.versioning import VersionsRequest

WHERE = KeyPrefix("bucket", "a")
ENTRY = {"Key": "a%2Bb+c", "VersionId": "v1", "IsLatest": True, "Size": 3, "ETag": '"e"'}


class _Client:
    """Any method; none is called."""

    def __getattr__(self, name: str) -> str:
        return name


def _answering(answer: Mapping[str, Any]) -> versions.Ask:
    def ask(context: RequestContext, method: Callable[..., Any], params: Mapping[str, Any], /) -> Mapping[str, Any]:
        del context, method, params
        return answer

    return ask


def _page(answer: Mapping[str, Any], after: tuple[str, str] | None = None) -> Any:
    request = VersionsRequest(where=WHERE, after=after)
    return versions.list_versions(_answering(answer), cast("Any", _Client()), request)


def test_keys_are_decoded_once() -> None:
    """When the answer says that they are encoded, and only then."""
    assert _page({"EncodingType": "url", "Versions": [ENTRY]}).versions[0].key == "a+b c"
    assert _page({"Versions": [ENTRY]}).versions[0].key == "a%2Bb+c"


def test_the_documents_order_is_kept() -> None:
    """Botocore makes two lists of it; without it versions come first."""
    markers = [{"Key": "a", "VersionId": "m", "IsLatest": False}]
    entries = [{**ENTRY, "Key": "a", "IsLatest": False, "VersionId": name} for name in ("v3", "v1")]
    answer = {"Versions": entries, "DeleteMarkers": markers, versions.ORDER: "VMV"}
    assert [item.version_id for item in _page(answer).versions] == ["v3", "m", "v1"]
    assert [item.version_id for item in _page({**answer, versions.ORDER: "VM"}).versions] == ["v3", "v1", "m"]


def test_the_order_is_taken_from_the_document() -> None:
    """By the names of its elements; what a key says is escaped there."""
    body = b"<R><Version><Key>&lt;DeleteMarker></Key></Version><DeleteMarker/><DeleteMarker></DeleteMarker></R>"
    noted: dict[str, Any] = {}
    versions._note_order({"body": body}, noted)
    assert noted[versions.ORDER] == "VM"


@pytest.mark.parametrize(
    "answer",
    [
        {"IsTruncated": True},
        {"IsTruncated": True, "NextKeyMarker": "a", "NextVersionIdMarker": "v"},
        {"Versions": [{**ENTRY, "Size": None}]},
        {"Versions": [{"Key": "a"}]},
        {"Versions": [{**ENTRY, "Key": "other"}]},
        {"EncodingType": "url", "Versions": [{**ENTRY, "Key": "a\ufffd"}]},
    ],
)
def test_an_answer_that_means_nothing_is_unavailable(answer: Mapping[str, Any]) -> None:
    """One that does not advance, or lacks what it must have, or is about other keys."""
    with pytest.raises(Unavailable):
        _page(answer, ("a", "v"))


def test_a_part_without_an_etag_is_unavailable() -> None:
    """Whatever the status said; a checksum that is none as well."""
    request = CopyPartRequest(upload_id="u", part=Part(1, 0, 5), source=ObjectRef("bucket", "a"), if_match="e")
    results: tuple[dict[str, Any], ...] = (
        {},
        {"CopyPartResult": {}},
        {"CopyPartResult": {"ETag": '"e"', "ChecksumCRC32": "AAA="}},
    )
    for result in results:
        with pytest.raises(Unavailable):
            versions.copy_part(_answering(result), cast("Any", _Client()), ObjectRef("bucket", "b"), request, {})


def test_a_status_that_nobody_knows_is_unavailable() -> None:
    """It must not be taken for "never"."""
    with pytest.raises(Unavailable):
        versions.get_versioning(_answering({"Status": "Frozen"}), cast("Any", _Client()), "bucket")


def _refusal(code: str, status: int, message: str) -> StoreError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    found = mapped(ClientError(answer, "DeleteObject"), RequestContext("DeleteObject", "bucket", "key"))
    assert isinstance(found, StoreError)
    return found


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("AccessDenied", 403, "Access Denied because object protected by object lock."),
        ("AccessDenied", 403, "forbidden by object lock"),
        ("InvalidRequest", 400, "Object is WORM protected and cannot be overwritten"),
    ],
)
def test_a_locked_version_is_told_from_a_missing_permission(code: str, status: int, message: str) -> None:
    """By the store's words: S3 has no code for it."""
    error = _refusal(code, status, message)
    assert type(error) is ObjectLocked
    assert "governance is not bypassed" in str(error)


@pytest.mark.parametrize(
    "message", ["Access Denied", "Bucket is missing Object Lock Configuration", "Object Lock is not enabled here"]
)
def test_other_refusals_are_not_locks(message: str) -> None:
    """Nor words about its configuration."""
    assert type(_refusal("AccessDenied", 403, message)) is AccessDenied


def test_an_mfa_delete_is_named() -> None:
    """A person has to do it."""
    text = str(_refusal("AccessDenied", 403, "Mfa Authentication must be used for this request"))
    assert "MFA delete" in text
