"""The resume token: hostile input that can say nothing about where to write."""

from __future__ import annotations

import copy
import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbit_airflow.engine.errors import Disposition
from orbit_airflow.engine.fields import TokenRejected
from orbit_airflow.engine.model import (
    GIB,
    Checksum,
    ChecksumType,
    CreatedUpload,
    Integrity,
    ObjectAttributes,
    ObjectRef,
)
from orbit_airflow.engine.proof import LocalProof
from orbit_airflow.engine.source import SourceIdentity
from orbit_airflow.engine.token import (
    Outcome,
    Phase,
    UploadToken,
    attributes_hash,
    state_key,
    target_hash,
)

REF = ObjectRef("secret-bucket", "folder/secret-key")
PATH = "/data/secret-path.bin"
TARGET = target_hash("upload", REF, PATH)
MUTANTS = 2000

_whole = st.integers(0, 2**63)
_crc = st.integers(0, 2**32 - 1)
_maybe_text = st.none() | st.text(max_size=40)
_sources = st.builds(SourceIdentity, _whole, _whole, _whole, _whole, _whole)
_locals = st.builds(LocalProof, _whole, _crc, _maybe_text, _maybe_text, st.booleans())
_checksums = st.none() | st.builds(Checksum, st.text(max_size=9), st.text(max_size=20), st.sampled_from(ChecksumType))
_outcomes = st.builds(
    Outcome,
    st.text(max_size=40),
    _whole,
    st.sampled_from(Integrity),
    st.none() | _crc,
    _maybe_text,
    _checksums,
)
_tokens = st.builds(
    UploadToken,
    target=st.just(TARGET),
    mark=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    intent_at=_whole,
    phase=st.sampled_from(Phase),
    try_number=_whole,
    upload_id=st.from_regex(r"[A-Za-z0-9._~+/=-]{1,60}", fullmatch=True),
    part_size=st.integers(1, 5 * GIB),
    source=_sources,
    checksum_algorithm=st.sampled_from([None, "CRC32"]),
    checksum_type=st.none() | st.sampled_from(ChecksumType),
    attributes=st.none() | st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    created_at=st.none() | _whole,
    adopted=st.booleans(),
    sweep=st.booleans(),
    local=st.none() | _locals,
    outcome=_outcomes,
)


def _full() -> UploadToken:
    """A token with every field filled as after the largest upload to AWS."""
    source = SourceIdentity(48 * 1024**4, 1_800_000_000_123_456_789, 1_800_000_000_123_456_789, 2**40, 2**20)
    token = UploadToken.intent(TARGET, source, 1_800_000_000.5, 7)
    token = token.started(CreatedUpload("u" * 128, "CRC32", ChecksumType.FULL_OBJECT), 5 * GIB, 1_800_000_002.5)
    token = replace(token, attributes=attributes_hash(ObjectAttributes(storage_class="GLACIER")))
    token = token.completing(LocalProof(source.size, 2**32 - 1, "AAAAAA==-10000", None, md5_binding=False))
    checksum = Checksum("CRC32", "y/Q5Jg==")
    etag = "0" * 32 + "-10000"
    return token.done(Outcome(etag, source.size, Integrity.FULL_CRC, 2**32 - 1, "v" * 32, checksum))


@given(_tokens)
def test_a_token_survives_json(token: UploadToken) -> None:
    """What is written is what is read."""
    assert UploadToken.from_mapping(json.loads(json.dumps(token.to_mapping())), TARGET) == token


def test_an_intent_survives_json() -> None:
    """The token of a transfer that has asked nothing yet has no upload, and is valid."""
    token = UploadToken.intent(TARGET, SourceIdentity(1, 2, 3, 4, 5), 12.9, 1)
    assert token.intent_at == 12
    assert UploadToken.from_mapping(json.loads(json.dumps(token.to_mapping())), TARGET) == token


def test_two_transfers_have_two_marks() -> None:
    """The mark is random: nobody else's object can carry it by accident."""
    source = SourceIdentity(1, 2, 3, 4, 5)
    marks = {UploadToken.intent(TARGET, source, 0, 1).mark for _ in range(100)}
    assert len(marks) == 100


def test_a_token_is_under_one_kibibyte() -> None:
    """Of 10,000 parts as of two: parts are not in it."""
    assert len(json.dumps(_full().to_mapping())) < 1024


def test_a_token_names_no_place() -> None:
    """Neither bucket, key nor path is in it, only their hash."""
    text = json.dumps(_full().to_mapping())
    assert not [word for word in ("secret-bucket", "secret-key", "secret-path", "http") if word in text]


def test_places_in_a_token_are_not_read() -> None:
    """Fields that a hand adds have no meaning."""
    extra = {"bucket": "evil", "key": "evil", "path": "/etc/passwd", "endpoint": "http://evil", "verify": False}
    token = UploadToken.from_mapping({**_full().to_mapping(), **extra}, TARGET)
    assert token == _full_with_mark(token.mark)


def _full_with_mark(mark: str) -> UploadToken:
    return UploadToken.from_mapping({**_full().to_mapping(), "mark": mark}, TARGET)


