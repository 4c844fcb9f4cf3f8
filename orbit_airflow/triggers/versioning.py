"""OrbitS3VersioningTrigger: the sensor's waiting, in the triggerer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from orbit_airflow.engine.error_mapping import error_to_mapping
from orbit_airflow.engine.errors import AccessDenied, ConfigError, OrbitError, printable
from orbit_airflow.engine.look import look, take_baseline
from orbit_airflow.engine.runner import Cancellation
from orbit_airflow.engine.sensing import Baseline, Verdict, WaitFor, Wanted
from orbit_airflow.hooks.access import Access
from orbit_airflow.triggers.pace import Pace

if TYPE_CHECKING:
    from orbit_airflow.engine.facade import TransferEngine

SEEN, BASELINE, FAILED = "seen", "baseline", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersioningWait:
    """All parameters of the trigger; what it is stored as. No secret is among them."""

    bucket_name: str
    wait_for: str
    bucket_key: str | None = None
    since_version_id: str | None = None
    version_id: str | None = None
    baseline: Mapping[str, Any] | None = None
    poke_interval: float = 60.0
    exponential_backoff: bool = False
    max_wait: float | None = None
    silent_fail: bool = False
    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    verify: bool | str | None = None
    botocore_config: Mapping[str, Any] | None = None

    @property
    def wanted(self) -> Wanted:
        """What is waited for; ConfigError when it means nothing."""
        return Wanted(
            bucket=self.bucket_name,
            wait_for=WaitFor.parse(self.wait_for),
            key=self.bucket_key,
            since_version_id=self.since_version_id,
            version_id=self.version_id,
        )

    @property
    def access(self) -> Access:
        """The way to the store."""
        return Access(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )

    @property
    def pace(self) -> Pace:
        """How often to look."""
        return Pace(interval=self.poke_interval, backoff=self.exponential_backoff, max_wait=self.max_wait)


class OrbitS3VersioningTrigger(BaseTrigger):
    """Looks, with the sensor's own decisions, until what is waited for is there, and fires one event.

    The event's ``kind`` says which: "seen" with ``result``; "baseline" with the ``baseline`` that the worker could not
    take (the sensor keeps it and defers again); "failed" with the error's class, disposition and context, when no other
    look can help. A store that is not well is looked at again, with growing pauses, until the sensor's time-out; the
    baseline is a parameter, so a triggerer that restarts goes on from it.
    """

    def __init__(
        self,
        *,
        bucket_name: str,
        wait_for: str,
        bucket_key: str | None = None,
        since_version_id: str | None = None,
        version_id: str | None = None,
        baseline: Mapping[str, Any] | None = None,
        poke_interval: float = 60.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        silent_fail: bool = False,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parameters = VersioningWait(
            bucket_name=bucket_name,
            wait_for=wait_for,
            bucket_key=bucket_key,
            since_version_id=since_version_id,
            version_id=version_id,
            baseline=baseline,
            poke_interval=poke_interval,
            exponential_backoff=exponential_backoff,
            max_wait=max_wait,
            silent_fail=silent_fail,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
        )
        self._cancel = Cancellation()
        self._engine: TransferEngine | None = None
        self._rng = random.Random()  # noqa: S311 - jitter

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path, and the parameters as they were given."""
        kwargs = {item.name: getattr(self.parameters, item.name) for item in fields(VersioningWait)}
        return "orbit_airflow.triggers.versioning.OrbitS3VersioningTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, then the end."""
        looks = failures = 0
        while True:
            try:
                event = await asyncio.to_thread(self._look)
            except OrbitError as exc:
                if not self.parameters.silent_fail and not exc.is_retryable:
                    yield TriggerEvent({"kind": FAILED, "error": error_to_mapping(exc)})  # type: ignore[no-untyped-call]
                    return
                failures += 1
                pause = self.parameters.pace.after_failures(failures, self._rng)
                self.log.warning("this look failed, the next one is in %.0f s: %s", pause, printable(str(exc), 500))
            else:
                if event is not None:
                    yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                    return
                failures, looks = 0, looks + 1
                pause = self.parameters.pace.after(looks, self._rng)
            await self._sleep(pause)

    async def cleanup(self) -> None:
        """End what still runs on a thread. Called on every end of the trigger."""
        self._cancel.cancel("the trigger has ended")
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _look(self) -> dict[str, Any] | None:
        """On a thread: the event that ends the waiting, or None."""
        wanted = self.parameters.wanted
        baseline = Baseline(frozenset())
        if wanted.needs_baseline:
            given = self.parameters.baseline
            if given is None:
                taken = self._asking(lambda engine: take_baseline(engine, wanted, cancel=self._cancel))
                return {"kind": BASELINE, "baseline": taken.to_mapping(wanted)}
            known = Baseline.from_mapping(given, wanted)
            if known is None:
                raise ConfigError(
                    "the baseline that this trigger was given is damaged, or was taken for something else"
                )
            baseline = known
        verdict: Verdict = self._asking(lambda engine: look(engine, wanted, baseline, cancel=self._cancel))
        return {"kind": SEEN, "result": verdict.to_mapping()} if verdict.done else None

    def _asking(self, ask: Any) -> Any:
        """``ask`` of the one engine of this trigger; after refused credentials of a new one, which has fresh ones."""
        engine = self._engine
        if engine is None:
            engine = self._engine = self.parameters.access.open_engine()
        try:
            return ask(engine)
        except AccessDenied:
            self._engine = None
            engine.close()
            raise
