"""Whole uploads under encryption, locks, and the headers that every call must carry."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from orbit_airflow.engine import ServerSideEncryption, UploadResult
from orbit_airflow.engine.encryption import CustomerKey
from orbit_airflow.engine.errors import AccessDenied, ConfigError, InvalidRequest, OrbitError, StoreError, Unavailable
from orbit_airflow.engine.model import Integrity, ObjectAttributes
from tests.model_server import Fault, ServerProfile
from tests.scenario.conftest import BUCKET, PART, Stage

Upload = Callable[..., UploadResult]
KEY, OTHER = CustomerKey(b"k" * 32), CustomerKey(b"o" * 32)
PROFILE = ServerProfile(min_part_size=PART)


def kept(stage: Stage) -> Any:
    """The traits of the one version of the key."""
    (version,) = stage.server._world.store.versions(BUCKET, stage.ref.key)
    return version.traits


@pytest.mark.parametrize("parts", [True, False])
def test_a_customer_key_goes_with_every_call_that_wants_it(stage: Stage, upload: Upload, parts: bool) -> None:
    """Create, parts, Complete, or PutObject; the store keeps no key, and an upload is proved by its checksum."""
    if not parts:
        stage.path.write_bytes(os.urandom(1000))
    result = upload(stage.engine(customer_key=KEY))
    assert stage.versions() == [stage.path.read_bytes()]
    assert kept(stage).customer_key_md5 == KEY.md5
    assert result.integrity is Integrity.FULL_CRC


@pytest.mark.parametrize("parts", [True, False])
def test_an_encrypted_object_s_etag_is_never_taken_for_an_md5(stage: Stage, upload: Upload, parts: bool) -> None:
    """Where the store keeps no checksums, only the size is left to compare, and the result says so."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, flexible_checksums=False))
    if not parts:
        stage.path.write_bytes(os.urandom(1000))
    assert upload(stage.engine(customer_key=KEY)).integrity is Integrity.SIZE_ETAG
    assert stage.versions() == [stage.path.read_bytes()]


def test_an_interrupted_upload_with_a_customer_key_continues(stage: Stage, upload: Upload) -> None:
    """ListParts with the key, the missing parts with the key, and nothing of it in the token."""
    stage.server.inject(Fault(operation="UploadPart", stage="before", action="error", part_number=4, times=None))
    with pytest.raises(Unavailable):
        upload(stage.engine(customer_key=KEY, parallel_operations=1, max_retries=0))
    stage.server.clear_faults()
    tokens = b"".join(path.read_bytes() for path in stage.tokens._directory.rglob("*") if path.is_file())
    assert tokens
    assert not [word for word in (KEY.base64, KEY.md5, KEY.key.hex()) if word.encode() in tokens]
    result = upload(stage.engine(customer_key=KEY))
    assert (result.resumed, result.parts_found) == (True, 3)
    assert stage.versions() == [stage.path.read_bytes()]


@pytest.mark.parametrize("key", [OTHER, None])
def test_another_key_on_resume_is_a_clear_error_that_keeps_the_parts(
    stage: Stage, upload: Upload, key: CustomerKey | None
) -> None:
    """The upload belongs to its first key; with that one it still continues."""
    stage.server.inject(
        Fault(
            operation="CompleteMultipartUpload",
            stage="before",
            action="error",
            status=403,
            code="AccessDenied",
            times=None,
        )
    )
    with pytest.raises(AccessDenied):
        upload(stage.engine(customer_key=KEY))
    stage.server.clear_faults()
    with pytest.raises(InvalidRequest) as caught:
        upload(stage.engine(customer_key=key))
    assert key is None or "begun with another key" in str(caught.value)
    assert KEY.base64 not in str(caught.value)
    assert stage.open_uploads() == 1
    assert upload(stage.engine(customer_key=KEY)).bytes_sent == 0


def test_an_object_under_a_key_that_is_not_ours_is_named_as_such(stage: Stage, upload: Upload) -> None:
    """Its HEAD is a bare 400; the message says what that may mean."""
    upload(stage.engine(customer_key=KEY))
    with pytest.raises(AccessDenied, match="under a customer key"):
        upload(replace=False, resume=False)


def test_a_bucket_that_blocks_customer_keys_says_so(stage: Stage, upload: Upload) -> None:
    """S3's buckets do by default since 2026; the refusal names the key's part in it."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, customer_keys_blocked=True))
    with pytest.raises(AccessDenied, match="bucket that blocks them"):
        upload(stage.engine(customer_key=KEY))


@pytest.mark.parametrize(
    ("encryption", "expected"),
    [
        ("AES256", {"": "AES256"}),
        ("AwsKms", {"": "aws:kms"}),
        (ServerSideEncryption.kms("arn:aws:kms:us-east-1:1:key/2", bucket_key=True),
         {"": "aws:kms", "-aws-kms-key-id": "arn:aws:kms:us-east-1:1:key/2", "-bucket-key-enabled": "true"}),
        ({"algorithm": "aws:kms:dsse", "key_id": "alias/a"}, {"": "aws:kms:dsse", "-aws-kms-key-id": "alias/a"}),
        ("none", {}),
        (None, {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("parts", [True, False])
def test_the_configured_encryption_reaches_the_object(
    stage: Stage, upload: Upload, encryption: object, expected: dict[str, str], parts: bool
) -> None:
    """On CreateMultipartUpload and on PutObject; "none" and nothing send no header."""
    if not parts:
        stage.path.write_bytes(b"x")
    result = upload(stage.engine(server_side_encryption=encryption, storage_class="OnezoneIa"))
    prefix = "x-amz-server-side-encryption"
    assert kept(stage).encryption == {prefix + name: value for name, value in expected.items()}
    assert kept(stage).storage_class == "ONEZONE_IA"
    assert kept(stage).acl == "private"
    assert result.integrity is Integrity.FULL_CRC


def test_the_upload_s_own_choice_wins_over_the_configuration(stage: Stage, upload: Upload) -> None:
    """Encryption as a whole: nothing of the default's key is mixed into it; "none" switches it off."""
    engine = stage.engine(
        server_side_encryption=ServerSideEncryption.kms("k", bucket_key=True), storage_class="GLACIER"
    )
    upload(engine, attributes=ObjectAttributes(server_side_encryption="AES256", storage_class="STANDARD"))
    assert kept(stage).encryption == {"x-amz-server-side-encryption": "AES256"}
    assert kept(stage).storage_class == "STANDARD"
    stage.path.write_bytes(b"another file")
    upload(engine, attributes=ObjectAttributes(server_side_encryption="none"), resume=False)
    assert stage.server._world.store.versions(BUCKET, stage.ref.key)[0].traits.encryption == {}


