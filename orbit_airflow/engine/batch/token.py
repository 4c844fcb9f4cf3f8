"""The cursor of a batch: the little that a killed try leaves to the next one.

What a token must answer is *which keys a killed try may have touched without saying so*. Two things together tell it:

- ``position``: everything up to here has ended, and its lines are in the report (``report_size`` bytes of it);
- ``window``: the pages behind it that were begun. The token is saved with a page in its window *before* the first
  request for that page leaves, so that no key outside of position and window was ever touched. A window has at most
  one page per worker.

Pages that an earlier try had begun stay in the window until a later one has them in hand: a second kill right behind
the first forgets nothing. The next try gives the window's pages to workers that look before they act (a HEAD, or one
listing for a page of deletes): a key that shows no object any more gets no second delete marker, a copy that is there
is not made again. A position means something in one source only: the token is bound to the verb with all its options
and to the source's identity (a list's or manifest's digest), and is thrown away when either differs.

A prefix that is being deleted shrinks: a listing cannot name again what the killed try has deleted. With a report, a
page's keys are noted (``Report.begin``) before the page begins, and the next try takes them from there; without one,
the window's ``count`` tells how many keys there were, and those that no listing shows now count as deleted. A note is
believed only when it is of this very ``run`` and has ``count`` keys: an older run's at the same place names keys that
nobody chose now.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orbit_airflow.engine.batch.result import BatchError, Counts
from orbit_airflow.engine.errors import OrbitError, StateUnavailable, printable
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.token import TokenStore, state_key

logger = logging.getLogger(__name__)

SCHEMA = 1
# Positions are keys of up to 1,024 bytes; so many of them stay well below 64 KiB of JSON.
MAX_WINDOW = 32
_LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class OpenPage:
    """A page that was begun: the position behind it, and how many keys it has."""

    cursor: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchToken:
    """How far a batch has come. ``pages`` of them are finished. ``done``: nothing is left to do. ``run``: the id of all
    tries of this batch ("" in a token of a time when runs had none).
    """

    target: str
    identity: str
    run: str = ""
    position: str | None = None
    pages: int = 0
    counts: Counts = field(default_factory=Counts)
    errors: tuple[BatchError, ...] = ()
    report: str | None = None
    report_size: int = 0
    window: tuple[OpenPage, ...] = ()
    done: bool = False

    def to_mapping(self) -> dict[str, Any]:
        """As JSON; a key of an error is cut, it is in the report."""
        return {
            "schema": SCHEMA,
            "op": "batch",
            "target": self.target,
            "identity": self.identity,
            "run": self.run,
            "position": self.position,
            "pages": self.pages,
            "counts": [self.counts.done, self.counts.skipped, self.counts.failed],
            "errors": [[printable(e.key, 200), printable(e.message, 200), e.code] for e in self.errors],
            "report": self.report,
            "report_size": self.report_size,
            "window": [[page.cursor, page.count] for page in self.window],
            "done": self.done,
        }

    @classmethod
    def from_mapping(cls, data: object, target: str) -> BatchToken:
        """The token in ``data``, if it is well-formed and of this very ``target``; else TokenRejected."""
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA or data.get("op") != "batch":
            raise TokenRejected("the state is none of a batch, or of another version")
        if data.get("target") != target:
            raise TokenRejected("the state belongs to another batch (verb, bucket or options differ)")
        try:
            done, skipped, failed = (_count(value) for value in data["counts"])
            errors = tuple(BatchError(_text(k), _text(m), _maybe(c)) for k, m, c in data["errors"][:20])
            window = tuple(OpenPage(_text(cursor), _count(count)) for cursor, count in data["window"])
            token = cls(
                target=target,
                identity=_text(data["identity"]),
                run=_run(data.get("run", "")),
                position=_maybe(data["position"]),
                pages=_count(data["pages"]),
                counts=Counts(done, skipped, failed),
                errors=errors,
                report=_maybe(data["report"]),
                report_size=_count(data["report_size"]),
                window=window,
                done=data["done"] is True,
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise TokenRejected(f"the state is malformed: {exc!r}") from exc
        if len(window) > 2 * MAX_WINDOW:
            raise TokenRejected("the state is malformed: its window is too large")
        return token


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError(f"not a text: {type(value).__name__}")
    return value


def _run(value: object) -> str:
    """It becomes a part of the report's keys."""
    if not isinstance(value, str) or re.fullmatch(r"[0-9a-f]{16}|", value) is None:
        raise ValueError(f"not a run's id: {value!r:.40}")
    return value


def _maybe(value: object) -> str | None:
    return None if value is None else _text(value)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError(f"not a count: {value!r:.40}")
    return value


def batch_target(verb: str, words: list[object], page_keys: int) -> str:
    """What a token is bound to besides its source: the verb with all that changes what it does."""
    text = json.dumps(["batch", verb, page_keys, *words], ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class BatchLedger:
    """One batch's token, and the store that keeps it. ``run``: the id of a batch that begins."""

    def __init__(self, tokens: TokenStore, target: str, identity: str, run: str) -> None:
        self._tokens = tokens
        self._key = state_key(target)
        self._fresh = BatchToken(target=target, identity=identity, run=run)

    def load(self) -> tuple[BatchToken, str | None]:
        """The token to go on from, and why what was kept cannot be used, if so.

        StateUnavailable when that cannot be told: beginning anew could make second markers and copies.
        """
        try:
            data = self._tokens.load(self._key)
        except OrbitError:
            raise
        except Exception as exc:
            raise StateUnavailable(f"the batch's saved state could not be read ({type(exc).__name__})") from exc
        if data is None:
            return self._fresh, None
        try:
            kept = BatchToken.from_mapping(data, self._fresh.target)
        except TokenRejected as exc:
            return self._fresh, exc.message
        if kept.identity != self._fresh.identity:
            return self._fresh, "the list of keys (or manifest, or prefix) is another one"
        return kept, None

    def save(self, token: BatchToken) -> None:
        """Keep it; a failure to do so is for the token store to report."""
        try:
            self._tokens.save(self._key, token.to_mapping())
        except Exception:
            logger.warning("the batch's state could not be kept; the batch goes on", exc_info=True)
