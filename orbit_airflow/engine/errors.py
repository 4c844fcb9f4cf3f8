"""The engine's errors, and what each of them means for the next step.

::

    OrbitError(message, context)                                  disposition
     ├ ConfigError              options or arguments are wrong           FAIL
     ├ SourceError              the local file cannot be uploaded        FAIL
     │  └ SourceChanged         its bytes changed during the transfer    FAIL
     ├ IntegrityError           bytes differ from what was proved        FAIL
     │  └ IntegrityTooWeak      less was proved than was required        FAIL
     ├ TargetExists             replace=False and the target is taken    FAIL
     ├ TargetError              the local file cannot be written         FAIL
     │  ├ DiskFull              the disk or a quota has no room          RETRY
     │  └ TargetBusy            another transfer writes the same file    RETRY
     ├ ObjectChanged            it was replaced during its download      FAIL
     ├ Paused                   stopped on request; what was done is kept RESUME
     ├ RestartsExhausted        the upload vanished again and again      RETRY
     ├ StateUnavailable         an earlier try's state cannot be read    RETRY
     ├ BatchRefused             a guard refused the batch as a whole     FAIL
     ├ BatchIncomplete          some of its keys failed, the others not  RETRY
     ├ BatchFailed              keys of a batch failed; the others are done FAIL
     └ StoreError               one request failed                       FAIL
        ├ NotFound              no such key, bucket or version           FAIL
        │  └ ObjectDeleted      a delete marker is what is there         FAIL
        ├ ObjectArchived        must be restored before it can be read   FAIL
        ├ UploadGone            no such multipart upload                 RETRY
        ├ AccessDenied          refused; also a key that may not be listed FAIL
        │  ├ CredentialsExpired the session ran out; a new one helps     RETRY
        │  ├ ClockSkewed        this clock and the store's differ        RETRY
        │  ├ KmsDenied          the encryption key may not be used       FAIL
        │  └ ObjectLocked       a retention or legal hold protects it    FAIL
        ├ PreconditionFailed    If-Match or If-None-Match said no        FAIL
        ├ InvalidRequest        the store refused the request as such    FAIL
        │  ├ WrongEndpoint      the bucket is elsewhere; not followed    FAIL
        │  └ Unsupported        this store does not know the operation   FAIL
        ├ StoreFull             a quota or the store's disks are full    FAIL
        ├ ChecksumRefused       the store got other bytes than we hashed RETRY
        ├ WriteConflict         a conditional write met another one      RETRY
        ├ Throttled             slow down                                RETRY
        ├ OperationTimeout      the time of one of a batch's keys is over  FAIL
        ├ CircuitOpen           too many failures: the store is not asked RESUME
        └ Network               (the guide's name)                       RETRY
           ├ Unavailable        5xx, or an answer that means nothing     RETRY
           │  └ Garbled         another answer than the one asked for    RETRY
           └ ConnectionLost     no answer, or a broken one               RETRY

``disposition``: FAIL = trying again cannot help; RETRY = the same request may work later; RESUME = a new try continues.
There is no "retries exhausted": the last error itself is raised, so that ``except Throttled`` keeps its meaning, and
its notes say how often and how long it was tried. Every class pickles. Messages name bucket, key, operation and request
id, say what to do next, and never hold a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orbit_airflow.engine.token import ResumeState


class Disposition(Enum):
    """What a caller should do with a failed transfer."""

    FAIL = "fail"
    RETRY = "retry"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Where an error happened. ``sent`` is False only when it is certain that the store never saw the request."""

    operation: str | None = None
    bucket: str | None = None
    key: str | None = None
    upload_id: str | None = None
    part_number: int | None = None
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    sent: bool = True
    notes: tuple[str, ...] = field(default=())

    def describe(self) -> str:
        """One line for people: operation, address, the store's own code and request id."""
        address = printable(f"s3://{self.bucket}/{self.key}") if self.bucket else ""
        answer = " ".join(str(word) for word in (self.status, self.code) if word)
        words = [
            self.operation or "",
            f"of part {self.part_number}" if self.part_number else "",
            f"on {address}" if address else "",
            f"answered {answer}" if answer else "",
            f"(request id {self.request_id})" if self.request_id else "",
        ]
        return " ".join(word for word in words if word)


def printable(text: str, limit: int = 256) -> str:
    """``text`` with control and direction characters escaped and cut: a key must not write log lines of its own."""
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


class OrbitError(RuntimeError):
    """Base of all errors that the engine raises on purpose."""

    disposition = Disposition.FAIL

    def __init__(self, message: str, context: RequestContext | None = None) -> None:
        super().__init__(message, context)
        self.message = message
        self.context = context or RequestContext()
        self.resume_state: ResumeState | None = None

    @property
    def is_retryable(self) -> bool:
        """True when the same call may succeed later without anybody changing anything."""
        return self.disposition is not Disposition.FAIL

    def __str__(self) -> str:
        where = self.context.describe()
        lines = [f"{self.message} [{where}]" if where else self.message, *self.context.notes]
        return " ".join(lines)

    def with_note(self, note: str) -> OrbitError:
        """The same error (same class) that also says ``note``; used to tell what was kept and until when."""
        twin = type(self)(self.message, replace(self.context, notes=(*self.context.notes, note)))
        twin.resume_state = self.resume_state
        return twin


class ConfigError(OrbitError):
    """Options, arguments or the configuration are wrong; the message says which and what is allowed."""


class SourceError(OrbitError):
    """The local file is missing, unreadable, or no regular file."""


class SourceChanged(SourceError):
    """The file's bytes changed while (or between) tries were uploading it; nothing of it was made visible."""


