"""An upload whose token was lost: taken over with its parts when it is certainly ours, left alone otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orbit_airflow.engine.model import ListedUpload, ObjectAttributes, Part, UploadsPage
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from orbit_airflow.testing.faults import When
from tests.unit.engine.bench import PART, Bench, DictTokens, FakeTime, Killed, QuickCancellation, Refusing, data_of
from tests.unit.engine.test_testing_stores import _Body

SIZE = 6 * PART + 5
PROFILES: list[dict[str, Any]] = [
    {"versioned": True},
    {"versioned": True, "checksums": False},
    {"versioned": True, "full_object": False, "page_size": 2},
]


def _started_was_lost(bench: Bench, request: int = 6) -> bytes:
    """The intent is kept; what came behind it was not, and the process died with four parts at the store."""
    data = bench.write(SIZE)
    bench.tokens = tokens = Refusing("started", "completing", "done")
    bench.die(request)
    tokens.refused = set()
    assert bench.token["phase"] == "intent"
    bench.time.now += 600
    return data


def _all_was_lost(bench: Bench) -> tuple[bytes, float]:
    """Nothing is kept, four parts are at the store; when the first try may have begun."""
    data, begun = bench.write(SIZE), bench.time.now
    bench.die(6)
    bench.tokens = bench.fresh_tokens()
    bench.time.now += 600
    return data, begun


class _Watched(QuickCancellation):
    """A stop order in whose waits something happens."""

    def __init__(self, time: FakeTime, deed: Callable[[float], None]) -> None:
        super().__init__(time)
        self._deed = deed

    def sleep(self, seconds: float) -> None:
        self._deed(seconds)
        super().sleep(seconds)


def _part(bench: Bench, upload_id: str, number: int, data: bytes) -> None:
    crc = PartDigests()
    bench.memory.upload_part(bench.ref, upload_id, Part(number, 0, len(data)), _Body(data), crc)


def _twin(bench: Bench, initiator: str | None, *blocks: bytes) -> str:
    """An upload with these parts, begun by this identity; without checksums, so that the parts need none."""
    own, bench.memory.initiator = bench.memory.initiator, initiator or bench.memory.initiator
    upload_id = bench.memory.create(bench.ref, ObjectAttributes(), checksums=False).upload_id
    bench.memory.initiator = own
    for number, block in enumerate(blocks, 1):
        _part(bench, upload_id, number, block)
    return upload_id


def _open(bench: Bench) -> set[str]:
    return {upload.upload_id for upload in bench.memory.uploads()}


@pytest.mark.parametrize("profile", PROFILES, ids=["full", "none", "composite"])
def test_an_upload_whose_token_was_lost_is_taken_over(bench: Bench, profile: dict[str, Any]) -> None:
    """The intent says since when: its parts are saved, nothing is orphaned, there is one version."""
    bench.use(**profile)
    data = _started_was_lost(bench)
    (lost,) = _open(bench)
    result = bench.upload(try_number=2)
    bench.settled(data)
    assert (result.resumed, result.parts_found, result.bytes_saved) == (True, 4, 4 * PART)
    assert (result.bytes_sent, bench.sent) == (SIZE - 4 * PART, SIZE)
    assert bench.token["upload_id"] == lost


@pytest.mark.parametrize("profile", PROFILES, ids=["full", "none", "composite"])
def test_a_state_that_was_wholly_lost_is_made_up_for(bench: Bench, profile: dict[str, Any]) -> None:
    """A second try that knows when its first one may have begun asks the store."""
    bench.use(**profile)
    data, begun = _all_was_lost(bench)
    result = bench.upload(try_number=2, begun_after=begun)
    bench.settled(data)
    assert (result.resumed, result.parts_found, bench.sent) == (True, 4, SIZE)


@pytest.mark.parametrize("profile", PROFILES, ids=["full", "none", "composite"])
def test_a_made_up_for_upload_is_finished_when_it_is_finished(bench: Bench, profile: dict[str, Any]) -> None:
    """Its object carries the mark of the try that began it: the next call sends nothing."""
    bench.use(**profile)
    data, begun = _all_was_lost(bench)
    bench.upload(try_number=2, begun_after=begun)
    again = bench.upload(try_number=3, begun_after=begun)
    bench.settled(data)
    assert (again.resumed, again.bytes_sent, bench.sent) == (True, 0, SIZE)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("profile", PROFILES, ids=["full", "none", "composite"])
def test_a_made_up_for_upload_s_lost_complete_is_settled(bench: Bench, profile: dict[str, Any], replace: bool) -> None:
    """Its object is ours, whichever try's mark it carries."""
    bench.use(**profile, complete_again="gone")
    data, begun = _all_was_lost(bench)
    bench.faulty.add(Fault("complete", when="after"))
    bench.upload(try_number=2, begun_after=begun, replace=replace)
    bench.settled(data)
    assert bench.sent == SIZE


