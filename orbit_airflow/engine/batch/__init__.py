"""Batches: one verb on many keys, of any number, over as many tries as it takes.

``engine.batch`` is a ``Batches``. A batch is a verb with its options (``Delete``, ``Copy``, ``ChangeStorageClass``,
``UpdateMetadata``, ``TagObjects``), a source of keys (``KeyList``, ``PrefixKeys``, ``ManifestKeys``) and a
``BatchConfig``.
"""

from __future__ import annotations

from orbit_airflow.engine.batch.change import ChangeStorageClass, Copy, TagObjects, UpdateMetadata
from orbit_airflow.engine.batch.config import BatchConfig
from orbit_airflow.engine.batch.delete import Delete
from orbit_airflow.engine.batch.estimate import BatchPlan, Prices
from orbit_airflow.engine.batch.result import BatchError, BatchResult, KeyOutcome, Outcome
from orbit_airflow.engine.batch.verbs import Batches

__all__ = [
    "BatchConfig",
    "BatchError",
    "BatchPlan",
    "BatchResult",
    "Batches",
    "ChangeStorageClass",
    "Copy",
    "Delete",
    "KeyOutcome",
    "Outcome",
    "Prices",
    "TagObjects",
    "UpdateMetadata",
]
