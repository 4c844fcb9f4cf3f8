"""What the tests of batches share: a store with objects, an engine without waits, tokens in a dict."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from orbit_airflow.engine import BatchConfig, EngineConfig, TransferEngine, engine_over
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.store import PartDigests, TransferStore
from orbit_airflow.testing import Fault, FaultyStore, MemoryStore
from tests.bodies import BytesBody

BUCKET = "lake"
QUICK = BatchConfig(retry_delay=0.0, max_concurrent=4, page_keys=10)


class DictTokens:
    """A TokenStore that keeps copies, as JSON would."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.saves: list[dict[str, Any]] = []

    def load(self, key: str) -> object:
        return copy.deepcopy(self.kept.get(key))

    def save(self, key: str, token: dict[str, Any]) -> bool:
        self.kept[key] = json.loads(json.dumps(token))
        self.saves.append(self.kept[key])
        return True

    def drop(self, key: str) -> None:
        self.kept.pop(key, None)


def engine_on(store: TransferStore, **settings: Any) -> TransferEngine:
    """Without breaker, patience and long delays."""
    policy = RetryPolicy(initial_delay=0, max_delay=0, use_circuit_breaker=False)
    chosen: dict[str, Any] = {"bucket": BUCKET, "retry": policy, "outage_patience": 0, **settings}
    return engine_over(store, EngineConfig(**chosen))


def faulty(memory: MemoryStore, *faults: Fault) -> FaultyStore:
    return FaultyStore(memory, faults)


def fill(memory: MemoryStore, keys: Iterable[str], attributes: ObjectAttributes | None = None) -> list[str]:
    """An object of one byte under each key; the requests for it are forgotten."""
    named = list(keys)
    for key in named:
        memory.put(
            ObjectRef(BUCKET, key),
            BytesBody(b"x"),
            PartDigests(),
            attributes or ObjectAttributes(),
            if_none_match=False,
        )
    memory.requests.clear()
    return named


def numbered(count: int, prefix: str = "logs/") -> list[str]:
    return [f"{prefix}{number:05d}" for number in range(count)]


def markers(memory: MemoryStore, keys: Sequence[str]) -> list[int]:
    """How many delete markers each key has."""
    return [sum(item.deleted for item in memory.versions(ObjectRef(BUCKET, key))) for key in keys]


def sent(memory: MemoryStore, operation: str) -> int:
    return sum(request.operation == operation for request in memory.requests)


def lines(path: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
