"""What the guide's pages speak of and this tree does not have yet: expected to fail, and an error when it does not."""

from __future__ import annotations

from typing import Any

import pytest

# By heading of docs/guide.md, option, or name of the map. Empty when all parts are together.
PENDING: frozenset[str] = frozenset(
    [
        "Basic upload", "Basic download", "Environment, credentials file, role", "Explicit credentials",
        "Advanced configuration", "Check object existence", "Get object metadata", "List objects", "Copy objects",
        "Delete objects", "Retry policies", "Custom retry policy", "Circuit breaker pattern", "Preset retry policies",
        "Error classification", "Storage classes", "AES-256 encryption", "AWS KMS encryption", "Error handling",
        "Data lake ingestion", "Backup and archive", "credentials file", "role", "storage_class",
        "server_side_encryption",
    ]
)  # fmt: skip

# Names of docs/guide-map.md that cannot be imported yet. Empty when all parts are together.
UNRESOLVED: frozenset[str] = frozenset(
    f"orbit_airflow.engine:{name}"
    for name in (
        "BackoffStrategy", "CircuitBreaker", "CircuitBreakerConfig", "with_retry", "StorageClass",
        "ServerSideEncryption", "ServerSideEncryption.aes256", "ServerSideEncryption.kms",
        "TransferEngine.upload_bytes", "TransferEngine.download_bytes", "TransferEngine.exists",
        "TransferEngine.get_metadata", "TransferEngine.list_objects", "TransferEngine.list_objects_paginated",
        "TransferEngine.iter_objects", "TransferEngine.copy_object", "TransferEngine.delete",
    )
)  # fmt: skip


def needing(what: str) -> pytest.MarkDecorator:
    """For a test: a failure is expected while ``what`` is pending."""
    return pytest.mark.xfail(what in PENDING, reason=f"{what} is not here yet", strict=True)


def case(what: str, value: object) -> Any:
    """For one parameter of a test: the same."""
    return pytest.param(value, marks=needing(what))
