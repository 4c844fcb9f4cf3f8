"""docker-compose.yaml as compose reads it, as far as it is used there: anchors, merges and `${NAME:-default}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.servers.record import REPOSITORY

FILE = REPOSITORY / "docker-compose.yaml"
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
AIRFLOW_IMAGE = "orbit-airflow:"


def load(chosen: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with its variables filled in: those that are ``chosen``, else the defaults. KeyError for neither."""
    values = dict(chosen or {})

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match["name"] in values:
            return values[match["name"]]
        if match["default"] is None:
            raise KeyError(f"${{{match['name']}}} has no default")
        return match["default"]

    def filled(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: filled(value) for name, value in item.items()}
        if isinstance(item, list):
            return [filled(value) for value in item]
        return _VARIABLE.sub(fill, item) if isinstance(item, str) else item

    return dict(filled(yaml.safe_load(FILE.read_text(encoding="utf-8"))))


def services(loaded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """All services."""
    return dict(loaded["services"])


def airflow_services(loaded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those that run our image."""
    return {name: item for name, item in services(loaded).items() if item["image"].startswith(AIRFLOW_IMAGE)}


def text_of(name: str) -> str:
    """A file of the docker folder."""
    return Path(REPOSITORY / "docker" / name).read_text(encoding="utf-8")
