"""How long to wait between two looks: never a tight loop, never all at once. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

# Below it a triggerer with a thousand triggers does nothing but look.
MINIMUM_SECONDS = 1.0
JITTER = 0.1
# How long the pauses after failed looks may grow.
LONGEST_PAUSE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """``interval`` seconds between looks, at least one; with ``backoff`` it doubles with each look, up to
    ``max_wait``.
    """

    interval: float
    backoff: bool = False
    max_wait: float | None = None

    def after(self, looks: int, rng: random.Random) -> float:
        """Seconds to wait behind look number ``looks`` (1 is the first), spread by a tenth up or down."""
        seconds = max(self.interval, MINIMUM_SECONDS)
        if self.backoff:
            seconds *= 2.0 ** min(looks - 1, 20)
        if self.max_wait is not None:
            seconds = min(seconds, max(self.max_wait, MINIMUM_SECONDS))
        return seconds * (1 + JITTER * (2 * rng.random() - 1))

    def after_failures(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait behind so many failed looks in a row: longer and longer, up to five minutes."""
        longest = max(self.interval, LONGEST_PAUSE)
        seconds = min(max(self.interval, MINIMUM_SECONDS) * 2.0 ** min(failures - 1, 20), longest)
        return seconds * (1 + JITTER * (2 * rng.random() - 1))