class IntegrityError(OrbitError):
    """The store holds other bytes than those that were hashed here, and sending them again did not help."""


class IntegrityTooWeak(IntegrityError):
    """``require_integrity`` asks for more than the store's answers can prove; the file was not made visible."""


class TargetExists(OrbitError):
    """``replace=False``, and the key holds an object (or the path a file) that is not ours."""


class TargetError(OrbitError):
    """The local target cannot be written: a directory, a symlink or a device is there, its directory is missing or not
    writable, or the disk failed. What was fetched is kept where the disk allows it.
    """


class DiskFull(TargetError):
    """The target's file system, or the user's quota on it, has no room; what was fetched is kept."""

    disposition = Disposition.RETRY


class TargetBusy(TargetError):
    """Another live transfer (perhaps an earlier try that lost its supervisor) is writing the same file."""

    disposition = Disposition.RETRY


class ObjectChanged(OrbitError):
    """The object was replaced while (or between tries that) it was downloaded, and its old bytes are not to be had."""


class Paused(OrbitError):
    """The transfer was asked to stop. What was done is kept and the next try continues."""

    disposition = Disposition.RESUME


class RestartsExhausted(OrbitError):
    """The upload was lost (aborted by somebody, or its source kept changing) more often than allowed."""

    disposition = Disposition.RETRY


class StateUnavailable(OrbitError):
    """What an earlier try left could not be read; beginning anew would throw it away."""

    disposition = Disposition.RETRY


class BatchRefused(OrbitError):
    """A guard (max_keys, max_delete_percent, require_non_empty) refused the batch before it changed anything."""


class BatchIncomplete(OrbitError):
    """Some keys of a batch failed, the others are done; a later try does again what failed. Raised by operators, whose
    task must not look done; the engine's verbs return the failures.
    """

    disposition = Disposition.RETRY


class BatchFailed(OrbitError):
    """More keys of a batch failed than the caller allows, after all their repetitions; the other keys are done."""


class StoreError(OrbitError):
    """One request to the store failed. ``bucket`` and ``key`` are those of the request."""

    @property
    def bucket(self) -> str | None:
        """The bucket that was asked for."""
        return self.context.bucket

    @property
    def key(self) -> str | None:
        """The key that was asked for; None for a request about the bucket."""
        return self.context.key


class NotFound(StoreError):
    """The key, version or bucket does not exist; ``context.code`` NoSuchBucket means the bucket."""


class ObjectDeleted(NotFound):
    """The key's newest version (or the version asked for) is a delete marker: the object was deleted, and its older
    versions may still be there.
    """


class ObjectArchived(StoreError):
    """The object's storage class keeps its bytes offline: it can be read or copied when it has been restored."""


class UploadGone(StoreError):
    """The multipart upload does not exist: completed, aborted, or never there."""

    disposition = Disposition.RETRY


class AccessDenied(StoreError):
    """The store refused the credentials or the permission."""


class CredentialsExpired(AccessDenied):
    """The session's credentials ran out. A fresh session is not refused; whatever was uploaded is kept."""

    disposition = Disposition.RETRY


class ClockSkewed(AccessDenied):
    """The request's time stamp is too far from the store's clock. A corrected one, or another worker, helps."""

    disposition = Disposition.RETRY


class KmsDenied(AccessDenied):
    """The key that encrypts the object may not be used, is disabled, or is not there; the message names the action."""


class ObjectLocked(AccessDenied):
    """Object Lock (a retention or a legal hold) protects this version from being removed or overwritten."""


class PreconditionFailed(StoreError):
    """If-Match or If-None-Match did not hold (412), or the object is the one that the caller has already (304)."""


class InvalidRequest(StoreError):
    """The store refused the request as malformed or not allowed."""


class WrongEndpoint(InvalidRequest):
    """The bucket lives in another region or at another endpoint. No redirect is followed: a request that was signed for
    one host does not travel to another one.
    """


class Unsupported(InvalidRequest):
    """The store does not implement what was asked of it (501)."""


class StoreFull(StoreError):
    """A quota is used up, or the store has no room."""


class ChecksumRefused(StoreError):
    """The store received other bytes than the checksum that was sent with them promises (BadDigest)."""

    disposition = Disposition.RETRY


class WriteConflict(StoreError):
    """409: another conditional write to the same key was in flight."""

    disposition = Disposition.RETRY


class Throttled(StoreError):
    """The store asks for fewer requests; ``context.retry_after`` is its own delay in seconds, when it named one."""

    disposition = Disposition.RETRY


class OperationTimeout(StoreError):
    """One operation of a batch had no time left for another request (``operation_timeout``); the others go on."""


class CircuitOpen(StoreError):
    """The store failed so often in a row that it is left alone for ``context.retry_after`` seconds. Nothing sent."""

    disposition = Disposition.RESUME

    @classmethod
    def after(cls, seconds: float) -> CircuitOpen:
        """The refusal of a circuit breaker that lets requests through again in so many seconds."""
        message = f"the store failed again and again; the circuit breaker lets it be asked again in {seconds:.0f} s"
        return cls(message, RequestContext(retry_after=seconds, sent=False))


class Network(StoreError):
    """The request's outcome is unknown, or the store is not well."""

    disposition = Disposition.RETRY


class Unavailable(Network):
    """A 5xx answer, or one that cannot be understood (an empty body where there must be one)."""


class Garbled(Unavailable):
    """An answer that is not to the letter: another range than the one that was asked for, no ETag, an error's page.

    Repeated a few times; not waited for, since a store that answers is not out.
    """


class ConnectionLost(Network):
    """No answer, or half of one. ``context.sent`` says whether the store may have acted."""
