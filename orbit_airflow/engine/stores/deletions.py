"""What goes with a DeleteObjects, and what its answer says of each key."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from orbit_airflow.engine.errors import RequestContext, StoreError
from orbit_airflow.engine.model import DeleteManyResult, DeleteOutcome, DeleteReceipt
from orbit_airflow.engine.store import DeleteItem
from orbit_airflow.engine.stores.errormap import kind_of


def add_content_md5(params: dict[str, Any], **_: object) -> None:
    """For botocore's ``before-call``: botocore sends a CRC and no MD5, and some stores know the MD5 alone
    (MissingContentMD5). Both together every store takes.
    """
    body = params.get("body")
    if isinstance(body, bytes | bytearray):
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def deleted_in(
    answer: Mapping[str, Any], items: Sequence[DeleteItem], context: RequestContext, *, quiet: bool
) -> DeleteManyResult:
    """One outcome for each of ``items``; what the answer says of other keys is nobody's, and not believed."""
    deleted = {_named(item): item for item in answer.get("Deleted", [])}
    failed = {_named(item): item for item in answer.get("Errors", [])}

    def outcome(key: str, version: str | None) -> DeleteOutcome:
        # Some stores leave the version out of an error, or answer "null" for none.
        error = failed.get((key, version)) or failed.get((key, None)) or failed.get((key, "null"))
        if error is not None:
            return DeleteOutcome(key, version, error=_error(error, key, context))
        done = deleted.get((key, version)) or (deleted.get((key, "null")) if version is None else None)
        if done is not None:
            return DeleteOutcome(key, version, _receipt(done, version))
        return DeleteOutcome(key, version, DeleteReceipt(version_id=version) if quiet else None)

    return DeleteManyResult(tuple(outcome(key, version) for key, version in items))


def _named(item: Mapping[str, Any]) -> DeleteItem:
    return item["Key"], item.get("VersionId") or None


def _receipt(item: Mapping[str, Any], version: str | None) -> DeleteReceipt:
    return DeleteReceipt(bool(item.get("DeleteMarker")), version or item.get("DeleteMarkerVersionId"))


def _error(item: Mapping[str, Any], key: str, context: RequestContext) -> StoreError:
    """As of a DeleteObject of the key alone; its message has no request id, the answer as a whole has."""
    code = str(item.get("Code") or "")
    told = RequestContext(context.operation, context.bucket, key, code=code[:64])
    message = str(item.get("Message") or "no message")[:400]
    # Within a 200 there is no status to go by: what is not known by its code is the key's own trouble.
    return kind_of(code, 400, context.operation)(message, told)
