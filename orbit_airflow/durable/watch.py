"""Everything that one try shows of itself: the log's story and the XCom, metrics, and a span."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from orbit_airflow.durable.metrics import TransferMetrics
from orbit_airflow.durable.progress import TransferReporter, XComProgress
from orbit_airflow.durable.spans import TransferSpan
from orbit_airflow.engine.errors import Paused
from orbit_airflow.engine.events import TransferDirection, TransferEvent
from orbit_airflow.engine.runner import Cancellation

if TYPE_CHECKING:
    from airflow.sdk import Context

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Watch:
    """A Reporter that tells the log, the metrics and the span, and knows when the try begins and ends.

    Metrics and span never raise; should the story do so, the engine's guard says it once and the transfer goes on.
    """

    def __init__(self, story: TransferReporter, metrics: TransferMetrics, span: TransferSpan) -> None:
        self._story = story
        self._metrics = metrics
        self._span = span

    def __call__(self, event: TransferEvent, /) -> None:
        """Take an event, from any thread."""
        self._metrics(event)
        self._span(event)
        self._story(event)

    def over(self, call: Callable[[], T]) -> T:
        """``call()`` as one try: its value or its error, counted and told. For the transfer's own thread."""
        self._metrics.begin()
        self._span.begin()
        try:
            value = call()
        except BaseException as exc:
            outcome = "paused" if isinstance(exc, Paused) else "failed"
            self._tell(exc)
            self._metrics.end(outcome)
            self._span.end(outcome, exc)
            raise
        self._metrics.end("completed")
        self._span.end("completed")
        return value

    def _tell(self, error: BaseException) -> None:
        try:
            self._story.ended_by(error)
        except Exception:
            logger.warning("the end of this try could not be told", exc_info=True)


def watch_for(
    context: Context,
    log: Any,
    progress: XComProgress | None,
    cancel: Cancellation,
    *,
    uri: str,
    direction: TransferDirection = TransferDirection.UPLOAD,
    target: str | None = None,
    details: Mapping[str, object] | None = None,
) -> Watch:
    """The Watch of one transfer in a running task. ``uri`` is the object's address, ``target`` the file that a download
    makes; ``details`` may be filled until the transfer starts.
    """
    ti = context["ti"]
    operator = type(getattr(ti, "task", None)).__name__
    tags = {**getattr(ti, "stats_tags", {}), "operator_name": operator}
    story = TransferReporter(
        log, progress, cancel, uri=uri, direction=direction, target=target, try_number=ti.try_number, details=details
    )
    span = TransferSpan({"orbit.direction": direction.value, "orbit.uri": uri, "orbit.try_number": ti.try_number})
    return Watch(story, TransferMetrics(tags, direction), span)
