"""A restore of one version that may be called again: the copy that an earlier try made is found, not made twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.compare import compare_versions
from orbit_airflow.engine.errors import NotFound, ObjectDeleted, OrbitError, RequestContext, StateUnavailable
from orbit_airflow.engine.events import Reporter, no_reporter
from orbit_airflow.engine.fields import Fields, TokenRejected
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.options import CopyOptions
from orbit_airflow.engine.progress import OperationReporter
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.tags import set_dropped_tags, set_tags_of_interrupted
from orbit_airflow.engine.token import TokenStore, state_key
from orbit_airflow.engine.versioning import ListedVersion
from orbit_airflow.engine.versions import RestoreResult, version_at, versions_of

if TYPE_CHECKING:
    from datetime import datetime

    from orbit_airflow.engine.facade import TransferEngine

SCHEMA = 1


def restore_once(
    engine: TransferEngine, ref: ObjectRef, options: CopyOptions, tokens: TokenStore, *, overwrite_null: bool = False,
    reporter: Reporter = no_reporter, cancel: Cancellation | None = None,
) -> RestoreResult:  # fmt: skip
    """``engine.versions.restore_version`` of the version that ``ref`` names, once over all tries that share ``tokens``.

    What the key showed before the first try is kept in ``tokens``. A later try that finds exactly one version above it,
    with the bytes of the wanted one, has found that try's copy: its id is the result's, with ``changed`` and without
    ``copy``. Where nothing else tells, the bytes are compared. Raises what ``restore_version`` raises.
    """
    key, name = replace(ref, version_id=None), state_key(_target(ref, options))
    with OperationReporter(reporter) as told:
        call = engine.call(cancel, told)
        kept = _kept(call, tokens, name, ref, options)
        if kept is None:
            newest = next(versions_of(call, key, page=1), None)
            tokens.save(name, _token(ref, options, newest.version_id if newest is not None else ""))
        else:
            made = _made(call, ref, kept)
            if made is not None:
                _settle_tags(call, ref, made, options)
                call.notice(f"an earlier try has restored {ref.uri}: its copy is version {made.version_id}")
                return RestoreResult(ref=key, version_id=made.version_id, changed=True)
    return engine.versions.restore_version(
        ref, str(ref.version_id), options, overwrite_null=overwrite_null, tokens=tokens, reporter=reporter,
        cancel=cancel,
    )  # fmt: skip


def version_shown_at(call: Call, ref: ObjectRef, moment: datetime) -> ObjectRef:
    """The version that the key showed at a moment. NotFound: it was not there. ObjectDeleted: it was deleted then."""
    found = version_at(call, ref, moment)
    context = RequestContext("ListObjectVersions", ref.bucket, ref.key)
    if found is None:
        raise NotFound(f"{ref.uri} was not there at {moment.isoformat()}", context)
    if found.delete_marker:
        raise ObjectDeleted(f"{ref.uri} was deleted at {moment.isoformat()}", context)
    return replace(ref, version_id=found.version_id)


def _made(call: Call, ref: ObjectRef, before: str) -> ListedVersion | None:
    """The one version above what was there before, when its bytes are those of the wanted one."""
    newest = list(islice(versions_of(call, replace(ref, version_id=None), page=2), 2))
    if len(newest) < 2 or newest[1].version_id != before or newest[0].delete_marker:
        return None
    found = compare_versions(call, ref, newest[0].ref(ref.bucket), read_bytes=True)
    return newest[0] if found.content_differs is False else None


def _settle_tags(call: Call, ref: ObjectRef, made: ListedVersion, options: CopyOptions) -> None:
    """The killed try may not have come to them."""
    copy = made.ref(ref.bucket)
    if options.tags is None:
        set_tags_of_interrupted(call.store, ref, copy, made.etag, call.notice)
    else:
        set_dropped_tags(call.store, copy, made.etag, options.tags, call.notice)


def _target(ref: ObjectRef, options: CopyOptions) -> str:
    words = ["restore-version", ref.bucket, ref.key, ref.version_id, repr(options)]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _token(ref: ObjectRef, options: CopyOptions, before: str) -> dict[str, object]:
    return {"schema": SCHEMA, "op": "restore-version", "target": _target(ref, options), "before": before}


def _kept(call: Call, tokens: TokenStore, name: str, ref: ObjectRef, options: CopyOptions) -> str | None:
    try:
        data = tokens.load(name)
    except OrbitError:
        raise
    except Exception as exc:
        raise StateUnavailable(f"the restore's saved state could not be read ({type(exc).__name__})") from exc
    if data is None:
        return None
    try:
        fields = Fields(data)
        told = (fields.whole("schema"), fields.get("op", str), fields.get("target", str))
        if told != (SCHEMA, "restore-version", _target(ref, options)):
            raise TokenRejected("the state is none of this restore, or of another version")
        return str(fields.get("before", str))
    except TokenRejected as exc:
        call.notice(f"an earlier try's state is not used: {exc.message}")
        return None
