"""What the operators that work inside a store share: an engine in a durable run, moments, places, ends of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from orbit_airflow.engine.errors import BatchIncomplete, ConfigError
from orbit_airflow.engine.events import TransferDirection
from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.operators._arguments import is_known
from orbit_airflow.operators._base import OrbitTransferOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from orbit_airflow.durable.running import Run
    from orbit_airflow.engine.batch.result import BatchResult
    from orbit_airflow.engine.facade import TransferEngine

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """What an operator's work is given: the connection's engine, and the try's run."""

    engine: TransferEngine
    run: Run


class OrbitStoreOperator(OrbitTransferOperator):
    """An operator whose bytes stay in the store."""

    direction = TransferDirection.COPY

    def _at_work(self, context: Context, uri: str, work: Callable[[AtWork], T], ref: ObjectRef | None = None) -> T:
        """``work`` in a durable run. ``ref``: the object whose page the link shows."""

        def run_it(run: Run) -> T:
            hook = self._hook({})
            engine = hook.engine
            if ref is not None:
                self._show_object(run, hook, ref)
            return work(AtWork(engine=engine, run=run))

        return self._run_transfer(context, uri, run_it)

    def _checked(self, check: Callable[[], object]) -> None:
        """A check of what is certain when the DAG is parsed: its ConfigError as ValueError, as operators raise them."""
        try:
            check()
        except ConfigError as exc:
            raise ValueError(f"{self.task_id}: {exc.message}") from exc

    def _place(self, context: Context, bucket: str, folder: str) -> str:
        """Where a manifest goes that was given no name: one of this very try, so that no other one is overwritten."""
        ti = context["ti"]
        index = f".{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
        return f"s3://{bucket}/{folder}/{ti.dag_id}/{ti.run_id}/{ti.task_id}{index}-{ti.try_number}.jsonl"


def moment_of(name: str, value: object) -> datetime:
    """A datetime with a time zone, from one or from its ISO 8601 text. ConfigError for anything else."""
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError as exc:
            raise ConfigError(f"{name} is a moment such as 2026-01-31T02:00:00+00:00, got {value!r}") from exc
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise ConfigError(f"{name} is a moment with a time zone, got {value!r}")
    return found


def check_moment(name: str, value: object) -> None:
    """``moment_of`` for what is known when the DAG is parsed."""
    if value is not None and (isinstance(value, datetime) or (isinstance(value, str) and is_known(value))):
        moment_of(name, value)


def check_one_of(**given: object) -> None:
    """TypeError unless exactly one of these is given."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise TypeError(f"give exactly one of {', '.join(given)}; given: {', '.join(named) or 'none'}")


def check_texts(**named: object) -> None:
    """ConfigError for an empty text, or none at all; a template is judged when it is rendered."""
    for name, value in named.items():
        if is_known(value) and not (isinstance(value, str) and value):
            raise ConfigError(f"{name} is a text, got {value!r}")


def ended(result: BatchResult, what: str) -> Mapping[str, Any]:
    """A batch's summary. BatchIncomplete when keys failed, or were not reached."""
    if result.failed or not result.complete:
        first = "; ".join(f"{error.key}: {error.message}" for error in result.errors[:3])
        where = f" All of them are in {result.report}." if result.report else ""
        raise BatchIncomplete(f"{result.failed} of {result.total} {what} failed, the others are done. {first}.{where}")
    return result.summary()
