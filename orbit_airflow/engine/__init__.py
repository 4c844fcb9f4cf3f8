"""The transfer engine. Knows S3 and files; knows no Airflow. Names are loaded when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orbit_airflow.engine.compose import engine_over, open_engine
    from orbit_airflow.engine.errors import OrbitError
    from orbit_airflow.engine.facade import TransferEngine
    from orbit_airflow.engine.model import Integrity, KeyPrefix, ObjectAttributes, ObjectRef, UploadResult
    from orbit_airflow.engine.options import CopyOptions, Credentials, EngineConfig, UploadOptions
    from orbit_airflow.engine.resilience.policy import RetryPolicy
    from orbit_airflow.engine.runner import Cancellation
    from orbit_airflow.engine.token import FileTokenStore, ResumeState

_HOMES = {
    "Cancellation": "runner",
    "CopyOptions": "options",
    "Credentials": "options",
    "EngineConfig": "options",
    "FileTokenStore": "token",
    "Integrity": "model",
    "KeyPrefix": "model",
    "ObjectAttributes": "model",
    "ObjectRef": "model",
    "OrbitError": "errors",
    "ResumeState": "token",
    "RetryPolicy": "resilience.policy",
    "TransferEngine": "facade",
    "UploadOptions": "options",
    "UploadResult": "model",
    "engine_over": "compose",
    "open_engine": "compose",
}

__all__ = [
    "Cancellation",
    "CopyOptions",
    "Credentials",
    "EngineConfig",
    "FileTokenStore",
    "Integrity",
    "KeyPrefix",
    "ObjectAttributes",
    "ObjectRef",
    "OrbitError",
    "ResumeState",
    "RetryPolicy",
    "TransferEngine",
    "UploadOptions",
    "UploadResult",
    "engine_over",
    "open_engine",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
