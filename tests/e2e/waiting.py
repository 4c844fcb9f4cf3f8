"""Waiting for a condition: the only way in which these tests spend time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotInTime(AssertionError):
    """A condition did not come true; the message says which and what was seen instead."""


def wait_for(
    what: str,
    look: Callable[[], T | None],
    *,
    patience: float,
    every: float = 0.2,
    explain: Callable[[], str] = str,
) -> T:
    """Call `look` until it gives something true, and return that.

    Raises NotInTime after `patience` seconds, with what `explain` says; what `look` raises is passed on.
    """
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotInTime(f"{what}: not within {patience:.0f} s\n{explain()}")
        time.sleep(every)
