"""What a batch does with its keys: the contract between a verb and the flow that feeds it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orbit_airflow.engine.batch.result import KeyOutcome
from orbit_airflow.engine.batch.tag_notes import TagNotes
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import OrbitError, StoreError
from orbit_airflow.engine.keys import KeyEntry
from orbit_airflow.engine.resilience.pace import Pace
from orbit_airflow.engine.resilience.policy import RetryPolicy
from orbit_airflow.engine.token import NoTokens, TokenStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What a verb works with. ``call.store`` is paced and repeats single requests by ``policy``.

    ``tokens`` keep what a single key needs to be continued (a copy in parts). ``untimed()`` lifts operation_timeout for
    the key that this thread is at: what has many requests may take longer than one of them. ``notes`` keep the tags of
    objects that are copied onto themselves. ``pace``: what ``call.store`` keeps, for other engines' requests.
    ``pinned``: an entry's ETag is from a time before this run (a manifest's, not a listing's of now), and another
    object may be there.
    """

    call: Call
    policy: RetryPolicy
    tokens: TokenStore = field(default_factory=NoTokens)
    untimed: Callable[[], None] = lambda: None
    pace: Pace | None = None
    notes: TagNotes = field(default_factory=lambda: TagNotes(NoTokens()))
    pinned: bool = False

    def pause(self, attempt: int, error: OrbitError | None, rng: random.Random) -> None:
        """Wait as the policy says before attempt number ``attempt + 1``. Raises Paused when told to stop."""
        self.call.cancel.sleep(self.policy.delay(attempt, error, rng))


class Unfinished(Exception):
    """Some of the entries have ended, and ``error`` is about the others: ``left``."""

    def __init__(self, error: StoreError, ended: list[KeyOutcome], left: tuple[KeyEntry, ...]) -> None:
        super().__init__(error.message)
        self.error = error
        self.ended = ended
        self.left = left


class AboutAll(Exception):
    """``error`` is not about these entries but about the batch, which ends with it; its cursor stays."""

    def __init__(self, error: OrbitError) -> None:
        super().__init__(error.message)
        self.error = error


class Worker(Protocol):
    """A verb at work; shared by the threads of a batch."""

    def do(self, entries: Sequence[KeyEntry], *, again: bool) -> list[KeyOutcome]:
        """One outcome for each of the entries, each once.

        ``again``: they may have been done before (by a killed try, or in an outage): look first, so that nothing is
        done twice. An OrbitError is about all of the entries, Unfinished about some of them; these may be given again.
        AboutAll ends the batch.
        """


class BatchWork(Protocol):
    """A verb with its options: a frozen value."""

    @property
    def verb(self) -> str:
        """Its name."""

    @property
    def bucket(self) -> str:
        """Where the keys are."""

    @property
    def whole_pages(self) -> bool:
        """True when one request takes a page of keys; else each key is given alone."""

    @property
    def removes(self) -> bool:
        """True when what is done is not there any more, so that a listing does not name it again."""

    def words(self) -> list[object]:
        """What a token is bound to: all that changes what is done."""

    def worker(self, hands: Hands) -> Worker:
        """At work."""

    def requests(self, entry: KeyEntry) -> Counter[str]:
        """The requests that one key needs as far as can be told before, by kind; a fraction for shared ones is 0."""

    def warnings(self) -> tuple[str, ...]:
        """What a person should know before it begins."""
