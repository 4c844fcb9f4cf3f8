"""The judge: what the server saw of an upload. No figure here comes from the code under test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.e2e.waiting import wait_for
from tests.model_server import ModelProcess, RequestRecord

MIB = 1024 * 1024
_DATA = ("UploadPart", "PutObject")
_BLOCK = 4 * MIB


@dataclass(frozen=True)
class Figures:
    """An upload in two acts, the border being the kill. Sizes are bytes that the server received or holds."""

    size: int
    part_size: int
    workers: int
    first: int
    kept: int
    second: int
    creates: int
    aborts: int
    completes: int

    @property
    def total(self) -> int:
        """All bytes received."""
        return self.first + self.second

    @property
    def again(self) -> int:
        """The bytes received beyond one copy of the file."""
        return self.total - self.size

    @property
    def allowed_again(self) -> int:
        """What may be received again: the parts that were under way when the process was killed."""
        return self.workers * self.part_size

    def faults(self) -> list[str]:
        """What is not as promised; empty when all is."""
        checks = (
            (self.kept > 0, "the first try left no part at the server"),
            (self.second < self.size, "the second try sent the whole file"),
            (0 <= self.again <= self.allowed_again, f"{self.again:,} bytes again, {self.allowed_again:,} are allowed"),
            (self.creates == 1, f"{self.creates} uploads were created"),
            (self.aborts == 0, f"{self.aborts} times an abort was asked for"),
            (self.completes == 1, f"{self.completes} uploads were completed"),
        )
        return [fault for holds, fault in checks if not holds]


@dataclass(frozen=True)
class Place:
    """The object under watch, and the way in which it is sent."""

    bucket: str
    key: str
    size: int
    part_size: int
    workers: int


class Judge:
    """Reads a model server's log about one object."""

    def __init__(self, server: ModelProcess, place: Place) -> None:
        self._server = server
        self.place = place

    def received(self) -> int:
        """The bytes of this object that have arrived, also those of requests under way."""
        return sum(self._server.bytes_received(operation, self.place.key) for operation in _DATA)

    def _records(self) -> list[RequestRecord]:
        return self._server.records(key=self.place.key)

    def kept(self) -> int:
        """The bytes in the parts of open uploads."""
        uploads = self._server.open_uploads(self.place.bucket)
        return sum(sum(item.parts.values()) for item in uploads if item.key == self.place.key)

    def border(self, *, patience: float = 30.0) -> "Border":
        """Wait until the server has noticed that the sender is gone, and mark this moment in its log."""
        wait_for("the end of cut requests", lambda: not self._running(), patience=patience, every=0.05)
        records = self._records()
        return Border(max((item.seq for item in records), default=0), self.kept())

    def _running(self) -> bool:
        return any(item.finished is None for item in self._records())

    def figures(self, border: "Border") -> Figures:
        """The account of both acts."""
        records = self._records()
        return Figures(
            size=self.place.size,
            part_size=self.place.part_size,
            workers=self.place.workers,
            first=_bytes([item for item in records if item.seq <= border.seq]),
            kept=border.kept,
            second=_bytes([item for item in records if item.seq > border.seq]),
            creates=_count(records, "CreateMultipartUpload", 200),
            aborts=_count(records, "AbortMultipartUpload"),
            completes=_count(records, "CompleteMultipartUpload", 200),
        )

    def faults(self, figures: Figures) -> list[str]:
        """What is not as promised about the bytes sent and about what is left at the server."""
        found = figures.faults()
        versions = self._server.versions(self.place.bucket, self.place.key)
        if len(versions) != 1:
            found.append(f"{len(versions)} versions of the object")
        if left := self._server.open_uploads(self.place.bucket):
            found.append(f"{len(left)} open uploads left")
        return found

    def equals(self, path: Path) -> bool:
        """Read the object back as any client would, and compare each byte with the file's."""
        body = client_of(self._server).get_object(Bucket=self.place.bucket, Key=self.place.key)["Body"]
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                if body.read(len(block)) != block:
                    return False
        return not body.read(1)


@dataclass(frozen=True)
class Border:
    """The moment of the kill in the server's log, and the bytes of whole parts that it had then."""

    seq: int
    kept: int


def client_of(server: ModelProcess) -> Any:
    """A plain boto3 client."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def _bytes(records: list[RequestRecord]) -> int:
    return sum(item.bytes_received for item in records if item.operation in _DATA)


def _count(records: list[RequestRecord], operation: str, status: int | None = None) -> int:
    return sum(item.operation == operation and status in (None, item.status) for item in records)
