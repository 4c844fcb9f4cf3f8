"""Resume tokens in Airflow's task state store: they outlive a try, a killed worker and, by default, a clear."""

from __future__ import annotations

from typing import Any, Protocol

from orbit_airflow.durable.checkpoint import Checkpoint
from orbit_airflow.engine.errors import StateUnavailable

# Without its token a try would send everything again; that is worth a minute of an API server's bad health.
LOAD_SECONDS = 60.0
SAVE_SECONDS = 10.0


class StateStore(Protocol):
    """What is used of ``context["task_state_store"]``."""

    def get(self, key: str) -> Any:
        """The JSON value, or None."""

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value, for the store's default retention."""

    def delete(self, key: str) -> None:
        """Forget the key."""


class TaskStateTokenStore:
    """The engine's TokenStore over the task state store, all of it through the checkpoint thread."""

    def __init__(
        self,
        store: StateStore,
        checkpoint: Checkpoint,
        *,
        load_wait: float = LOAD_SECONDS,
        save_wait: float = SAVE_SECONDS,
    ) -> None:
        self._store = store
        self._checkpoint = checkpoint
        self._load_wait = load_wait
        self._save_wait = save_wait

    def load(self, key: str) -> object:
        """What is kept, whatever it is (anybody with rights in the UI may have edited it); None when there is nothing.

        StateUnavailable when it could not be read for a minute: beginning anew would throw away what is there, and
        without the API server the task could not be finished anyway.
        """
        answered, value = self._checkpoint.ask(lambda: self._store.get(key), wait=self._load_wait)
        if not answered:
            raise StateUnavailable(f"the task's saved state could not be read for {self._load_wait:.0f} s")
        return value

    def save(self, key: str, token: dict[str, Any]) -> bool:
        """True when the token is kept; False after ten seconds (or a stop order) without that, and it goes on being
        tried until the transfer ends.
        """
        value = dict(token)
        return self._checkpoint.keep(key, lambda: self._store.set(key, value), wait=self._save_wait)

    def drop(self, key: str) -> None:
        """Forget; a save that still waits is forgotten with it."""
        self._checkpoint.keep(key, lambda: self._store.delete(key), wait=self._save_wait)