@pytest.mark.parametrize(
    "other",
    [
        target_hash("download", REF, PATH),
        target_hash("upload", ObjectRef("other", REF.key), PATH),
        target_hash("upload", ObjectRef(REF.bucket, "other"), PATH),
        target_hash("upload", REF, "/data/other"),
    ],
)
def test_a_token_of_another_transfer_is_rejected(other: str) -> None:
    """Operation, bucket, key and path are part of what a token is bound to."""
    with pytest.raises(TokenRejected, match="another transfer"):
        UploadToken.from_mapping(_full().to_mapping(), other)


def test_a_relative_path_is_the_absolute_one() -> None:
    """The same file is the same transfer from wherever it is named."""
    assert target_hash("upload", REF, "x/../data.bin") == target_hash("upload", REF, "./data.bin")


def test_addresses_do_not_collide_by_concatenation() -> None:
    """Bucket "a", key "b/c" is not bucket "a/b", key "c"."""
    assert target_hash("upload", ObjectRef("aa", "b/c"), "/p") != target_hash("upload", ObjectRef("aa/b", "c"), "/p")


def test_the_state_key_is_bound_to_the_target() -> None:
    """orbit: and 16 hex digits."""
    assert state_key(TARGET) == f"orbit:{TARGET[:16]}"


@pytest.mark.parametrize("schema", [0, 2, 99])
def test_another_schema_is_rejected(schema: int) -> None:
    """A newer or older version's token leads to a clean start."""
    with pytest.raises(TokenRejected, match="another version"):
        UploadToken.from_mapping({**_full().to_mapping(), "schema": schema}, TARGET)


@pytest.mark.parametrize("data", [[], "text", 5, True, b"x", 1.5])
def test_what_is_no_mapping_is_rejected(data: object) -> None:
    """Whatever JSON has besides objects."""
    with pytest.raises(TokenRejected, match="no object"):
        UploadToken.from_mapping(data, TARGET)


@pytest.mark.parametrize(
    "name", ["schema", "op", "target", "mark", "intent_at", "phase", "try_number", "sweep", "upload_id", "part_size"]
)
def test_a_running_token_needs_its_fields(name: str) -> None:
    """Nothing is guessed for a field that is not there."""
    data = {**_full().to_mapping(), "phase": "started"}
    del data[name]
    with pytest.raises(TokenRejected):
        UploadToken.from_mapping(data, TARGET)


def test_a_token_from_before_a_field_was_added_is_read() -> None:
    """An upgrade in the middle of a night's upload does not cost its parts."""
    data = _full().to_mapping()
    for name in ("attributes", "created_at", "adopted"):
        data.pop(name)
    token = UploadToken.from_mapping(data, TARGET)
    assert (token.attributes, token.created_at, token.adopted) == (None, None, False)


def test_done_needs_a_result() -> None:
    """A token that claims success has to say what it was."""
    with pytest.raises(TokenRejected, match="no result"):
        UploadToken.from_mapping({**_full().to_mapping(), "outcome": None}, TARGET)


@pytest.mark.parametrize("upload_id", ["", "a b", "a\nb", "a?versionId=1", "a&b", "../x\0", "u" * 1025, "é"])
def test_an_upload_id_has_no_strange_characters(upload_id: str) -> None:
    """It goes into a query string; what S3 never writes is not sent."""
    with pytest.raises(TokenRejected):
        UploadToken.from_mapping({**_full().to_mapping(), "upload_id": upload_id}, TARGET)


def test_a_rejected_token_is_not_the_end() -> None:
    """The class says FAIL, and the flow answers with a clean start; see the flow tests."""
    assert TokenRejected("x").disposition is Disposition.FAIL


_NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1.5, math.nan, math.inf, "", "x", "-1", "../../etc",
    "a\nb", "\x00", "\ud800", "é" * 50, "x" * 70_000, [], [1], [1, 2, 3, 4, 5], ["a", "b", "c"], [None] * 5,
    {}, {"size": 1}, {"etag": "x"}, {"$ref": "#"}, [[[[[]]]]], "done", "started", "FULL_OBJECT", b"bytes", object(),
)  # fmt: skip


def _mutant(rng: random.Random) -> dict[str, Any]:
    data = copy.deepcopy(_full().to_mapping())
    for _ in range(rng.randint(1, 3)):
        place: Any = data
        nested = [value for value in data.values() if isinstance(value, dict)]
        if nested and rng.random() < 0.4:
            place = rng.choice(nested)
        if not place:
            continue
        name = rng.choice(sorted(place))
        deed = rng.random()
        if deed < 0.2:
            del place[name]
        elif deed < 0.3:
            place[f"{name}_"] = place.pop(name)
        elif isinstance(place[name], str) and deed < 0.5:
            text = place[name]
            cut = rng.randrange(len(text) + 1)
            place[name] = text[:cut] + rng.choice(["", "\n", "/", "Ω", "0"]) + text[cut + 1 :]
        else:
            place[name] = rng.choice(_NASTY)
    return data


def test_two_thousand_mutants_lead_nowhere() -> None:
    """A damaged token is rejected as such, or it is still a token of this very target with sane fields."""
    rng, rejected = random.Random(20), 0
    for number in range(MUTANTS):
        data = _mutant(rng)
        try:
            token = UploadToken.from_mapping(data, TARGET)
        except TokenRejected:
            rejected += 1
            continue
        assert token.target == TARGET, number
        assert len(token.mark) == 32, number
        assert token.upload_id is None or token.upload_id.isascii(), number
        assert token.part_size is None or 1 <= token.part_size <= 5 * GIB, number
    assert rejected > MUTANTS / 2
