"""Reading what nobody vouches for: a stored token's mapping, field by field, every surprise an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orbit_airflow.engine.errors import OrbitError

INT_LIMIT = 2**63


class TokenRejected(OrbitError):
    """A stored token is malformed, of another version, or of another transfer; the message says which."""


class Fields:
    """Typed reading of an untrusted mapping: every surprise is a TokenRejected."""

    def __init__(self, data: object) -> None:
        if not isinstance(data, Mapping):
            raise TokenRejected(f"the state is no object but {type(data).__name__}")
        self._data = data

    def has(self, name: str) -> bool:
        """The field is there and not null."""
        return self._data.get(name) is not None

    def get(self, name: str, kind: type, *default: Any) -> Any:
        """The field's value, which must be exactly of ``kind``; ``default`` when it is not there."""
        value = self._data.get(name)
        if value is None and default:
            return default[0]
        if type(value) is not kind:
            raise TokenRejected(f"the state's {name!r} is {type(value).__name__}, not {kind.__name__}")
        return value

    def whole(self, name: str, low: int = 0, high: int = INT_LIMIT) -> int:
        """A whole number from ``low`` to ``high``."""
        value = self.get(name, int)
        if not low <= value <= high:
            raise TokenRejected(f"the state's {name!r} is out of range")
        return int(value)

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        """A text that is all ``pattern``."""
        value = self.get(name, str)
        if not pattern.fullmatch(value):
            raise TokenRejected(f"the state's {name!r} has characters that it cannot have")
        return str(value)
