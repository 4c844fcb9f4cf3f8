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


def needing(what: str, value: object = None) -> Any:
    """A mark for a test, or a parameter with that mark, which expects a failure while ``what`` is pending."""
    mark = pytest.mark.xfail(what in PENDING, reason=f"{what} is not here yet", strict=True)
    return mark if value is None else pytest.param(value, marks=mark)