def test_a_made_up_for_upload_is_a_success_where_only_size_and_etag_are_known(bench: Bench) -> None:
    """Complete was answered and its object is there."""
    bench.use(versioned=True)
    data, begun = bench.write(SIZE), bench.time.now
    bench.die(6, verify_checksums=False)
    bench.tokens = bench.fresh_tokens()
    bench.upload(verify_checksums=False, try_number=2, begun_after=begun)
    bench.settled(data)


@pytest.mark.parametrize(("number", "begun"), [(1, True), (2, False)])
def test_without_a_hint_the_store_is_not_asked(bench: Bench, number: int, begun: bool) -> None:
    """A first try has no earlier one, and without a time nothing tells ours from others."""
    data, since = _all_was_lost(bench)
    lost = _open(bench)
    result = bench.upload(try_number=number, begun_after=since if begun else None)
    assert bench.stored == data
    assert (result.resumed, _open(bench)) == (False, lost)
    assert bench.asked("list_uploads") == []


def test_of_two_the_one_with_more_parts_is_taken(bench: Bench) -> None:
    """The other one has parts and may be alive: it stays."""
    bench.use(checksums=False)
    data = bench.write(SIZE)
    bench.die(1)
    few = _twin(bench, None, data[:PART])
    _twin(bench, None, data[:PART], data[PART : 2 * PART], data[2 * PART : 3 * PART])
    result = bench.upload(try_number=3)
    assert bench.stored == data
    assert (result.parts_found, _open(bench)) == (3, {few})


def test_a_second_death_before_the_adoption_is_saved_loses_nothing(bench: Bench) -> None:
    """Killed at each request of the second try: the third one still finds the parts, and nothing stays open."""
    for request in range(1, 20):
        bench.use(versioned=True)
        data = _started_was_lost(bench)
        bench.workers = 1
        bench.kill_at(request, "after")
        try:
            bench.upload(try_number=2)
            break
        except Killed:
            pass
        bench.faulty.clear()
        bench.upload(try_number=3)
        bench.settled(data)
        assert bench.sent <= SIZE + PART, request
    assert request > 8


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("profile", PROFILES, ids=["full", "none", "composite"])
def test_a_second_death_behind_a_wholly_lost_state_loses_nothing(
    bench: Bench, profile: dict[str, Any], when: When, replace: bool
) -> None:
    """The same with nothing kept of the first try, and an object that carries a mark which nobody knows any more."""
    for request in range(1, 25):
        bench.use(**profile, complete_again="gone")
        data, begun = _all_was_lost(bench)
        bench.workers = 1
        bench.kill_at(request, when)
        try:
            bench.upload(try_number=2, begun_after=begun, replace=replace)
            break
        except Killed:
            pass
        bench.faulty.clear()
        bench.time.now += 100
        bench.upload(try_number=3, begun_after=begun, replace=replace)
        bench.settled(data)
        assert bench.sent <= SIZE + PART, request
    assert request > 8


def test_another_identity_s_upload_is_left_alone(bench: Bench) -> None:
    """Its parts may be the same bytes: it is not ours to take."""
    data = bench.write(SIZE)
    bench.die(1)
    theirs = _twin(bench, "somebody else", data[:PART], data[PART : 2 * PART])
    result = bench.upload(try_number=2)
    assert bench.stored == data
    assert (_open(bench), result.parts_found) == ({theirs}, 0)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_upload_with_one_other_part_is_left_alone(bench: Bench, place: int) -> None:
    """All of its parts must be the file's; one stranger among them, in the plan or not, and it is another's."""
    data = bench.write(SIZE)
    bench.die(1)
    blocks = [data[:PART], data[PART : 2 * PART], data[2 * PART : 3 * PART]]
    blocks[place - 1] = data_of(PART, 77)
    theirs = _twin(bench, None, *blocks)
    result = bench.upload(try_number=2)
    assert bench.stored == data
    assert (_open(bench), result.parts_found) == ({theirs}, 0)


@pytest.mark.parametrize(("number", "size"), [(9_999, PART), (3, PART - 1)])
def test_an_upload_with_a_part_that_is_in_no_plan_of_ours_is_left_alone(bench: Bench, number: int, size: int) -> None:
    """Somebody uploads with another part size."""
    data = bench.write(SIZE)
    bench.die(1)
    theirs = _twin(bench, None, data[:PART])
    _part(bench, theirs, number, data[2 * PART : 2 * PART + size])
    result = bench.upload(try_number=2)
    assert bench.stored == data
    assert (_open(bench), result.parts_found) == ({theirs}, 0)


def test_an_upload_that_still_moves_is_left_alone(bench: Bench) -> None:
    """A part arrives in each of our waits: somebody is alive there, and goes on."""
    bench.use(checksums=False)
    data = bench.write(SIZE)
    bench.die(1)
    theirs = _twin(bench, None, data[:PART])
    waited: list[float] = []

    def deed(seconds: float) -> None:
        if seconds >= 5:
            waited.append(seconds)
            at = len(waited) * PART
            _part(bench, theirs, len(waited) + 1, data[at : at + PART])

    result = bench.upload(try_number=2, cancel=_Watched(bench.time, deed))
    assert waited == [10, 20, 20]
    assert bench.stored == data
    assert (_open(bench), result.parts_found) == ({theirs}, 0)
    assert "somebody still sends parts" in bench.notices


