"""The log of requests: written when a request starts and kept up to date while its body arrives."""

import threading
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class RequestRecord:
    """One request as the server saw it; `finished` is None while it runs.

    `bytes_received` counts decoded body bytes that reached the operation, also of a request that was cut.
    `bytes_drained` counts what the client still sent after it had been answered or closed, `bytes_sent` the bytes of
    an object that were given to the socket.
    """

    seq: int
    operation: str
    method: str
    bucket: str
    key: str
    upload_id: str
    part_number: int | None
    started: float
    bytes_received: int = 0
    bytes_expected: int = 0
    bytes_drained: int = 0
    bytes_sent: int = 0
    status: int | None = None
    error_code: str = ""
    finished: float | None = None
    fault: str = ""
    identity: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-safe values."""
        return asdict(self)


class RequestLog:
    """All requests since the start or the last reset; safe to read while requests run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[RequestRecord] = []
        self._next = 1

    def add(self, record: RequestRecord) -> RequestRecord:
        """Number the record and make it visible."""
        with self._lock:
            record.seq = self._next
            self._next += 1
            self._records.append(record)
        return record

    def clear(self) -> None:
        """Forget everything; requests under way are no longer visible."""
        with self._lock:
            self._records = []

    def records(self, operation: str | None = None, key: str | None = None) -> list[RequestRecord]:
        """The records in the order of their start, of one operation and key when given."""
        with self._lock:
            found = list(self._records)
        return [
            item
            for item in found
            if (operation is None or item.operation == operation) and (key is None or item.key == key)
        ]

    def bytes_received(self, operation: str | None = None, key: str | None = None) -> int:
        """The body bytes received, repeated sends included."""
        return sum(item.bytes_received for item in self.records(operation, key))

    def bytes_by_part(self) -> dict[tuple[str, int], int]:
        """The body bytes received for each (upload id, part number)."""
        totals: dict[tuple[str, int], int] = {}
        for item in self.records("UploadPart"):
            slot = (item.upload_id, item.part_number or 0)
            totals[slot] = totals.get(slot, 0) + item.bytes_received
        return totals
