"""The transfer engine. Knows S3 and files; knows no Airflow. Names are loaded when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orbit_airflow.engine.batch.change import ChangeStorageClass, Copy, TagObjects, UpdateMetadata
    from orbit_airflow.engine.batch.config import BatchConfig
    from orbit_airflow.engine.batch.delete import Delete
    from orbit_airflow.engine.batch.estimate import BatchPlan
    from orbit_airflow.engine.batch.result import BatchError, BatchResult, KeyOutcome
    from orbit_airflow.engine.batch.verbs import BatchRun
    from orbit_airflow.engine.compose import engine_over, open_engine
    from orbit_airflow.engine.encryption import CustomerKey, ServerSideEncryption
    from orbit_airflow.engine.errors import OrbitError
    from orbit_airflow.engine.events import (
        BatchProgress,
        Notice,
        Progress,
        Reporter,
        Retrying,
        ThroughputTracker,
        TransferCompleted,
        TransferDirection,
        TransferEvent,
        TransferFailed,
        TransferStarted,
        TransferStats,
    )
    from orbit_airflow.engine.facade import TransferEngine
    from orbit_airflow.engine.keys import KeyList, PrefixKeys, Selection
    from orbit_airflow.engine.manifest import ManifestKeys
    from orbit_airflow.engine.model import (
        DownloadResult,
        Integrity,
        KeyPrefix,
        ObjectAttributes,
        ObjectRef,
        UploadResult,
    )
    from orbit_airflow.engine.options import CopyOptions, Credentials, DownloadOptions, EngineConfig, UploadOptions
    from orbit_airflow.engine.progress import ProgressAggregator, ProgressReceiver, ProgressReporter
    from orbit_airflow.engine.resilience.breaker import CircuitBreaker, CircuitBreakerConfig
    from orbit_airflow.engine.resilience.policy import BackoffStrategy, RetryPolicy, with_retry
    from orbit_airflow.engine.runner import Cancellation
    from orbit_airflow.engine.storage_class import StorageClass
    from orbit_airflow.engine.token import FileTokenStore, ResumeState
    from orbit_airflow.engine.version_keys import VersionKeys

_HOMES = {
    "BackoffStrategy": "resilience.policy",
    "BatchProgress": "events",
    "BatchConfig": "batch.config",
    "BatchError": "batch.result",
    "BatchPlan": "batch.estimate",
    "BatchResult": "batch.result",
    "BatchRun": "batch.verbs",
    "ChangeStorageClass": "batch.change",
    "Copy": "batch.change",
    "Delete": "batch.delete",
    "KeyList": "keys",
    "KeyOutcome": "batch.result",
    "ManifestKeys": "manifest",
    "PrefixKeys": "keys",
    "Selection": "keys",
    "TagObjects": "batch.change",
    "UpdateMetadata": "batch.change",
    "Cancellation": "runner",
    "CircuitBreaker": "resilience.breaker",
    "CircuitBreakerConfig": "resilience.breaker",
    "CopyOptions": "options",
    "Credentials": "options",
    "CustomerKey": "encryption",
    "DownloadOptions": "options",
    "DownloadResult": "model",
    "engine_over": "compose",
    "EngineConfig": "options",
    "FileTokenStore": "token",
    "Integrity": "model",
    "KeyPrefix": "model",
    "Notice": "events",
    "ObjectAttributes": "model",
    "ObjectRef": "model",
    "open_engine": "compose",
    "OrbitError": "errors",
    "Progress": "events",
    "ProgressAggregator": "progress",
    "ProgressReceiver": "progress",
    "ProgressReporter": "progress",
    "Reporter": "events",
    "ResumeState": "token",
    "Retrying": "events",
    "RetryPolicy": "resilience.policy",
    "ServerSideEncryption": "encryption",
    "StorageClass": "storage_class",
    "ThroughputTracker": "events",
    "TransferCompleted": "events",
    "TransferDirection": "events",
    "TransferEngine": "facade",
    "TransferEvent": "events",
    "TransferFailed": "events",
    "TransferStarted": "events",
    "TransferStats": "events",
    "UploadOptions": "options",
    "UploadResult": "model",
    "VersionKeys": "version_keys",
    "with_retry": "resilience.policy",
}

__all__ = [
    "BackoffStrategy",
    "BatchConfig",
    "BatchError",
    "BatchPlan",
    "BatchProgress",
    "BatchResult",
    "BatchRun",
    "Cancellation",
    "ChangeStorageClass",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "Copy",
    "CopyOptions",
    "Credentials",
    "CustomerKey",
    "Delete",
    "DownloadOptions",
    "DownloadResult",
    "EngineConfig",
    "FileTokenStore",
    "Integrity",
    "KeyList",
    "KeyOutcome",
    "KeyPrefix",
    "ManifestKeys",
    "Notice",
    "ObjectAttributes",
    "ObjectRef",
    "OrbitError",
    "PrefixKeys",
    "Progress",
    "ProgressAggregator",
    "ProgressReceiver",
    "ProgressReporter",
    "Reporter",
    "ResumeState",
    "RetryPolicy",
    "Retrying",
    "Selection",
    "ServerSideEncryption",
    "StorageClass",
    "TagObjects",
    "ThroughputTracker",
    "TransferCompleted",
    "TransferDirection",
    "TransferEngine",
    "TransferEvent",
    "TransferFailed",
    "TransferStarted",
    "TransferStats",
    "UpdateMetadata",
    "UploadOptions",
    "UploadResult",
    "VersionKeys",
    "engine_over",
    "open_engine",
    "with_retry",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
