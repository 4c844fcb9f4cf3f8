"""Preconditions of reads and of writes."""

from tests.model_server.errors import S3Error
from tests.model_server.exchange import Exchange
from tests.model_server.state import StoredVersion

_CONDITIONS = ("if-match", "if-none-match")


def refuse_conditions(ex: Exchange) -> None:
    """CreateMultipartUpload and UploadPart take no condition."""
    if any(name in ex.head.headers for name in _CONDITIONS):
        raise S3Error("NotImplemented", "A header you provided implies functionality that is not implemented")


def _is_conditional(ex: Exchange) -> bool:
    return ex.world.profile.conditional_writes and any(name in ex.head.headers for name in _CONDITIONS)


def claim_write(ex: Exchange) -> None:
    """Check a conditional write early, and let only one per key be in flight until the exchange ends."""
    if not _is_conditional(ex):
        return
    with ex.world.store.lock:
        check_write(ex)
        writers = ex.world.store.bucket(ex.bucket).conditional_writers
        if ex.key in writers:
            raise S3Error("ConditionalRequestConflict", "A conflicting conditional operation is under way.")
        writers.add(ex.key)
        ex.cleanups.append(lambda: writers.discard(ex.key))


def check_write(ex: Exchange) -> None:
    """The condition of a write holds now; the caller holds the store's lock until the write is done."""
    if not _is_conditional(ex):
        return
    current = ex.world.store.current(ex.bucket, ex.key)
    unless, wanted = ex.head.header("if-none-match"), ex.head.header("if-match")
    if unless and (unless != "*" or wanted):
        raise S3Error("NotImplemented", "Only If-None-Match: * is possible for a write, and not with If-Match.")
    if unless and current is not None:
        raise _failed("If-None-Match")
    if wanted and current is None:
        raise S3Error("NoSuchKey", "The specified key does not exist.", fields={"Key": ex.key})
    if wanted and current is not None and wanted.strip('"') != current.etag:
        raise _failed("If-Match")


def check_read(ex: Exchange, version: StoredVersion) -> None:
    """The condition of a read holds; raises PreconditionFailed or NotModified."""
    if not ex.world.profile.conditional_reads:
        return
    wanted, unless = ex.head.header("if-match"), ex.head.header("if-none-match")
    if wanted and wanted != "*" and wanted.strip('"') != version.etag:
        raise _failed("If-Match")
    if unless and unless.strip('"') in ("*", version.etag):
        raise S3Error("NotModified", headers={"ETag": f'"{version.etag}"'})


def _failed(condition: str) -> S3Error:
    message = "At least one of the pre-conditions you specified did not hold"
    return S3Error("PreconditionFailed", message, fields={"Condition": condition})
