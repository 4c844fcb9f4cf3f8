"""What may be said to a batch operator about its keys, and the source that it means."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.keys import KeyList, KeySource, PrefixKeys, Selection
from orbit_airflow.engine.manifest import ManifestKeys
from orbit_airflow.engine.model import KeyPrefix
from orbit_airflow.operators._arguments import is_known

KEY_NAMES = ("keys", "prefix", "manifest")
FILTER_NAMES = (
    "glob", "match", "regex", "exclude", "modified_after", "modified_before", "min_size", "max_size",
    "storage_classes",
)  # fmt: skip

_MAY_BE_EMPTY = frozenset({"dest_prefix", "strip_prefix"})


def check_one_source(values: Mapping[str, Any]) -> None:
    """TypeError unless exactly one of keys, prefix and manifest is given, and filters only with a prefix."""
    given = [name for name in KEY_NAMES if values[name] is not None]
    if len(given) != 1:
        said = " and ".join(given) or "none of them"
        raise TypeError(f"exactly one of keys, prefix and manifest says which objects are meant; given: {said}")
    filters = [name for name in FILTER_NAMES if values[name] is not None]
    if filters and given != ["prefix"]:
        raise TypeError(f"{', '.join(filters)}: filters are for a prefix; keys and manifests name what is meant")
    if values["whole_bucket"] and given != ["prefix"]:
        raise TypeError("whole_bucket is for prefix=''")


def source_from(values: Mapping[str, Any], bucket: str) -> KeySource:
    """The source that the rendered values mean. An empty list has no keys; what is no list is a ConfigError, and so is
    everything that was rendered to nothing: nothing of this ever means "all".
    """
    check_rendered(values)
    if values["keys"] is not None:
        return KeyList(keys_from(values["keys"]))
    if values["manifest"] is not None:
        return ManifestKeys(
            bucket=bucket,
            place=_text("manifest", values["manifest"]),
            format=values["manifest_format"],
            header=values["manifest_header"],
            all_versions=bool(values.get("all_versions")),
        )
    where = KeyPrefix(bucket, _text("prefix", values["prefix"], may_be_empty=True))
    return PrefixKeys(where=where, select=selection_from(values), whole_bucket=values["whole_bucket"] is True)


def filters_are_known(values: Mapping[str, Any]) -> bool:
    """True when all filters are what they will be in ``execute``: no template, and nothing that another task gives."""
    return all(_is_known(values[name]) for name in FILTER_NAMES)


def _is_known(value: object) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_known(item) for item in value)
    return is_known(value) or isinstance(value, int | float | datetime)


def given_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what was said when the DAG was parsed, if only by a template. An empty text says nothing: no
    ``strip_prefix``, or ``prefix=""`` with ``whole_bucket``.
    """
    return tuple(
        name for name, value in values.items() if value is not None and not (value == "" and type(value) is str)
    )


def check_given(values: Mapping[str, Any]) -> None:
    """ConfigError when one of these, which were given, is rendered to nothing: None, its text, or an empty one where
    that would mean another place or "all".
    """
    for name, value in values.items():
        nothing = ("None",) if name in _MAY_BE_EMPTY else ("", "None")
        if value is None or (isinstance(value, str) and value.strip() in nothing):
            raise ConfigError(f"{name} is rendered to {value!r}: what should give it has returned nothing")


def check_rendered(values: Mapping[str, Any]) -> None:
    """ConfigError when rendering has left none of the three: an upstream task returned nothing."""
    if all(values[name] is None for name in KEY_NAMES):
        raise ConfigError("keys, prefix and manifest are all None after rendering; an empty list means no objects")


def selection_from(values: Mapping[str, Any]) -> Selection:
    """The filters; times may be texts in ISO 8601 with an offset."""
    chosen = {name: values[name] for name in FILTER_NAMES if values[name] is not None}
    for name in ("modified_after", "modified_before"):
        if isinstance(chosen.get(name), str):
            chosen[name] = _moment(name, chosen[name])
    for name in ("min_size", "max_size"):
        if isinstance(chosen.get(name), str):
            chosen[name] = _size(name, chosen[name])
    classes = chosen.get("storage_classes")
    if classes is not None:
        chosen["storage_classes"] = _names("storage_classes", classes)
    return Selection(**chosen)


def keys_from(value: object) -> list[Any]:
    """A list, or the text that a template makes of one. ConfigError for anything else, so also for a single key."""
    found = _parsed(value) if isinstance(value, str) else value
    if isinstance(found, str | bytes | Mapping) or not isinstance(found, Sequence | set | frozenset):
        raise ConfigError(f"keys is a list of keys, rendered it is {value!r:.80}")
    return sorted(found) if isinstance(found, set | frozenset) else list(found)


def _parsed(text: str) -> object:
    """JSON, as ``tojson`` writes it, or Python, as ``str`` does."""
    if not text.strip().startswith("["):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _moment(name: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as exc:
        raise ConfigError(f"{name} is a time in ISO 8601 with an offset, got {text!r}") from exc


def _names(name: str, value: object) -> tuple[str, ...]:
    """One name or some, or the text that a template makes of a list."""
    found = _parsed(value) if isinstance(value, str) else value
    names = (found,) if isinstance(found, str) else found
    if not isinstance(names, Sequence | set | frozenset) or not all(isinstance(item, str) for item in names):
        raise ConfigError(f"{name} is a list of names, got {value!r:.80}")
    return tuple(sorted(names) if isinstance(names, set | frozenset) else names)


def _size(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(f"{name} is a number of bytes, got {text!r}")
    return int(text)


def _text(name: str, value: object, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or may_be_empty):
        raise ConfigError(f"{name} is a text, rendered it is {value!r:.80}")
    return value
