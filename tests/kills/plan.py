"""Where a try is killed: drawn from a seed, so that a failure can be played again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Stage = Literal["before", "mid", "after"]

# A Create has no body, so nothing of it is "mid".
REQUEST_EDGES: tuple[tuple[str, Stage], ...] = (
    ("CreateMultipartUpload", "before"),
    ("CreateMultipartUpload", "after"),
    ("UploadPart", "before"),
    ("UploadPart", "mid"),
    ("UploadPart", "after"),
    ("CompleteMultipartUpload", "before"),
    ("CompleteMultipartUpload", "mid"),
    ("CompleteMultipartUpload", "after"),
)
# Around the saves of the token; "done before" is the gap between Complete and success.
TOKEN_EDGES: tuple[tuple[str, Stage], ...] = (
    ("intent", "after"),
    ("started", "before"),
    ("started", "after"),
    ("completing", "before"),
    ("completing", "after"),
    ("done", "before"),
    ("done", "after"),
)
RECOVERY_EDGES: tuple[tuple[str, Stage], ...] = (*REQUEST_EDGES, ("ListParts", "before"), ("ListParts", "after"))


# Downloads: a HEAD has no body; "publishing after" and "done before" are on both sides of the rename.
DOWN_REQUEST_EDGES: tuple[tuple[str, Stage], ...] = (
    ("HeadObject", "before"),
    ("HeadObject", "after"),
    ("GetObject", "before"),
    ("GetObject", "mid"),
    ("GetObject", "after"),
)
DOWN_TOKEN_EDGES: tuple[tuple[str, Stage], ...] = (
    ("started", "before"),
    ("started", "after"),
    ("publishing", "before"),
    ("publishing", "after"),
    ("done", "before"),
    ("done", "after"),
)
Harm = Literal["none", "truncate", "flip", "swap", "delete part", "delete journal", "lose token"]
HARMS: tuple[Harm, ...] = ("none", "truncate", "flip", "swap", "delete part", "delete journal", "lose token")


@dataclass(frozen=True)
class Kill:
    """One kill: at a request's edge (server), at a token's save (client), or after ``seconds``."""

    kind: Literal["request", "token", "time"]
    point: str = ""
    stage: Stage = "before"
    nth: int = 1
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """How the table names it."""
        return f"{self.point} {self.stage}" if self.kind != "time" else "random instant"


@dataclass(frozen=True)
class Run:
    """One upload of the campaign: its workers, and the kill of each try but the last."""

    number: int
    workers: int
    kills: tuple[Kill, ...]
    harm: Harm = "none"
    at: str = ""

    @property
    def label(self) -> str:
        """How the table names it: by its first kill."""
        return self.at or self.kills[0].label


def draw_runs(count: int, seed: int, parts: int, typical_seconds: float) -> list[Run]:
    """``count`` runs: half killed at edges, half at random instants; one in three is killed again while recovering."""
    rng = random.Random(seed)
    runs = []
    for number in range(count):
        first = _edge(rng, parts, first=True) if number % 2 else _instant(rng, typical_seconds)
        kills = [first]
        while len(kills) < 3 and rng.random() < 1 / 3:
            kills.append(_edge(rng, parts, first=False) if rng.random() < 0.5 else _instant(rng, typical_seconds))
        runs.append(Run(number, (1, 4, 16)[number // 2 % 3], tuple(kills)))
    return runs


def draw_downloads(count: int, seed: int, parts: int, typical_seconds: float) -> list[Run]:
    """As ``draw_runs``, for downloads; in half of the runs something is done to the files between two tries."""
    rng = random.Random(seed)
    runs = []
    for number in range(count):
        kills = [_down_edge(rng, parts) if number % 2 else _instant(rng, typical_seconds)]
        while len(kills) < 3 and rng.random() < 1 / 3:
            kills.append(_down_edge(rng, parts) if rng.random() < 0.5 else _instant(rng, typical_seconds))
        harm = HARMS[number // 2 % len(HARMS)] if number % 4 < 2 else "none"
        runs.append(Run(number, (1, 4, 16)[number // 2 % 3], tuple(kills), harm))
    return runs


def _down_edge(rng: random.Random, parts: int) -> Kill:
    point, stage = rng.choice((*DOWN_REQUEST_EDGES, *DOWN_TOKEN_EDGES))
    if (point, stage) in DOWN_TOKEN_EDGES:
        return Kill("token", point, stage)
    return Kill("request", point, stage, rng.randint(1, parts) if point == "GetObject" else 1)


def _edge(rng: random.Random, parts: int, *, first: bool) -> Kill:
    requests = REQUEST_EDGES if first else RECOVERY_EDGES
    point, stage = rng.choice((*requests, *TOKEN_EDGES))
    if (point, stage) in TOKEN_EDGES:
        return Kill("token", point, stage)
    nth = rng.randint(1, parts) if point == "UploadPart" and first else rng.randint(1, 3)
    return Kill("request", point, stage, nth if point == "UploadPart" else 1)


def _instant(rng: random.Random, typical_seconds: float) -> Kill:
    return Kill("time", seconds=rng.uniform(0.0, typical_seconds * 1.1))
