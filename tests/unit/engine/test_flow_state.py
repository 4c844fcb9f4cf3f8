"""The state between tries: unreadable is not empty, and what is not to be used is left for a later try."""

from __future__ import annotations

from pathlib import Path

import pytest

from orbit_airflow.engine.errors import Disposition, OrbitError, StateUnavailable
from orbit_airflow.engine.token import FileTokenStore, Ledger, UploadToken
from tests.unit.engine.bench import PART, Bench, DictTokens

SIZE = 6 * PART


class _Unreadable(DictTokens):
    """A state store that cannot be read, and would take whatever is written."""

    def __init__(self, kept: dict[str, str], error: Exception) -> None:
        super().__init__()
        self.kept = kept
        self._error = error

    def load(self, key: str) -> object:
        raise self._error


def _interrupted(bench: Bench) -> bytes:
    data = bench.write(SIZE)
    bench.die(5)
    return data


@pytest.mark.parametrize("error", [OSError("the API is down"), RuntimeError("x"), StateUnavailable("not now")])
def test_an_unreadable_state_ends_the_try_and_stays_as_it_is(bench: Bench, error: Exception) -> None:
    """Beginning anew would throw a night's work away: not a request is made, not a word is written."""
    data = _interrupted(bench)
    assert isinstance(bench.tokens, DictTokens)
    kept, asked = dict(bench.tokens.kept), len(bench.memory.requests)
    bench.tokens = tokens = _Unreadable(dict(kept), error)
    with pytest.raises(StateUnavailable) as caught:
        bench.upload()
    assert caught.value.disposition is Disposition.RETRY
    assert (tokens.kept, tokens.phases) == (kept, [])
    assert len(bench.memory.requests) == asked
    bench.tokens = bench.fresh_tokens()
    bench.tokens.kept = kept
    assert bench.upload().parts_found == 3
    bench.settled(data)


def test_another_error_of_a_token_store_comes_out_as_it_is(bench: Bench) -> None:
    """What the engine raises on purpose is not renamed."""
    bench.write(SIZE)
    bench.tokens = _Unreadable({}, OrbitError("mine"))
    with pytest.raises(OrbitError, match="mine") as caught:
        bench.upload()
    assert type(caught.value) is OrbitError


def test_the_ledger_names_the_reason_of_an_unreadable_state() -> None:
    """The class of what was raised, and no more: its words may be anything."""
    with pytest.raises(StateUnavailable, match="OSError"):
        Ledger(_Unreadable({}, OSError("secret words")), "0" * 64, UploadToken.from_mapping).load()


def test_a_state_file_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    """A directory in its place stands for every disk that refuses."""
    store = FileTokenStore(tmp_path)
    store.save("name", {})
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    with pytest.raises(StateUnavailable, match="could not be read"):
        store.load("name")


def test_resume_false_leaves_the_state_and_the_upload(bench: Bench) -> None:
    """A later normal try continues what was left, byte for byte."""
    data = _interrupted(bench)
    kept = bench.token
    result = bench.upload(resume=False)
    assert (result.resumed, result.bytes_sent, bench.stored) == (False, SIZE, data)
    assert bench.token == kept
    assert [upload.upload_id for upload in bench.memory.uploads()] == [kept["upload_id"]]
    before = bench.sent
    later = bench.upload()
    assert (later.resumed, later.parts_found, bench.sent - before) == (True, 3, SIZE - 3 * PART)
    bench.settled(data)


def test_resume_false_leaves_the_state_when_it_fails(bench: Bench) -> None:
    """SourceChanged throws its own upload away, and nobody else's."""
    from orbit_airflow.engine.errors import SourceChanged

    _interrupted(bench)
    kept = bench.token
    data = bench.path.read_bytes()
    bench.on("complete", lambda: bench.write(SIZE, seed=8))
    bench.on("upload_part", lambda: bench.write(SIZE, seed=7), when="after")
    with pytest.raises(SourceChanged):
        bench.upload(resume=False)
    bench.path.write_bytes(data)
    assert bench.token == kept
    assert bench.upload().parts_found == 3
    bench.settled(data)
