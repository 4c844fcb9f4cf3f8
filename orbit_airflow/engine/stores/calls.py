"""How a request goes out: by the lean path if it can, else by botocore; signed again once when the clocks differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from orbit_airflow.engine.options import EngineConfig
from orbit_airflow.engine.stores.clock import StoreClock, is_skewed
from orbit_airflow.engine.stores.lean import LeanCalls
from orbit_airflow.engine.stores.session import GuardedSession

Answer = Mapping[str, Any]


class Calls:
    """The requests of one client. A client that was not prepared is asked as it is."""

    def __init__(self, client: Any, config: EngineConfig) -> None:
        session = client._endpoint.http_session
        self._clock = session.clock if isinstance(session, GuardedSession) else StoreClock()
        guarded = config.lean and isinstance(session, GuardedSession)
        self._lean = LeanCalls(client, session, config.timeout_seconds) if guarded else None

    def make(self, operation: str, method: Callable[..., Any], params: Mapping[str, Any]) -> Answer:
        """The answer of ``method`` (a client's) to ``params``; raises what botocore raises."""
        used = self._clock.offset
        try:
            return self._once(operation, method, params)
        except ClientError as exc:
            if not self._clock.corrected_by(exc.response, used):
                raise self._telling(exc) from exc
        try:
            return self._once(operation, method, params)
        except ClientError as exc:
            raise self._telling(exc) from exc

    def _once(self, operation: str, method: Callable[..., Any], params: Mapping[str, Any]) -> Answer:
        answer = self._lean.answer(operation, params) if self._lean is not None else None
        if answer is None:
            answer = method(**params)
        return answer

    def _telling(self, error: ClientError) -> ClientError:
        """The same error, with both times in its message when it is about them."""
        if not is_skewed(error.response):
            return error
        answer: Any = dict(error.response)
        message = f"{answer['Error'].get('Message', '')} ({self._clock.times(answer)})"
        answer["Error"] = {**answer["Error"], "Message": message}
        return ClientError(answer, error.operation_name)
