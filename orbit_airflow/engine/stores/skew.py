"""A worker's wrong clock, corrected from the store's own: botocore signs with this machine's time and never learns.

A store refuses requests whose time stamp is some minutes off. Its answer's Date says what the time is there; from then
on this client's requests are signed with the difference added, and the refused request is repeated like any other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine.errors import ClockSkewed
from orbit_airflow.engine.stores.codes import BY_CODE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_STAMP = "%Y%m%dT%H%M%SZ"
# S3 allows 15 minutes. Less than this is not what a refusal without a code (of a HEAD) was about.
LEAST_SKEW = 240.0


class StoreClock:
    """How far the store's clock is ahead of this machine's, in seconds; 0 until an answer says otherwise."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.offset = 0.0

    def learn(self, date: str) -> None:
        """From the Date header of an answer that may be a refusal of our time stamp; anything else is left alone."""
        try:
            told = parsedate_to_datetime(date)
            offset = (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp() - self._clock()
        except (ValueError, OverflowError):
            return
        with self._lock:
            # Against the offset in force: thirty answers to requests from before the correction must not add up.
            if abs(offset - self.offset) >= LEAST_SKEW:
                self.offset = offset

    def shifted(self, stamp: str) -> str:
        """A signature's time stamp in the store's time."""
        if not self.offset:
            return stamp
        try:
            return (datetime.strptime(stamp, _STAMP) + timedelta(seconds=self.offset)).strftime(_STAMP)  # noqa: DTZ007
        except OverflowError:
            return stamp


def correct_clock(client: S3Client, clock: StoreClock | None = None) -> StoreClock:
    """Let this client sign in its store's time as soon as a request is refused for its own.

    Like ``http.install`` it uses what botocore does not call public; without it the refusals stay as they are.
    """
    signer: Any = client._request_signer  # type: ignore[attr-defined]
    if hasattr(signer, "orbit_clock"):
        # A client of two engines: corrected twice would be wrong again.
        given: StoreClock = signer.orbit_clock
        return given
    known = signer.orbit_clock = clock or StoreClock()
    plain = signer.get_auth_instance

    def get_auth_instance(
        signing_name: str, region_name: str, signature_version: str | None = None, **others: Any
    ) -> Any:
        auth = plain(signing_name, region_name, signature_version, **others)
        modify = getattr(auth, "_modify_request_before_signing", None)
        if modify is None:
            return auth

        def shift_and_modify(request: Any) -> None:
            request.context["timestamp"] = known.shifted(request.context["timestamp"])
            modify(request)

        auth._modify_request_before_signing = shift_and_modify
        return auth

    def look(response_dict: Mapping[str, Any] | None = None, parsed_response: Any = None, **_: Any) -> None:
        code = str(((parsed_response or {}).get("Error") or {}).get("Code", ""))
        if response_dict is not None and (BY_CODE.get(code) is ClockSkewed or code == "403"):
            known.learn(str(response_dict["headers"].get("date", "")))

    signer.get_auth_instance = get_auth_instance
    client.meta.events.register("response-received.s3", look)
    return known
