"""A transfer as an OpenTelemetry span below the task's own, where OpenTelemetry is installed and set up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import Token
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.errors import OrbitError, printable
from orbit_airflow.engine.events import Notice, Retrying, TransferCompleted, TransferEvent, TransferFailed
from orbit_airflow.engine.events import TransferStarted as Started

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger(__name__)

NAME = "orbit.transfer"
# A span's events are kept in memory until it ends.
EVENTS_TOLD = 50

Attributes = dict[str, str | bool | int | float]


def _tracer() -> Tracer | None:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("orbit_airflow")


class TransferSpan:
    """One try's span. It is the current one of the thread that calls ``begin``, and so of the threads that are started
    there with a copy of its context. Nothing raises. Attributes are names, figures and types; an error's text, which
    may be a stranger's, is left to the log.
    """

    def __init__(self, attributes: Attributes, *, tracer: Callable[[], Tracer | None] = _tracer) -> None:
        self._attributes = attributes
        self._tracer = tracer
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self._events = 0
        self._complained = False

    def begin(self) -> None:
        """Start it under the current span (the task's)."""
        self._harmlessly(self._begin)

    def _begin(self) -> None:
        tracer = self._tracer()
        if tracer is None:
            return
        from opentelemetry import context
        from opentelemetry.trace import set_span_in_context

        self._span = tracer.start_span(NAME, attributes=self._attributes)
        self._token = context.attach(set_span_in_context(self._span))

    def __call__(self, event: TransferEvent) -> None:
        """Note what the event says."""
        if self._span is not None:
            self._harmlessly(lambda: self._note(event))

    def _note(self, event: TransferEvent) -> None:
        match event:
            case Started():
                self._set({"bytes_total": event.total_bytes, "parts": event.parts, "bytes_found": event.bytes_found})
                self._set({"aws.s3.upload_id": event.upload_id} if event.upload_id else {})
            case Retrying():
                where = {"part_number": event.part_number} if event.part_number else {}
                self._add("retry", {"operation": event.operation, "attempt": event.attempt, **where})
            case Notice():
                self._add("notice", {"message": printable(event.message, 300), "warning": event.warning})
            case TransferCompleted():
                self._set({"bytes_moved": event.bytes_sent, "bytes_saved": event.bytes_saved, "resumed": event.resumed})
                self._set({"integrity": event.integrity.value} if event.integrity else {})
            case TransferFailed():
                self._set({"bytes_moved": event.bytes_sent, "bytes_kept": event.kept_bytes})
            case _:
                pass

    def _set(self, values: Attributes) -> None:
        if self._span is not None:
            named = {name if "." in name else f"orbit.{name}": value for name, value in values.items()}
            self._span.set_attributes(named)

    def _add(self, name: str, values: Attributes) -> None:
        self._events += 1
        if self._span is not None and self._events <= EVENTS_TOLD:
            self._span.add_event(name, values)

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        """End it. An error that is not a pause is the span's own: its type, with the store's code and request id."""
        self._harmlessly(lambda: self._end(outcome, error))

    def _end(self, outcome: str, error: BaseException | None) -> None:
        if self._span is None:
            return
        from opentelemetry import context
        from opentelemetry.trace import Status, StatusCode

        if self._token is not None:
            context.detach(self._token)
        self._set({"outcome": outcome})
        if error is not None:
            self._set({"error.type": type(error).__name__, **_store_answer(error)})
            if outcome == "failed":
                self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._span.end()

    def _harmlessly(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception:
            if not self._complained:
                self._complained = True
                logger.warning("the transfer's span cannot be written; the transfer goes on without it", exc_info=True)


def _store_answer(error: BaseException) -> Attributes:
    if not isinstance(error, OrbitError):
        return {}
    context = error.context
    known = {"status": context.status, "code": context.code, "aws.request_id": context.request_id}
    return {name: value for name, value in known.items() if value}
