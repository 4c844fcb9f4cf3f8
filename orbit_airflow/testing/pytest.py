"""A pytest fixture: every OrbitS3Hook works on a store in memory. No network, no connection, no credentials.

In a ``conftest.py``: ``pytest_plugins = ["orbit_airflow.testing.pytest"]``. See docs/testing-your-dags.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import pytest

from orbit_airflow.testing.faults import FaultyStore
from orbit_airflow.testing.memory import MemoryStore

if TYPE_CHECKING:
    from orbit_airflow.hooks.s3 import OrbitS3Hook

# A test that scripts an outage wants to see its end: quick retries, and no ten minutes of patience. A test's own
# environment, connection or arguments win, as they do anywhere.
_QUICK = {"AIRFLOW__ORBIT__RETRY": "fast", "AIRFLOW__ORBIT__OUTAGE_PATIENCE": "0"}


@dataclass(frozen=True, kw_only=True)
class OrbitS3:
    """What a test is given: a hook, the store that all hooks work on, and the script of faults in front of it."""

    hook: OrbitS3Hook
    store: MemoryStore
    faults: FaultyStore


@pytest.fixture
def orbit_s3_store() -> MemoryStore:
    """The store behind ``orbit_s3``: strict, without versions, every bucket exists. Redefine it for another one."""
    return MemoryStore()


@pytest.fixture
def orbit_s3(orbit_s3_store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> OrbitS3:
    """For the time of the test every OrbitS3Hook of this process, also those inside operators, works in memory.

    Connections are not looked up: all are empty. What S3Hook does by itself (``load_file``, ``get_key``, ...) would
    need a network and raises RuntimeError; moto is for that.
    """
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

    from orbit_airflow.engine.compose import engine_over
    from orbit_airflow.engine.facade import TransferEngine
    from orbit_airflow.hooks.s3 import OrbitS3Hook

    faults = FaultyStore(orbit_s3_store)

    def engine(hook: OrbitS3Hook) -> TransferEngine:
        return engine_over(faults, hook.engine_config)

    def conn_config(_hook: OrbitS3Hook) -> AwsConnectionWrapper:
        return AwsConnectionWrapper(conn=None)

    def get_session(_hook: OrbitS3Hook, *_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError("the fixture orbit_s3 has no network: it serves the hook's engine and verbs, not boto3")

    for name, made in (("engine", engine), ("conn_config", conn_config)):
        cached: cached_property[object] = cached_property(made)
        cached.__set_name__(OrbitS3Hook, name)
        monkeypatch.setattr(OrbitS3Hook, name, cached, raising=True)
    monkeypatch.setattr(OrbitS3Hook, "get_session", get_session)
    for name, value in _QUICK.items():
        monkeypatch.setenv(name, value)
    return OrbitS3(hook=OrbitS3Hook(), store=orbit_s3_store, faults=faults)
