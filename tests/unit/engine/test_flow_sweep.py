"""Creates whose answer was lost: the empty twin goes, everybody else's upload stays."""

from __future__ import annotations

import pytest

from orbit_airflow.engine.errors import AccessDenied, ConnectionLost, RequestContext, SourceChanged
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef, Part
from orbit_airflow.engine.store import PartDigests
from orbit_airflow.testing import Fault
from tests.unit.engine.bench import PART, Bench, Killed, QuickCancellation
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


@pytest.mark.parametrize("hours", [0, 2])
def test_foreign_uploads_survive(bench: Bench, hours: int) -> None:
    """Another identity's, one with parts, one begun before the intent, one of another key, one begun behind our Create.

    However long the parts take: what they took is no time in which a Create of ours can have been lost.
    """
    data = bench.write(SIZE)
    planted = {_begin(bench, at=-3600), _begin(bench, at=-60), _begin(bench, at=-3600, part=True)}
    bench.time.now += 10
    lost: set[str] = set()

    def at_the_lost_create() -> None:
        lost.update(_open(bench) - planted)
        planted.update(
            {
                _begin(bench, initiator="somebody else"),
                _begin(bench, part=True),
                _begin(bench, key=bench.ref.key + ".other"),
            }
        )

    def while_we_send() -> None:
        bench.time.now += 60
        planted.add(_begin(bench))
        bench.time.now += hours * 3600
        planted.add(_begin(bench))

    bench.faulty.add(Fault("create", when="after", call=at_the_lost_create, error=ConnectionLost("lost")))
    bench.faulty.add(Fault("upload_part", call=while_we_send))
    bench.upload()
    assert bench.stored == data
    assert len(lost) == 1
    assert _open(bench) == planted


@pytest.mark.parametrize("hours", [0, 2])
def test_foreign_uploads_survive_the_next_try_s_sweep(bench: Bench, hours: int) -> None:
    """Killed at Create: what was begun before that intent stays, and so does what is begun while the parts are sent."""
    data = bench.write(SIZE)
    planted = {_begin(bench, at=-3600), _begin(bench, at=-60)}
    bench.time.now += 10
    bench.die(1, "after")
    bench.time.now += hours * 3600 + 60

    def while_we_send() -> None:
        bench.time.now += hours * 3600 + 60
        planted.add(_begin(bench))

    bench.faulty.add(Fault("upload_part", call=while_we_send))
    bench.upload()
    assert bench.stored == data
    assert _open(bench) == planted


def test_an_upload_that_gets_its_first_part_while_we_look_survives(bench: Bench) -> None:
    """Its writer had begun in the same second as our lost Create, and was about to send."""
    bench.write(SIZE)
    theirs: set[str] = set()

    def plant() -> None:
        theirs.add(_begin(bench))

    def first_part() -> None:
        (upload,) = theirs
        if upload in _open(bench) and len(bench.asked("upload_part")) == 4:
            bench.memory.upload_part(bench.ref, upload, Part(1, 0, 5), _Body(b"12345"), PartDigests())

    class Watched(QuickCancellation):
        def sleep(self, seconds: float) -> None:
            first_part()
            super().sleep(seconds)

    bench.faulty.add(Fault("create", when="after", call=plant, error=ConnectionLost("lost")))
    bench.upload(cancel=Watched(bench.time))
    assert _open(bench) == theirs


def test_the_sweep_survives_a_restart(bench: Bench) -> None:
    """The file changes under the upload whose twin was lost: the new upload's end sweeps it, too."""
    bench.write(SIZE)
    bench.faulty.add(Fault("create", when="after"))
    bench.on("upload_part", lambda: bench.write(SIZE, seed=7), when="after")
    bench.time.now += 5
    bench.upload(on_source_change="restart")
    bench.settled(bench.path.read_bytes())


def test_the_sweep_survives_an_upload_that_is_gone(bench: Bench) -> None:
    """Aborted by somebody an hour later, with its empty twin still there: begun again, and both are looked for."""
    data = bench.write(SIZE)
    bench.faulty.add(Fault("create", when="after"))

    def aborted() -> None:
        bench.time.now += 3600
        known = bench.token["upload_id"]
        bench.memory.abort(bench.ref, known)

    bench.on("upload_part", aborted)
    bench.upload()
    bench.settled(data)


def test_the_sweep_survives_a_death_behind_the_restart(bench: Bench) -> None:
    """The third process still knows that a Create of the first one was lost."""
    bench.workers = 1
    bench.write(SIZE)
    bench.faulty.add(Fault("create", when="after"), Fault("upload_part", nth=3, error=Killed()))
    bench.on("upload_part", lambda: bench.write(SIZE, seed=7), when="after")
    with pytest.raises(Killed):
        bench.upload(on_source_change="restart")
    bench.faulty.clear()
    bench.time.now += 600
    bench.upload(on_source_change="restart")
    bench.settled(bench.path.read_bytes())


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


def test_a_transfer_that_fails_for_good_sweeps_before_it_is_forgotten(bench: Bench) -> None:
    """Its token goes, and with it all that is known of the upload whose Create was lost."""
    bench.write(SIZE)
    bench.workers = 1
    bench.faulty.add(Fault("create", when="after"))
    bench.on("upload_part", lambda: bench.write(SIZE, seed=7), when="after")
    with pytest.raises(SourceChanged):
        bench.upload()
    assert bench.memory.uploads() == []
