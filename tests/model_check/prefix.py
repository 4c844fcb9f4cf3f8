"""A prefix put back as it was: the plan of the engine, done key by key with its verbs."""

from __future__ import annotations

from datetime import datetime

from orbit_airflow.engine.facade import TransferEngine
from orbit_airflow.engine.restore_prefix import Action, PlannedAction, plan_restore


def restore_prefix(engine: TransferEngine, prefix: str, as_of: datetime) -> None:
    """Only what differs is written."""
    for step in list(plan_restore(engine.versions.iter_versions(prefix), as_of)):
        _apply(engine, step)


def _apply(engine: TransferEngine, step: PlannedAction) -> None:
    if step.action is Action.UNDELETE:
        for marker in step.markers:
            engine.versions.delete_version(step.key, marker)
    elif step.action is Action.COPY:
        assert step.wanted is not None
        engine.versions.restore_version(step.key, step.wanted.version_id)
    elif step.action is Action.DELETE:
        engine.delete(step.key)
