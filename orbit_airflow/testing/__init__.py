"""Fakes for tests: a strict store in memory, and one that fails on cue. No network, no Airflow, no waiting.

>>> from orbit_airflow.engine import EngineConfig, ObjectRef, engine_over
>>> from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
>>> memory = MemoryStore()
>>> engine = engine_over(FaultyStore(memory, [Fault("upload_part", nth=2)]), EngineConfig())
"""

from orbit_airflow.testing.faults import Fault, FaultyStore
from orbit_airflow.testing.memory import MemoryStore
from orbit_airflow.testing.shelf import OpenUpload, RecordedRequest, StoredObject

__all__ = ["Fault", "FaultyStore", "MemoryStore", "OpenUpload", "RecordedRequest", "StoredObject"]
