"""What a model server is told before it starts: credentials, limits and the store it imitates."""

from dataclasses import dataclass
from typing import Literal

MIB = 1024 * 1024
GIB = 1024 * MIB

CompleteRepeat = Literal["idempotent", "gone"]


@dataclass(frozen=True)
class Credentials:
    """One key pair and the identity that appears as Initiator or Owner."""

    access_key: str = "model-access-key"
    secret_key: str = "model-secret-key"
    session_token: str | None = None
    canonical_id: str = "c0ffee" + "0" * 58
    display_name: str = "model-owner"


@dataclass(frozen=True)
class ServerProfile:
    """The limits and the quirks of the store that is imitated; the defaults are AWS, checked strictly."""

    min_part_size: int = 5 * MIB
    max_part_size: int = 5 * GIB
    max_put_size: int = 5 * GIB
    max_part_number: int = 10_000
    max_object_size: int = 50_000 * GIB
    max_parts_page: int = 1000
    complete_repeat: CompleteRepeat = "idempotent"
    flexible_checksums: bool = True
    full_object_checksums: bool = True
    conditional_writes: bool = True
    conditional_reads: bool = True
    empty_complete_etag: bool = False
    opaque_etags: bool = False
    list_uploads_denied: bool = False
    max_skew_seconds: float = 15 * 60
    account_id: str = "123456789012"
    # Refuse what lacks x-amz-request-payer, or x-amz-expected-bucket-owner, wherever S3 takes the header.
    requester_pays: bool = False
    owner_expected: bool = False
    # As if every bucket had Object Lock with a default retention: bytes come with their MD5 or a checksum.
    object_lock: bool = False
    customer_keys_blocked: bool = False
    # A CopyObject with new metadata takes the tags away, whatever the tagging directive says (Ceph).
    new_metadata_drop_tags: bool = False
    # In DeleteObjects, every so manieth key fails when it is named for the first time, and leaves the key as it is; one
    # key is deleted when it is named for the first time, and not answered for.
    delete_error_every: int = 0
    delete_error_code: str = "InternalError"
    delete_forgets: int = 0
    # More requests than this within a second are answered with SlowDown, without any work.
    requests_per_second: int = 0
