"""An error as JSON and back, so that its class survives the way from one process to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from orbit_airflow.engine import errors
from orbit_airflow.engine.errors import OrbitError, RequestContext

_PLAIN = (str, int, float, bool, type(None))


def error_to_mapping(error: OrbitError) -> dict[str, Any]:
    """Class path, disposition, message and context. Messages hold no secrets, and so this holds none."""
    context = {item.name: getattr(error.context, item.name) for item in fields(RequestContext)}
    return {
        "class": f"{type(error).__module__}.{type(error).__qualname__}",
        "disposition": error.disposition.value,
        "message": error.message,
        "context": {**context, "notes": list(error.context.notes)},
    }


def error_from_mapping(value: Mapping[str, Any]) -> OrbitError:
    """The same error again. A class that is none of the engine's (an older or newer version wrote it) becomes
    OrbitError itself; nothing is ever imported by name.
    """
    name = str(value.get("class", "")).rpartition(".")[2]
    found = getattr(errors, name, None)
    kind = found if isinstance(found, type) and issubclass(found, OrbitError) else OrbitError
    return kind(str(value.get("message", "an error that was not described")), _context(value.get("context")))


def _context(value: object) -> RequestContext:
    if not isinstance(value, Mapping):
        return RequestContext()
    names = {item.name for item in fields(RequestContext)} - {"notes"}
    known: dict[str, Any] = {name: item for name, item in value.items() if name in names and isinstance(item, _PLAIN)}
    notes = value.get("notes")
    lines = tuple(str(line) for line in notes) if isinstance(notes, list) else ()
    return RequestContext(**known, notes=lines)
