"""Stand-ins for what surrounds a task: the supervisor, the log, the clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

XComKey = tuple[str, int, str]


class FakeComms:
    """Answers what a task asks its supervisor, and remembers XComs and state. ``trouble`` may raise or block."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.xcoms: dict[XComKey, Any] = {}
        self.conns: dict[str, dict[str, Any]] = {}
        self.sent: list[Any] = []
        self.trouble: Callable[[str, Any], None] = lambda name, message: None
        self.first_reschedule: datetime | None = None

    def send(self, msg: Any) -> Any:
        name = type(msg).__name__
        self.sent.append(msg)
        self.trouble(name, msg)
        answer = getattr(self, f"_{name}", None)
        return answer(msg) if answer is not None else None

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)

    def writes(self, name: str) -> list[Any]:
        return [message for message in self.sent if type(message).__name__ == name]

    def add_connection(self, conn_id: str, login: str, password: str, extra: dict[str, Any]) -> None:
        known = {"conn_type": "aws", "login": login, "password": password, "extra": json.dumps(extra)}
        self.conns[conn_id] = {"host": None, "schema": None, "port": None, **known}

    def _SetTaskStateStore(self, message: Any) -> None:
        self.state[message.key] = message.value

    def _GetTaskStateStore(self, message: Any) -> Any:
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time import comms

        if message.key in self.state:
            return comms.TaskStateStoreResult(value=self.state[message.key])
        return comms.ErrorResponse(error=ErrorType.TASK_STORE_NOT_FOUND)

    def _DeleteTaskStateStore(self, message: Any) -> None:
        self.state.pop(message.key, None)

    def _SetXCom(self, message: Any) -> None:
        self.xcoms[(message.task_id, message.map_index, message.key)] = message.value

    def _GetXCom(self, message: Any) -> Any:
        from airflow.sdk.execution_time import comms

        index = message.map_index if message.map_index is not None else -1
        return comms.XComResult(key=message.key, value=self.xcoms.get((message.task_id, index, message.key)))

    def _DeleteXCom(self, message: Any) -> None:
        index = message.map_index if message.map_index is not None else -1
        self.xcoms.pop((message.task_id, index, message.key), None)

    def _ValidateInletsAndOutlets(self, message: Any) -> Any:
        from airflow.sdk.execution_time import comms

        return comms.InactiveAssetsResult(inactive_assets=[])

    def _GetTaskRescheduleStartDate(self, message: Any) -> Any:
        from airflow.sdk.execution_time import comms

        return comms.TaskRescheduleStartDate(start_date=self.first_reschedule)

    def _GetConnection(self, message: Any) -> Any:
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time import comms

        if message.conn_id in self.conns:
            return comms.ConnectionResult(conn_id=message.conn_id, **self.conns[message.conn_id])
        return comms.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)


class RecordingLog:
    """A logger that remembers its lines and their fields."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, text: str, **fields: Any) -> None:
        self.lines.append(("info", text, fields))

    def warning(self, text: str, **fields: Any) -> None:
        self.lines.append(("warning", text, fields))

    def texts(self, level: str | None = None) -> list[str]:
        return [text for kind, text, _ in self.lines if level in (None, kind)]


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
