"""Killed at every request, before it and behind it, once and twice: the next try ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.testing import Fault
from orbit_airflow.testing.faults import When
from tests.unit.engine.bench import PART, Bench, Killed, Refusing

PROFILES: dict[str, dict[str, Any]] = {
    "aws": {"versioned": True},
    "complete gone": {"versioned": True, "complete_again": "gone"},
    "composite": {"full_object": False, "versioned": True},
    "no checksums": {"checksums": False, "versioned": True, "complete_again": "gone"},
}


class _Campaign:
    """Benches, one for each point of death."""

    def __init__(self, folder: Path, size: int, workers: int, profile: dict[str, Any], **options: Any) -> None:
        self._folder = folder
        self._size = size
        self._workers = workers
        self._profile = profile
        self._options = options
        self._made = 0
        self.data = b""

    def bench(self) -> Bench:
        """A fresh one."""
        self._made += 1
        folder = self._folder / str(self._made)
        folder.mkdir()
        bench = Bench(folder)
        bench.workers = self._workers
        bench.use(**self._profile)
        self.data = bench.write(self._size)
        return bench

    def requests(self) -> int:
        """How many requests an undisturbed try takes."""
        bench = self.bench()
        self.run(bench)
        return len(bench.memory.requests)

    def run(self, bench: Bench) -> None:
        """One try without faults."""
        bench.faulty.clear()
        bench.upload(**self._options)

    def die(self, bench: Bench, request: int, when: When) -> bool:
        """One try that dies at this request; False when it has no such request."""
        bench.kill_at(request, when)
        try:
            bench.upload(**self._options)
        except Killed:
            return True
        return False

    def judge(self, bench: Bench, deaths: int, what: object) -> None:
        """Right bytes, one version, nothing open, and no more sent again than one part per worker and death."""
        assert bench.stored == self.data, what
        assert len(bench.memory.versions(bench.ref)) == 1, what
        assert bench.memory.uploads() == [], what
        assert bench.sent - self._size <= deaths * self._workers * PART, what


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("workers", [1, 3])
def test_one_death_at_each_request(tmp_path: Path, name: str, when: When, workers: int) -> None:
    """Whichever request the process dies at, the next try finishes the same transfer."""
    campaign = _Campaign(tmp_path, 6 * PART + 11, workers, PROFILES[name])
    total = campaign.requests()
    assert total >= 9
    for request in range(1, total + 1):
        bench = campaign.bench()
        assert campaign.die(bench, request, when), request
        campaign.run(bench)
        campaign.judge(bench, 1, request)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", PROFILES)
def test_a_small_file_s_death(tmp_path: Path, name: str, when: When) -> None:
    """One request, or one and a look."""
    campaign = _Campaign(tmp_path, PART - 5, 1, PROFILES[name])
    for request in range(1, campaign.requests() + 1):
        bench = campaign.bench()
        assert campaign.die(bench, request, when)
        campaign.run(bench)
        campaign.judge(bench, 1, request)


@pytest.mark.parametrize("part", [1, 3, 6])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_death_in_the_middle_of_a_body(tmp_path: Path, part: int, workers: int) -> None:
    """A half of a part is no part."""
    campaign = _Campaign(tmp_path, 6 * PART, workers, PROFILES["aws"])
    bench = campaign.bench()
    bench.faulty.add(Fault("upload_part", nth=part, times=None, when="during", blocks=0, error=Killed()))
    with pytest.raises(Killed):
        bench.upload()
    campaign.run(bench)
    campaign.judge(bench, 1, part)


@pytest.mark.parametrize("name", ["aws", "no checksums"])
@pytest.mark.parametrize(("first", "second"), [("before", "after"), ("after", "before"), ("after", "after")])
def test_a_second_death_during_the_recovery(tmp_path: Path, name: str, first: When, second: When) -> None:
    """Every pair of points: the third try ends as if nothing had happened."""
    campaign = _Campaign(tmp_path, 3 * PART + 1, 1, PROFILES[name])
    pairs = 0
    for one in range(1, campaign.requests() + 1):
        for two in range(1, 20):
            bench = campaign.bench()
            campaign.die(bench, one, first)
            if not campaign.die(bench, two, second):
                break
            campaign.run(bench)
            campaign.judge(bench, 2, (one, two))
            pairs += 1
    assert pairs > 25


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("size", [100, 4 * PART])
@pytest.mark.parametrize("name", ["aws", "complete gone"])
def test_deaths_with_replace_false(tmp_path: Path, name: str, when: When, size: int) -> None:
    """Our own object of a lost answer is no stranger: the next try succeeds."""
    campaign = _Campaign(tmp_path, size, 2, PROFILES[name], replace=False)
    for request in range(1, campaign.requests() + 1):
        bench = campaign.bench()
        assert campaign.die(bench, request, when)
        campaign.run(bench)
        campaign.judge(bench, 1, request)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", PROFILES)
def test_dying_at_each_request_of_the_way_in_turn(tmp_path: Path, name: str, when: When) -> None:
    """One try after the other gets only a little further: in the end the object is there, and nothing else."""
    campaign = _Campaign(tmp_path, 5 * PART, 1, PROFILES[name])
    bench = campaign.bench()
    deaths = 0
    for reach in range(1, 60):
        if not campaign.die(bench, reach, when):
            break
        deaths += 1
    campaign.judge(bench, deaths, deaths)


def test_an_uploaded_file_is_not_sent_again(tmp_path: Path) -> None:
    """A try that died behind the last save finds phase done: one HEAD, no byte."""
    campaign = _Campaign(tmp_path, 5 * PART, 2, PROFILES["aws"])
    bench = campaign.bench()
    campaign.run(bench)
    before = len(bench.memory.requests)
    result = bench.upload()
    assert [request.operation for request in bench.memory.requests[before:]] == ["head"]
    assert (result.resumed, result.bytes_sent, result.bytes_saved) == (True, 0, 5 * PART)
    campaign.judge(bench, 0, "done")


def test_a_token_that_was_never_kept_costs_a_new_start(tmp_path: Path) -> None:
    """A first try has no earlier one to ask for: right bytes, one version, and the old upload left as it is."""
    campaign = _Campaign(tmp_path, 5 * PART, 1, PROFILES["aws"])
    bench = campaign.bench()
    campaign.die(bench, 4, "after")
    bench.tokens = bench.fresh_tokens()
    (orphan,) = bench.memory.uploads()
    campaign.run(bench)
    assert bench.stored == campaign.data
    assert len(bench.memory.versions(bench.ref)) == 1
    assert bench.memory.uploads() == [orphan]
    assert bench.sent == 3 * PART + 5 * PART


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kept", [(), ("intent",)])
def test_a_token_that_was_never_kept_is_made_up_for_by_the_second_try(
    tmp_path: Path, name: str, when: When, kept: tuple[str, ...]
) -> None:
    """Killed at each request before Complete, with the state lost: the upload is taken over, and nothing is left open.

    With the intent kept, and with nothing kept but the hour since when earlier tries may have begun.
    """
    lost = {"intent", "started", "completing", "done"} - set(kept)
    campaign = _Campaign(tmp_path, 5 * PART, 1, PROFILES[name])
    for request in range(1, 7):
        bench = campaign.bench()
        bench.tokens = tokens = Refusing(*lost)
        began = bench.time.now
        assert campaign.die(bench, request, when), request
        tokens.refused = set()
        bench.faulty.clear()
        bench.time.now += 300
        bench.upload(try_number=2, begun_after=began)
        campaign.judge(bench, 1, request)


@pytest.mark.parametrize("size", [100, 5 * PART])
@pytest.mark.parametrize("name", PROFILES)
def test_an_intent_s_object_is_found_although_all_later_states_were_lost(tmp_path: Path, name: str, size: int) -> None:
    """Killed behind the request that made it visible: its mark is the intent's, and nothing is sent again."""
    campaign = _Campaign(tmp_path, size, 1, PROFILES[name])
    bench = campaign.bench()
    bench.tokens = tokens = Refusing("started", "completing", "done")
    bench.faulty.add(Fault("put" if size == 100 else "complete", when="after", error=Killed()))
    with pytest.raises(Killed):
        bench.upload()
    tokens.refused = set()
    bench.faulty.clear()
    result = bench.upload(try_number=2, begun_after=bench.time.now)
    assert (result.resumed, result.bytes_sent, bench.sent) == (True, 0, size)
    campaign.judge(bench, 0, name)


@pytest.mark.parametrize("when", ["before", "after"])
def test_without_tokens_every_death_is_a_new_start(tmp_path: Path, when: When) -> None:
    """resume=False: right bytes, whatever an earlier try left."""
    campaign = _Campaign(tmp_path, 3 * PART, 2, {}, resume=False)
    for request in range(1, campaign.requests() + 1):
        bench = campaign.bench()
        campaign.die(bench, request, when)
        campaign.run(bench)
        assert bench.stored == campaign.data
