"""The engine's verbs on a prefix, with a plan file of their own and a clock that the store's moments fit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from orbit_airflow.engine import BatchConfig, KeyPrefix
from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.point_in_time import Moment, PointInTime
from orbit_airflow.engine.prune import OldVersions
from orbit_airflow.engine.prune_plan import Keep

CONFIG = BatchConfig(retry_delay=0, max_concurrent=1)
LATER = timedelta(hours=1)


def _after(moment: datetime) -> Callable[[], float]:
    return (moment + LATER).timestamp


class Prefix:
    """One prefix of one bucket."""

    def __init__(self, engine: TransferEngine, where: KeyPrefix, directory: Path) -> None:
        self._engine = engine
        self._where = where
        self._directory = directory
        self._serial = 0

    def restore(self, moment: datetime, between: Callable[[], None]) -> tuple[int, int, str]:
        """Planned changes, failures and the manifest. ``between`` happens when the plan is written."""
        verbs = PointInTime(self._engine, _after(moment))
        wish = Moment(where=self._where, as_of=moment, manifest=self._manifest(), allow_empty=True)
        plan = verbs.plan(wish, CONFIG)
        between()
        done = verbs.apply(self._where.bucket, plan.manifest, CONFIG)
        return plan.changes, done.batch.failed, plan.manifest

    def undo(self, manifest: str) -> int:
        """Failures."""
        return self._engine.point_in_time.undo(self._where.bucket, manifest, CONFIG).batch.failed

    def prune(self, keep_last: int | None, moment: datetime | None) -> int:
        """Failures. Of what was out of sight at the moment already."""
        verbs = OldVersions(self._engine, _after(moment)) if moment is not None else self._engine.old_versions
        keep = Keep(keep_last=keep_last, older_than=LATER if moment is not None else None)
        return verbs.prune(self._where, keep, self._manifest(), CONFIG).batch.failed

    def _manifest(self) -> str:
        self._serial += 1
        return str(self._directory / f"plan-{self._serial}.jsonl")
