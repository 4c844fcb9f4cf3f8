"""What the guide's script verbs need beside the engine: where a script's state is kept, and what it looks like."""

from __future__ import annotations

import json
import os
from pathlib import Path

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.token import ResumeState


def default_state_directory() -> Path:
    """``$XDG_STATE_HOME/orbit``, else ``~/.local/state/orbit``."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "orbit"


def state_of(key: str, token: object) -> ResumeState | None:
    """The guide's value for a stored token; None when there is none."""
    return ResumeState(key, json.dumps(token)) if token is not None else None


def state_mapping(state: ResumeState) -> dict[str, object]:
    """The token in it. ConfigError when there is none."""
    try:
        data = json.loads(state.token)
    except ValueError:
        raise ConfigError("this resume_state is no JSON") from None
    if not isinstance(data, dict):
        raise ConfigError("this resume_state is no token")
    return data