@pytest.mark.parametrize("parts", [True, False])
def test_a_lock_is_asked_for_with_the_object_and_its_bytes_carry_a_checksum(
    stage: Stage, upload: Upload, parts: bool
) -> None:
    """Mode, date and legal hold; S3 refuses such bytes without a checksum, so switching them off does not hold here."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, object_lock=True))
    if not parts:
        stage.path.write_bytes(b"x")
    until = datetime(2031, 1, 1, tzinfo=UTC)
    lock = (("ObjectLockMode", "GOVERNANCE"), ("ObjectLockRetainUntilDate", until), ("ObjectLockLegalHoldStatus", "ON"))
    upload(stage.engine(verify_checksums=False), attributes=ObjectAttributes(extra_args=lock))
    assert kept(stage).lock == {
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": "2031-01-01T00:00:00Z",
        "x-amz-object-lock-legal-hold": "ON",
    }


def test_every_call_names_payer_and_owner(stage: Stage, upload: Upload) -> None:
    """A whole upload with a lost Create, a resume and a HEAD, on a store that refuses any call without the headers."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, requester_pays=True, owner_expected=True))
    engine = stage.engine(
        request_payer="requester", expected_bucket_owner=PROFILE.account_id, parallel_operations=1, max_retries=2
    )
    stage.server.inject(Fault(operation="CreateMultipartUpload", stage="after", action="reset"))
    stage.server.inject(
        Fault(operation="UploadPart", stage="before", action="error", status=403, code="AccessDenied", part_number=4)
    )
    with pytest.raises(AccessDenied):
        upload(engine, replace=False)
    result = upload(engine, replace=False)
    assert result.parts_found == 3
    assert stage.open_uploads() == 0
    seen = {item.operation for item in stage.server.records()}
    assert seen >= {"HeadObject", "CreateMultipartUpload", "UploadPart", "ListParts", "ListMultipartUploads"}
    assert {item.status for item in stage.server.records() if item.fault == ""} <= {200, 204, 404}


@pytest.mark.parametrize("missing", ["requester_pays", "owner_expected"])
def test_without_the_headers_such_a_store_refuses(stage: Stage, upload: Upload, missing: str) -> None:
    """So the test above proves something."""
    stage.server.set_profile(ServerProfile(min_part_size=PART, **{missing: True}))  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        upload()


def test_a_foreign_owner_is_refused_by_the_store(stage: Stage, upload: Upload) -> None:
    """Somebody who got hold of the bucket's name gets no byte."""
    with pytest.raises(AccessDenied):
        upload(stage.engine(expected_bucket_owner="999999999999"))
    assert stage.server.bytes_received() == 0


def test_what_a_key_may_not_travel_over(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Plain http beyond loopback, and TLS whose certificate nobody checks: refused with a key, told without."""
    caplog.set_level(logging.WARNING)
    with pytest.raises(ConfigError, match="plain http to"):
        stage.engine(endpoint="http://203.0.113.1:9000", customer_key=KEY)
    with pytest.raises(ConfigError, match="not verified"):
        stage.engine(endpoint="https://203.0.113.1:9000", verify=False, customer_key=KEY)
    stage.engine(endpoint="https://203.0.113.1:9000", verify=False)
    stage.engine(endpoint="http://203.0.113.1:9000")
    assert "NOT verified" in caplog.text
    assert "plain http" in caplog.text
    caplog.clear()
    stage.engine(customer_key=KEY)
    stage.engine(endpoint="https://203.0.113.1:9000", verify=None, customer_key=KEY)
    assert caplog.text == ""


def test_a_key_and_another_encryption_exclude_each_other(stage: Stage, upload: Upload) -> None:
    """In the configuration, and between it and an upload."""
    with pytest.raises(ConfigError, match="not both"):
        stage.engine(customer_key=KEY, server_side_encryption="AES256")
    with pytest.raises(ConfigError, match="not both"):
        upload(stage.engine(customer_key=KEY), attributes=ObjectAttributes(kms_key_id="k"))


@pytest.mark.parametrize(
    "attributes",
    [
        ObjectAttributes(content_type="a/b\r\nx-amz-acl: public-read"),
        ObjectAttributes(extra_args=(("CacheControl", "no-store\nx-amz-acl: public-read"),)),
        ObjectAttributes(storage_class="STANDARD\r\nx-amz-acl: public-read"),
    ],
)
def test_no_attribute_smuggles_a_header(stage: Stage, upload: Upload, attributes: ObjectAttributes) -> None:
    """A line break in a value ends in an error, not in an ACL."""
    with pytest.raises(OrbitError):
        upload(attributes=attributes)
    assert stage.versions() == []
