"""Tokens as files: atomic, private, and never an error for the transfer."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from orbit_airflow.engine.model import ObjectRef
from orbit_airflow.engine.source import SourceIdentity
from orbit_airflow.engine.token import FileTokenStore, Ledger, NoTokens, ResumeState, UploadToken, target_hash

TARGET = target_hash("upload", ObjectRef("bucket", "key"), "/path")
SOURCE = SourceIdentity(1, 2, 3, 4, 5)


def _only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_a_token_is_kept_between_processes(tmp_path: Path) -> None:
    """A new store over the same directory has what the old one saved last."""
    store = FileTokenStore(tmp_path / "deep" / "state")
    assert store.save("name", {"a": 1})
    assert store.save("name", {"a": 2})
    assert FileTokenStore(tmp_path / "deep" / "state").load("name") == {"a": 2}


def test_names_do_not_collide(tmp_path: Path) -> None:
    """Each transfer has a file of its own, whatever its name looks like."""
    store = FileTokenStore(tmp_path)
    store.save("../x", {"a": 1})
    store.save("orbit:x/y", {"a": 2})
    assert (store.load("../x"), store.load("orbit:x/y")) == ({"a": 1}, {"a": 2})
    assert len(list(tmp_path.iterdir())) == 2


def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    """0600, also under a generous umask, in a directory of 0700."""
    before = os.umask(0)
    try:
        FileTokenStore(tmp_path / "state").save("name", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(_only_file(tmp_path / "state").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_nothing_kept_is_none(tmp_path: Path) -> None:
    """Also where the directory does not exist."""
    assert FileTokenStore(tmp_path / "nowhere").load("name") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[" * 60_000, b'{"a": "' + b"x" * 70_000 + b'"}', b"\0" * 100]
)
def test_a_garbage_file_is_none(tmp_path: Path, content: bytes) -> None:
    """No JSON, no text, too deep or too large: as if there were none."""
    store = FileTokenStore(tmp_path)
    store.save("name", {})
    _only_file(tmp_path).write_bytes(content)
    assert store.load("name") is None


def test_a_save_replaces_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies before the rename leaves the old token whole."""
    store = FileTokenStore(tmp_path)
    store.save("name", {"a": "old"})

    def died(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", died)
    with pytest.raises(KeyboardInterrupt):
        store.save("name", {"a": "new"})
    assert store.load("name") == {"a": "old"}


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    """False, not an exception: the transfer goes on."""
    (tmp_path / "file").write_text("")
    assert not FileTokenStore(tmp_path / "file").save("name", {})


def test_a_refused_save_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the rename keeps no temporary file: there may be a try every minute."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert not FileTokenStore(tmp_path).save("name", {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_dropped_token_is_gone(tmp_path: Path) -> None:
    """And dropping it again is nothing."""
    store = FileTokenStore(tmp_path)
    store.save("name", {})
    store.drop("name")
    store.drop("name")
    assert store.load("name") is None


def test_no_tokens_keeps_nothing() -> None:
    """For those who do not want to resume."""
    store = NoTokens()
    assert store.save("name", {"a": 1})
    store.drop("name")
    assert store.load("name") is None


class _Refusing:
    """A store that is down."""

    def load(self, key: str) -> object:
        return None

    def save(self, key: str, token: dict[str, Any]) -> bool:
        return False

    def drop(self, key: str) -> None:
        return None


def test_the_ledger_remembers_what_could_not_be_kept() -> None:
    """The running try knows its token, whether or not it was saved."""
    ledger = Ledger(_Refusing(), TARGET, UploadToken.from_mapping)
    token = UploadToken.intent(TARGET, SOURCE, 0, 1)
    assert ledger.save(token) is token
    assert ledger.current is token
    ledger.drop()
    assert ledger.current is None


def test_the_ledger_reads_what_was_kept(tmp_path: Path) -> None:
    """Under the state key of its target."""
    token = UploadToken.intent(TARGET, SOURCE, 0, 1)
    Ledger(FileTokenStore(tmp_path), TARGET, UploadToken.from_mapping).save(token)
    assert Ledger(FileTokenStore(tmp_path), TARGET, UploadToken.from_mapping).load() == token
    assert Ledger(FileTokenStore(tmp_path), "0" * 64, UploadToken.from_mapping).load() is None


@pytest.mark.parametrize(
    ("token", "completed"),
    [('{"phase": "done"}', True), ('{"phase": "started"}', False), ("[]", False), ("{", False), ("", False)],
)
def test_a_resume_state_says_whether_it_is_done(token: str, completed: bool) -> None:
    """For any text, without an exception."""
    assert ResumeState("key", token).completed is completed


def test_a_resume_state_is_json_inside(tmp_path: Path) -> None:
    """Its token is the engine's token as text."""
    mapping = UploadToken.intent(TARGET, SOURCE, 0, 1).to_mapping()
    assert UploadToken.from_mapping(json.loads(ResumeState("key", json.dumps(mapping)).token), TARGET)
