"""A whole object into memory: for small ones. Proved by what the store says about its bytes."""

from __future__ import annotations

import hashlib
import io
import re

from orbit_airflow.engine.call import Call
from orbit_airflow.engine.digests import digest_algorithm, encoded
from orbit_airflow.engine.errors import ConfigError, IntegrityError, Network, RequestContext
from orbit_airflow.engine.events import TransferCompleted, TransferDirection, TransferStarted
from orbit_airflow.engine.model import MIB, Checksum, ChecksumType, Integrity, ObjectInfo, ObjectRef, ReadResult
from orbit_airflow.engine.store import ObjectStream

# How often the bytes are fetched when they are not those that the store describes.
MAX_READINGS = 3
_BLOCK = MIB
_MD5 = re.compile(r"[0-9a-f]{32}")


def read_whole(call: Call, ref: ObjectRef, max_size: int, *, verify: bool) -> ReadResult:
    """The object's bytes, of one version. ConfigError when there are more than ``max_size``; no byte is fetched then.

    A body that breaks off is fetched again from its beginning, as often as the policy has attempts; bytes that are not
    what the store describes at most MAX_READINGS times: then IntegrityError.
    """
    attempt, readings, started = 0, 0, call.monotonic()
    while True:
        attempt += 1
        call.cancel.check()
        stream = call.store.get(ref)
        try:
            data = _received(call, stream, max_size)
            readings += 1
            integrity = proof_of(data, stream.info) if verify else Integrity.SIZE_ETAG
        except (Network, IntegrityError) as exc:
            most = MAX_READINGS if isinstance(exc, IntegrityError) else call.config.policy.max_attempts
            if (readings if isinstance(exc, IntegrityError) else attempt) >= most:
                raise
            call.notice(f"{ref.uri} did not arrive whole ({exc.message}); fetching it again")
            call.pause(attempt, exc)
        else:
            _announce_end(call, ref, data, integrity, call.monotonic() - started)
            return ReadResult(stream.info, data, integrity)


def _received(call: Call, stream: ObjectStream, max_size: int) -> bytes:
    with stream:
        if stream.length > max_size:
            raise ConfigError(
                f"{stream.info.ref.uri} has {stream.length} bytes and max_size is {max_size}; "
                "give a larger max_size, or download it into a file"
            )
        call.reporter(
            TransferStarted(
                key=stream.info.ref.key,
                total_bytes=stream.length,
                direction=TransferDirection.DOWNLOAD,
                part_size=stream.length,
            )
        )
        buffer = memoryview(bytearray(max(1, min(_BLOCK, stream.length))))
        # BytesIO gives its bytes away without a copy; a bytearray would need the memory twice.
        kept = io.BytesIO()
        while kept.tell() < stream.length:
            call.cancel.check()
            kept.write(buffer[: stream.read_into(buffer)])
        return kept.getvalue()


def proof_of(data: bytes, info: ObjectInfo) -> Integrity:
    """How strongly the store's own words prove these bytes. IntegrityError when they are the words of others.

    An ETag counts where it is the MD5 of the bytes by S3's rules: 32 hex digits, and no key management involved.
    """
    checksum, context = info.checksum, RequestContext("GetObject", info.ref.bucket, info.ref.key)
    value = _digest(data, checksum) if checksum is not None else None
    if checksum is not None and value is not None:
        if value != checksum.value:
            raise IntegrityError(
                f"the object's {checksum.algorithm} is {checksum.value}, that of its bytes is {value}", context
            )
        return Integrity.FULL_CRC
    managed = info.customer_key or (info.server_side_encryption or "").startswith("aws:kms")
    if managed or not _MD5.fullmatch(info.etag):
        return Integrity.SIZE_ETAG
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 != info.etag:
        raise IntegrityError(
            f"the object's ETag is {info.etag}, the MD5 of its bytes is {md5} "
            "(a store whose ETags only look like an MD5 can be read with verify_checksums=False)",
            context,
        )
    return Integrity.MD5


def _digest(data: bytes, checksum: Checksum) -> str | None:
    """What the checksum should be; None when it cannot be computed here (an algorithm without a library, parts)."""
    made = digest_algorithm(checksum.algorithm)
    if made is None or checksum.type is not ChecksumType.FULL_OBJECT:
        return None
    hasher = made()
    hasher.update(data)
    return encoded(hasher.digest())


def _announce_end(call: Call, ref: ObjectRef, data: bytes, integrity: Integrity, duration: float) -> None:
    call.reporter(
        TransferCompleted(
            key=ref.key,
            total_bytes=len(data),
            bytes_sent=len(data),
            bytes_saved=0,
            duration=duration,
            integrity=integrity,
            resumed=False,
        )
    )
