"""Bytes to send, and a word for what a store must or need not refuse."""

from __future__ import annotations

import hashlib
import random
import zlib
from contextlib import AbstractContextManager, nullcontext

import pytest

from orbit_airflow.engine.errors import StoreError
from orbit_airflow.engine.model import CreatedUpload, ObjectAttributes, ObjectRef, Part, PartReceipt
from orbit_airflow.engine.store import CompleteRequest, PartDigests, TransferStore
from tests.bodies import BytesBody

PLAIN = ObjectAttributes()


def data_of(size: int, seed: int = 1) -> bytes:
    """Reproducible bytes."""
    return random.Random(seed).randbytes(size)


def digests_of(data: bytes, upload: CreatedUpload | None = None) -> PartDigests:
    """What the engine sends with these bytes: a CRC32, or an MD5 to an upload that keeps no CRC32."""
    if upload is not None and upload.checksum_algorithm is None:
        return PartDigests(md5=hashlib.md5(data).digest())
    return PartDigests(crc32=zlib.crc32(data))


def refusing(error: type[StoreError] | None) -> AbstractContextManager[object]:
    """The error that must come; with None the call must succeed."""
    return pytest.raises(error) if error is not None else nullcontext()


class Uploading:
    """One multipart upload, verb by verb."""

    def __init__(self, store: TransferStore, ref: ObjectRef, attributes: ObjectAttributes = PLAIN) -> None:
        self.store = store
        self.ref = ref
        self.created = store.create(ref, attributes, checksums=True)
        self.id = self.created.upload_id
        self.parts: dict[int, bytes] = {}
        self.receipts: dict[int, PartReceipt] = {}

    def send(self, number: int, data: bytes, digests: PartDigests | None = None) -> PartReceipt:
        """One part."""
        receipt = self.store.upload_part(
            self.ref, self.id, Part(number, 0, len(data)), BytesBody(data), digests or digests_of(data, self.created)
        )
        self.parts[number] = data
        self.receipts[number] = receipt
        return receipt

    @property
    def data(self) -> bytes:
        """What the object will be."""
        return b"".join(self.parts[number] for number in sorted(self.parts))

    def request(self, *, if_none_match: bool = False) -> CompleteRequest:
        """As the engine makes it."""
        kind = self.created.checksum_type
        return CompleteRequest(
            upload_id=self.id,
            receipts=tuple(self.receipts[number] for number in sorted(self.receipts)),
            size=len(self.data),
            full_crc32=zlib.crc32(self.data) if kind is not None and kind.value == "FULL_OBJECT" else None,
            send_part_checksums=self.created.checksum_algorithm is not None,
            if_none_match=if_none_match,
        )
