"""Creates whose answer was lost: the empty twin goes, everybody else's upload stays."""

from __future__ import annotations

import pytest

from orbit_airflow.engine.errors import AccessDenied, RequestContext
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef, Part
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench, Killed
from tests.unit.engine.test_testing_stores import _Body

SIZE = 4 * PART


def _begin(
    bench: Bench, *, initiator: str | None = None, at: float = 0.0, key: str | None = None, part: bool = False
) -> str:
    """Somebody begins an upload."""
    own, now = bench.memory.initiator, bench.time.now
    bench.memory.initiator, bench.time.now = initiator or own, now + at
    ref = ObjectRef("bucket", key) if key else bench.ref
    upload = bench.memory.create(ref, ObjectAttributes(), checksums=False).upload_id
    bench.memory.initiator, bench.time.now = own, now
    if part:
        bench.memory.upload_part(ref, upload, Part(1, 0, 5), _Body(b"12345"), PartDigests())
    return upload


def _open(bench: Bench) -> set[str]:
    return {upload.upload_id for upload in bench.memory.uploads()}


@pytest.mark.parametrize("times", [1, 2])
def test_lost_creates_are_swept(bench: Bench, times: int) -> None:
    """Within one try: their answers never came."""
    data = bench.write(SIZE)
    bench.faulty.add(Fault("create", times=times, when="after"))
    bench.upload()
    bench.settled(data)
    assert len(bench.asked("create")) == times + 1


def test_a_create_lost_by_a_death_is_swept(bench: Bench) -> None:
    """The next try knows only the intent."""
    data = bench.write(SIZE)
    bench.kill_at(1, "after")
    with pytest.raises(Killed):
        bench.upload()
    bench.faulty.clear()
    bench.time.now += 600
    bench.upload()
    bench.settled(data)


def test_every_page_is_looked_at(bench: Bench) -> None:
    """Also when the listing has one upload per page."""
    bench.use(page_size=1)
    bench.write(SIZE)
    strangers = {_begin(bench, initiator="somebody") for _ in range(4)}
    bench.faulty.add(Fault("create", times=2, when="after"))
    bench.upload()
    assert _open(bench) == strangers


def test_foreign_uploads_survive(bench: Bench) -> None:
    """Another identity's, one with parts, one begun before the intent, one of another key, one begun later."""
    bench.write(SIZE)
    before = _begin(bench, at=-3600)
    bench.faulty.add(Fault("create", when="after"))
    planted: set[str] = {before}

    def plant() -> None:
        planted.update(
            {
                _begin(bench, initiator="somebody else"),
                _begin(bench, part=True),
                _begin(bench, key=bench.ref.key + ".other"),
                _begin(bench, at=3600),
            }
        )

    bench.faulty.add(Fault("upload_part", call=plant))
    bench.upload()
    assert _open(bench) == planted


def test_without_a_lost_create_nothing_is_listed_or_aborted(bench: Bench) -> None:
    """An empty upload of our own identity, begun at the same time, may be another task's."""
    bench.write(SIZE)
    other = _begin(bench)
    bench.upload()
    assert _open(bench) == {other}
    assert bench.asked("list_uploads") == []


def test_a_store_that_will_not_list_is_left_as_it_is(bench: Bench) -> None:
    """One line in the log, and a success."""
    data = bench.write(SIZE)
    denied = AccessDenied("x", RequestContext(status=403, code="AccessDenied"))
    bench.faulty.add(Fault("create", when="after"), Fault("list_uploads", times=None, error=denied))
    bench.upload()
    assert bench.stored == data
    assert len(bench.memory.uploads()) == 1
    assert "lost Create" in bench.notices


def test_a_stranger_with_our_key_as_prefix_survives(bench: Bench) -> None:
    """Only exactly this key counts."""
    bench.write(SIZE)
    bench.faulty.add(Fault("create", when="after"))
    planted: set[str] = set()
    bench.faulty.add(Fault("upload_part", call=lambda: planted.add(_begin(bench, key=bench.ref.key + "/deeper"))))
    bench.upload()
    assert _open(bench) == planted