def test_a_part_that_arrives_behind_its_sender_s_death_is_taken_too(bench: Bench) -> None:
    """It was on the line when the process died. A longer quiet tells that it was the last one."""
    bench.use(versioned=True, checksums=False)
    data = _started_was_lost(bench)
    (lost,) = _open(bench)
    late = [(5, data[4 * PART : 5 * PART])]

    def deed(seconds: float) -> None:
        if seconds >= 5 and late:
            number, block = late.pop()
            _part(bench, lost, number, block)

    result = bench.upload(try_number=2, cancel=_Watched(bench.time, deed))
    bench.settled(data)
    assert result.parts_found == 5


def test_a_stranger_s_part_that_arrives_while_we_wait_is_no_death_s(bench: Bench) -> None:
    """Other bytes than the file's: the upload is another's, whatever it held before."""
    bench.use(versioned=True, checksums=False)
    data = _started_was_lost(bench)
    lost = _open(bench)
    (name,) = lost
    late = [data_of(PART, 77)]

    def deed(seconds: float) -> None:
        if seconds >= 5 and late:
            _part(bench, name, 5, late.pop())

    result = bench.upload(try_number=2, cancel=_Watched(bench.time, deed))
    assert bench.stored == data
    assert (_open(bench), result.parts_found) == (lost, 0)


def test_an_upload_that_is_completed_while_we_wait_is_left_alone(bench: Bench) -> None:
    """It is gone: we go on with our own."""
    data = _started_was_lost(bench)
    (lost,) = _open(bench)

    def deed(seconds: float) -> None:
        bench.memory.abort(bench.ref, lost)

    result = bench.upload(try_number=2, cancel=_Watched(bench.time, deed))
    bench.settled(data)
    assert result.parts_found == 0


def test_a_stop_order_ends_the_quiet_wait(bench: Bench) -> None:
    """And the next try adopts."""
    from orbit_airflow.engine.errors import Paused

    data = _started_was_lost(bench)

    cancel = _Watched(bench.time, lambda _: cancel.cancel("stop"))
    with pytest.raises(Paused):
        bench.upload(try_number=2, cancel=cancel)
    bench.upload(try_number=3)
    bench.settled(data)
    assert bench.sent == SIZE


def test_a_changed_file_s_lost_upload_is_left_alone(bench: Bench) -> None:
    """Its parts are not the file's: the new file is sent whole."""
    _started_was_lost(bench)
    lost = _open(bench)
    data = bench.write(SIZE, seed=9)
    result = bench.upload(try_number=2)
    assert bench.stored == data
    assert (_open(bench), result.parts_found) == (lost, 0)


def test_the_sweep_behind_an_adoption_reaches_no_further_back_than_the_intent(bench: Bench) -> None:
    """An empty upload that somebody began an hour before the first try, found two hours later, is not ours."""
    theirs = _twin(bench, None)
    bench.time.now += 3600
    data = _started_was_lost(bench)
    bench.time.now += 7200
    result = bench.upload(try_number=2)
    assert bench.stored == data
    assert result.parts_found == 4
    assert _open(bench) == {theirs}


def test_the_sweep_behind_an_adoption_finds_what_later_creates_left(bench: Bench) -> None:
    """The second try's own Create is lost twice; the third answer counts."""
    data = _started_was_lost(bench)
    bench.faulty.add(Fault("create", times=2, when="after"))
    bench.time.now += 60
    assert bench.upload(try_number=2).parts_found == 4
    bench.settled(data)


def test_uploads_without_an_initiator_are_left_alone(bench: Bench) -> None:
    """A store that does not say who began an upload cannot be asked for ours."""
    data = _started_was_lost(bench)
    lost = _open(bench)
    listed = tuple(ListedUpload(bench.ref.key, upload, None, None) for upload in lost)
    bench.faulty.add(Fault("list_uploads", times=None, answer=UploadsPage(listed, None)))
    bench.upload(try_number=2)
    assert bench.stored == data
    assert _open(bench) == lost


def test_an_adoption_that_was_kept_goes_on_like_any_other(bench: Bench) -> None:
    """Killed in the middle behind it: the third try continues that very upload."""
    data = _started_was_lost(bench)
    (lost,) = _open(bench)
    bench.faulty.add(Fault("upload_part", nth=2, times=None, error=_denied()))
    with pytest.raises(type(_denied())):
        bench.upload(try_number=2)
    bench.faulty.clear()
    assert isinstance(bench.tokens, DictTokens)
    assert bench.token["upload_id"] == lost
    bench.upload(try_number=3)
    bench.settled(data)
    assert bench.sent == SIZE


def _denied() -> Exception:
    from orbit_airflow.engine.errors import AccessDenied

    return AccessDenied("x")
