"""What one verb works with, in one value: its store, its settings, its stop order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from orbit_airflow.engine.errors import OrbitError, printable
from orbit_airflow.engine.events import Notice, Reporter, Retrying
from orbit_airflow.engine.options import EngineConfig
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.store import TransferStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a verb. ``store`` repeats what may be repeated; the rest is for the verb to settle."""

    store: TransferStore
    config: EngineConfig
    reporter: Reporter
    cancel: Cancellation
    rng: random.Random
    monotonic: Callable[[], float] = time.monotonic

    def notice(self, message: str, *, warning: bool = False) -> None:
        """Tell the reader of the log."""
        self.reporter(Notice(message, warning))

    def repeat(self, part_number: int, attempt: int, error: OrbitError) -> None:
        """Say that a body broke off, and wait as the policy says before it is asked for again. Paused on a stop."""
        delay = self.config.policy.delay(attempt, error, self.rng)
        self.reporter(Retrying("GetObject", attempt, delay, printable(error.message), part_number))
        self.cancel.sleep(delay)

    def pause(self, attempt: int, error: OrbitError) -> None:
        """Wait as the policy says before attempt number ``attempt + 1``. Raises Paused when told to stop."""
        self.cancel.sleep(self.config.policy.delay(attempt, error, self.rng))
