"""Tags of a version that is restored in a store that drops them: set by the same try, or by the one behind a kill."""

from __future__ import annotations

from typing import Any

import pytest

from orbit_airflow.engine import CopyOptions
from orbit_airflow.engine.batch.work import Hands
from orbit_airflow.engine.errors import AccessDenied, InvalidRequest, RequestContext
from orbit_airflow.engine.model import ObjectAttributes, ObjectRef, WriteReceipt
from orbit_airflow.engine.restore_once import restore_once
from orbit_airflow.engine.restore_prefix import Action
from orbit_airflow.engine.restore_work import ApplyRestore, PlannedKey
from orbit_airflow.engine.store import CopyRequest
from orbit_airflow.testing import Fault, FaultyStore
from tests.unit.engine.batches import BUCKET, DictTokens, engine_on, fill
from tests.unit.engine.test_batch_tags import DroppingStore

KEPT = ObjectAttributes(metadata=(("colour", "blue"),), tags=(("t", "1"), ("u", "2")))
KEY = ObjectRef(BUCKET, "a")


class Killed(BaseException):
    """What no ``except Exception`` sees."""


class CephLike(DroppingStore):
    """As Ceph, it takes an old version for the object that its key shows, and drops the tags of what it copies then."""

    def copy(self, ref: ObjectRef, request: CopyRequest) -> WriteReceipt:
        """Refused without new metadata."""
        if (request.source.bucket, request.source.key) == (ref.bucket, ref.key) and not request.replace_metadata:
            raise InvalidRequest("changes nothing", RequestContext("CopyObject", ref.bucket, ref.key))
        return super().copy(ref, request)


def _lake() -> tuple[CephLike, ObjectRef, str]:
    """A tagged version below one without tags."""
    memory = CephLike(versioned=True)
    fill(memory, ["a"], KEPT)
    first = memory.versions(KEY)[0].version_id
    engine_on(memory).upload_bytes(b"y", KEY)
    return memory, ObjectRef(BUCKET, "a", first), str(memory.versions(KEY)[0].version_id)


def _apply(store: Any, old: ObjectRef, shown: str) -> Any:
    engine = engine_on(store)
    call = engine.call()
    planned = PlannedKey("a", old.version_id, 1, None, action=Action.COPY, current=shown)
    (outcome,) = (
        ApplyRestore(bucket=BUCKET).worker(Hands(call=call, policy=call.config.policy)).do([planned], again=True)
    )
    return outcome


def test_a_restore_in_other_words_keeps_the_tags() -> None:
    """They are read where they still are: at the old version."""
    memory, old, _ = _lake()
    engine_on(memory).versions.restore_version(old, str(old.version_id))
    assert memory.get_tags(KEY) == KEPT.tags


@pytest.mark.parametrize("fault", [("copy", "after", 2), ("put_tags", "before", 1), ("put_tags", "after", 1)])
@pytest.mark.parametrize("options", [CopyOptions(), CopyOptions(tags=(("own", "1"),))], ids=["its own", "given"])
def test_a_kill_between_a_restore_and_its_tags_loses_none(fault: Any, options: CopyOptions) -> None:
    """The next try finds the copy, and sees that it has them."""
    (memory, old, _), tokens = _lake(), DictTokens()
    with pytest.raises(Killed):
        store = FaultyStore(memory, [Fault(fault[0], when=fault[1], nth=fault[2], error=Killed())])
        restore_once(engine_on(store), old, options, tokens)
    result = restore_once(engine_on(memory), old, options, tokens)
    assert (result.changed, len(memory.versions(KEY))) == (True, 3)
    assert memory.get_tags(KEY) == (options.tags or KEPT.tags)


@pytest.mark.parametrize("fault", [("copy", "after", 2), ("put_tags", "before", 1)])
def test_a_kill_in_a_restore_of_a_prefix_loses_no_tags(fault: Any) -> None:
    """Likewise."""
    memory, old, shown = _lake()
    with pytest.raises(Killed):
        _apply(FaultyStore(memory, [Fault(fault[0], when=fault[1], nth=fault[2], error=Killed())]), old, shown)
    assert _apply(memory, old, shown).ok
    assert (memory.get_tags(KEY), len(memory.versions(KEY))) == (KEPT.tags, 3)


def test_tags_that_somebody_has_set_since_stay() -> None:
    """Only a copy without any is one that its try has not finished."""
    memory, old, shown = _lake()
    _apply(memory, old, shown)
    memory.put_tags(KEY, (("theirs", "1"),))
    assert _apply(memory, old, shown).ok
    assert memory.get_tags(KEY) == (("theirs", "1"),)


def test_who_may_not_read_tags_restores_all_the_same() -> None:
    """The copy is there; that it has its tags is not proved."""
    memory, old, shown = _lake()
    _apply(memory, old, shown)
    denied = FaultyStore(memory, [Fault("get_tags", times=None, error=AccessDenied("no"))])
    assert _apply(denied, old, shown).ok
