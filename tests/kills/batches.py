"""The campaign of batches: each verb killed three times on its way through thousands of keys, and continued.

Kills come at a write's edges, at a save of the cursor and at a random instant. Afterwards the server says what became
of every key, and its log what was sent for it; the report is read line by line.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orbit_airflow.engine import BatchConfig, FileTokenStore, KeyPrefix, PrefixKeys, TransferEngine
from orbit_airflow.engine.batch import ChangeStorageClass, Copy, Delete, TagObjects, UpdateMetadata
from orbit_airflow.engine.batch.verbs import BatchRun
from orbit_airflow.engine.batch.work import BatchWork
from orbit_airflow.engine.keys import KeyList, KeySource
from tests.kills.plan import Kill
from tests.kills.tries import Try, Work, Workplace, run_try
from tests.model_server import RequestRecord
from tests.model_server.seeds import Seed
from tests.model_server.views import VersionState

PLAIN, KEPT = "plain", "kept"
PREFIX, COPIES = "data/", "copies/"
METADATA, TAGS = {"owner": "lake"}, {"project": "orbit"}
NEW_METADATA, NEW_TAGS = {"team": "data"}, {"year": "2026"}
SECONDS = 900.0
KILLS, FINAL_TRIES = 3, 3
# How many keys one request of the control API seeds.
SEEDED_AT_ONCE = 5000

Source = Literal["prefix", "list"]
WRITES = {
    "delete": "DeleteObjects",
    "copy": "CopyObject",
    "class": "CopyObject",
    "metadata": "CopyObject",
    "tags": "PutObjectTagging",
}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    verb: str
    bucket: str
    source: Source
    keys: int
    page_keys: int
    workers: int

    @property
    def pages(self) -> int:
        """Of the whole batch."""
        return -(-self.keys // self.page_keys)

    @property
    def label(self) -> str:
        """How the table names it."""
        return f"{self.verb}, {'versions' if self.bucket == KEPT else 'no versions'}, {self.source}"

    @property
    def work(self) -> BatchWork:
        """The verb with its options."""
        made: dict[str, BatchWork] = {
            "delete": Delete(bucket=self.bucket),
            "copy": Copy(bucket=self.bucket, dest_prefix=COPIES, strip_prefix=PREFIX),
            "class": ChangeStorageClass(bucket=self.bucket, storage_class="STANDARD_IA"),
            "metadata": UpdateMetadata(bucket=self.bucket, metadata=tuple(NEW_METADATA.items())),
            "tags": TagObjects(bucket=self.bucket, tags=tuple(NEW_TAGS.items())),
        }
        return made[self.verb]

    def names(self, count: int | None = None) -> list[str]:
        """The keys."""
        return [f"{PREFIX}{number:06d}" for number in range(self.keys if count is None else count)]

    def keys_of(self, names: list[str]) -> KeySource:
        """The source."""
        return KeyList(names) if self.source == "list" else PrefixKeys(where=KeyPrefix(self.bucket, PREFIX))


@dataclass
class Found:
    """What came of one case. ``again``: pages (or their worth in keys) that more than one try asked about."""

    case: Case
    kills: int = 0
    again: float = 0.0
    writes: tuple[int, int] = (0, 0)
    requests: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def cases(keys: int, page_keys: int, workers: int) -> list[Case]:
    """Every verb where versions are kept and where not; deletes from both kinds of sources."""
    found = []
    for verb in WRITES:
        for bucket, usual in ((KEPT, "prefix"), (PLAIN, "list")):
            sources = ("prefix", "list") if verb == "delete" else (usual,)
            found += [Case(verb, bucket, source, keys, page_keys, workers) for source in sources]  # type: ignore[arg-type]
    return found


def batches(place: Workplace, chosen: Sequence[Case], seed: int) -> list[Found]:
    """All of them, each told as it ends."""
    found = []
    for number, case in enumerate(chosen):
        one = _judged(place, case, random.Random(seed * 1000 + number))
        found.append(one)
        print(f"{case.label}: {one.seconds:.0f} s, {'right' if not one.faults else 'WRONG'}", flush=True)
        for fault in one.faults:
            print(f"  {fault}", flush=True)
    return found


def report_batches(found: Sequence[Found]) -> int:
    """The table; 1 when something was wrong."""
    print(f"\n{'batch':<34}{'kills':>6}{'right':>7}{'pages again':>13}{'writes sent/needed':>21}{'requests':>18}")
    for one in found:
        writes, requests = (f"{sent}/{needed} {sent / needed:.3f}" for sent, needed in (one.writes, one.requests))
        right = "no" if one.faults else "yes"
        print(f"{one.case.label:<34}{one.kills:>6}{right:>7}{one.again:>13.2f}{writes:>21}{requests:>21}")
    broken = sum(bool(one.faults) for one in found)
    print(f"\n{len(found) - broken} passed, {broken} failed")
    return 1 if broken else 0


def _judged(place: Workplace, case: Case, rng: random.Random) -> Found:
    started, found, logs = time.monotonic(), Found(case), list[list[RequestRecord]]()
    needed = _needed(place, case, found)
    _seed(place, case, case.names())
    work, tries = _batch(case, case.keys_of(case.names()), _report(place)), list[Try]()
    for kill in [_draw(rng, case, number) for number in range(KILLS)] + [None] * FINAL_TRIES:
        tries.append(run_try(place, work, kill, len(tries) + 1, limit=SECONDS))
        logs.append(_log(place))
        if tries[-1].result is not None:
            break
    found.kills = sum(item.killed for item in tries)
    found.faults += [f"try {number}: {item.error}" for number, item in enumerate(tries, 1) if item.error]
    if found.kills != KILLS:
        found.faults.append(f"killed {found.kills} times and not {KILLS}")
    _count(found, logs, needed)
    found.faults += _ended(place, case, tries[-1], work)
    found.seconds = time.monotonic() - started
    return found


def _needed(place: Workplace, case: Case, found: Found) -> Counter[str]:
    """What two pages need when nobody kills them, for as many pages as there are."""
    names = case.names(min(case.keys, 2 * case.page_keys))
    _seed(place, case, names)
    done = run_try(place, _batch(case, case.keys_of(names), _report(place)), None, 1, limit=SECONDS)
    if done.result is None:
        found.faults.append(f"not even a batch that nobody kills works: {done.error}")
    counted = Counter(record.operation for record in _log(place))
    return Counter({kind: count * case.keys // len(names) for kind, count in counted.items()})


def _seed(place: Workplace, case: Case, names: list[str]) -> None:
    shutil.rmtree(place.directory / "tokens", ignore_errors=True)
    _report(place).unlink(missing_ok=True)
    place.server.empty()
    seed = Seed(case.bucket, "key", b"lake", checksum="CRC64NVME", metadata=METADATA, tags=TAGS)
    for at in range(0, len(names), SEEDED_AT_ONCE):
        place.server.seed_many(seed, names[at : at + SEEDED_AT_ONCE])
    place.server.reset()


def _report(place: Workplace) -> Path:
    return place.directory / "report.jsonl"


def _batch(case: Case, source: KeySource, report: Path) -> Work:
    config = BatchConfig(max_concurrent=case.workers, page_keys=case.page_keys)

    def work(engine: TransferEngine, tokens: FileTokenStore, number: int) -> dict[str, Any]:
        del number
        result = engine.batch.run(case.work, source, config, BatchRun(report=str(report), tokens=tokens))
        return {**result.summary(), "requests": result.requests}

    return work


def _draw(rng: random.Random, case: Case, number: int) -> Kill:
    """At an edge of a write, at a save of the cursor, at either again; so that a quarter is left for the last try."""
    stage: Literal["before", "after"] = "before" if rng.random() < 0.5 else "after"
    if number == 1 or (number == 2 and rng.random() < 0.3):
        return Kill("token", "", stage, rng.randint(1, max(1, case.pages // 4)))
    units = case.pages if case.verb == "delete" else case.keys
    return Kill("request", WRITES[case.verb], stage, rng.randint(1, max(1, units // 4)))


def _log(place: Workplace) -> list[RequestRecord]:
    records = place.server.records()
    place.server.reset()
    return records


def _count(found: Found, logs: list[list[RequestRecord]], needed: Counter[str]) -> None:
    case, sent = found.case, Counter(record.operation for log in logs for record in log)
    write = WRITES[case.verb]
    found.writes, found.requests = (sent[write], needed[write]), (sent.total(), needed.total())
    if case.verb == "delete":
        found.again = max(
            0, sent[write] - needed[write], sent["ListObjectsV2"] - (case.pages if case.source == "prefix" else 0)
        )
    else:
        found.again = _keys_again(logs) / case.page_keys
    if found.again > found.kills * case.workers:
        found.faults.append(f"{found.again:.1f} pages looked at again, {found.kills * case.workers} allowed")


def _keys_again(logs: list[list[RequestRecord]]) -> int:
    seen, again = set[str](), 0
    for log in logs:
        now = {record.key.removeprefix(COPIES).removeprefix(PREFIX) for record in log if record.key}
        again += len(now & seen)
        seen |= now
    return again


def _ended(place: Workplace, case: Case, last: Try, work: Work) -> list[str]:
    """What is wrong with the result, the report, the objects, and with one more run behind the success."""
    if last.result is None:
        return ["never succeeded"]
    result, faults = last.result, list[str]()
    if (result["total"], result["successful"], result["failed"]) != (case.keys, case.keys, 0):
        faults.append(f"the result is {result}")
    faults += _wrong_lines(case, _report(place))
    faults += _wrong_keys(case, place.server.census(case.bucket))
    rerun = run_try(place, work, None, 9, limit=SECONDS)
    if rerun.result is None or rerun.result["total"] != case.keys or _log(place):
        faults.append(f"a rerun after success: {rerun.result or rerun.error}")
    return faults


def _wrong_lines(case: Case, report: Path) -> list[str]:
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    if [line["key"] for line in lines] == case.names() and all(line["outcome"] != "failed" for line in lines):
        return []
    times = Counter(line["key"] for line in lines)
    lost, twice = set(case.names()) - set(times), [key for key, count in times.items() if count > 1]
    return [f"the report: {len(lines)} lines, {len(lost)} keys missing, {len(twice)} twice"]


def _wrong_keys(case: Case, census: dict[str, list[VersionState]]) -> list[str]:
    wrong = [name for name in case.names() if not _is_right(case, name, census)]
    expected = (
        2 * case.keys if case.verb == "copy" else case.keys if case.verb != "delete" or case.bucket == KEPT else 0
    )
    faults = [f"{len(wrong)} keys are wrong, as {wrong[0]}: {census.get(wrong[0])}"] if wrong else []
    return faults if len(census) == expected else [*faults, f"{len(census)} keys in the bucket, {expected} expected"]


def _is_right(case: Case, name: str, census: dict[str, list[VersionState]]) -> bool:
    """In its final state, by no more versions and markers than one run of the verb makes."""
    versions = census.get(name, [])
    if case.verb == "delete":
        return [item.delete_marker for item in versions] == ([False, True] if case.bucket == KEPT else [])
    if case.verb == "copy":
        copies = census.get(COPIES + name.removeprefix(PREFIX), [])
        return len(versions) == len(copies) == 1 and _as_wished(case, copies[0])
    made = 2 if case.bucket == KEPT and WRITES[case.verb] == "CopyObject" else 1
    return len(versions) == made and _as_wished(case, versions[-1])


def _as_wished(case: Case, item: VersionState) -> bool:
    return (
        not item.delete_marker
        and item.storage_class == ("STANDARD_IA" if case.verb == "class" else "STANDARD")
        and item.metadata == METADATA | (NEW_METADATA if case.verb == "metadata" else {})
        and item.tags == TAGS | (NEW_TAGS if case.verb == "tags" else {})
    )
