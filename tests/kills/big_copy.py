"""``python -m tests.kills.big_copy``: a copy larger than one CopyObject can make, killed once and continued.

The source is a sparse file with a few marked blocks, so that a part in the wrong place is seen. The copying process
dies by SIGKILL when the store has about half of its parts. Afterwards both objects are looked at, and the copy is read
back byte by byte. Exit code 1 when something was lost without being named.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orbit_airflow.engine import (
    CopyOptions,
    Credentials,
    EngineConfig,
    FileTokenStore,
    ObjectRef,
    UploadOptions,
    open_engine,
)
from orbit_airflow.engine.model import GIB, MIB, ObjectAttributes, ObjectInfo
from orbit_airflow.engine.options import Pairs
from orbit_airflow.engine.proof import MARK
from orbit_airflow.engine.stores.client import make_client
from orbit_airflow.engine.stores.s3 import S3Store
from tests.model_server import ModelProcess
from tests.servers import running_servers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "big-copy"
MARKS = 96
WORKERS = 4
# Ceph's testing backend knows this one key; see tests/servers/ceph.conf.in.
KMS_KEY = "testkey-1"
TAGS: Pairs = (("project", "orbit"), ("year", "2026"))
ATTRIBUTES = ObjectAttributes(
    metadata=(("owner", "lake"), ("run", "nightly 7")),
    tags=TAGS,
    content_type="application/x-lake",
    storage_class="STANDARD_IA",
    server_side_encryption="aws:kms",
    kms_key_id=KMS_KEY,
    extra_args=(
        ("CacheControl", "max-age=60"),
        ("ContentDisposition", 'attachment; filename="lake.bin"'),
        ("ContentEncoding", "identity"),
        ("ContentLanguage", "de"),
    ),
)


@dataclass(frozen=True)
class Place:
    """A store, a local source, and the two names."""

    name: str
    config: EngineConfig
    client: S3Client
    directory: Path
    size: int
    copied: CopyOptions

    @property
    def source(self) -> ObjectRef:
        """What is copied."""
        return ObjectRef(BUCKET, "source.bin")

    @property
    def target(self) -> ObjectRef:
        """Where to."""
        return ObjectRef(BUCKET, "copies/target.bin")


def main(words: Sequence[str] | None = None) -> int:
    """One copy."""
    chosen = _arguments(words)
    with tempfile.TemporaryDirectory(prefix="orbit-big-") as home, _store(chosen.server) as (name, config):
        client = make_client(config)
        options = CopyOptions(chunk_size=chosen.part_mib * MIB, multipart_threshold=chosen.threshold_mib * MIB)
        place = Place(name, config, client, Path(home), chosen.size_mib * MIB, options)
        _begin(place)
        try:
            _upload(place, chosen.part_mib)
            return _report(_copied(place))
        finally:
            _empty(place)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kills.big_copy", description=__doc__)
    parser.add_argument("--server", choices=("ceph", "localstack", "model"), help="default: ceph if it runs")
    parser.add_argument("--size-mib", type=int, default=6 * 1024)
    parser.add_argument("--part-mib", type=int, default=128)
    parser.add_argument("--threshold-mib", type=int, default=5 * 1024, help="copies of more than this are in parts")
    return parser.parse_args(words)


@contextmanager
def _store(wished: str | None) -> Iterator[tuple[str, EngineConfig]]:
    found = {} if wished == "model" else running_servers()
    if wished in found or (wished is None and "ceph" in found):
        server = found[wished or "ceph"]
        yield f"{server.name} {server.version}", _config(server.http, server.access_key, server.secret_key)
        return
    if wished not in (None, "model"):
        sys.exit(f"{wished} does not run: python -m tests.servers start {wished}")
    with ModelProcess() as model:
        yield "the model server", _config(model.endpoint_url, model.access_key, model.secret_key)


def _config(endpoint: str, access_key: str, secret_key: str) -> EngineConfig:
    return EngineConfig(
        endpoint=endpoint,
        region="us-east-1",
        credentials=Credentials(access_key=access_key, secret_key=secret_key),
        force_path_style=True,
        parallel_operations=WORKERS,
        timeout_seconds=300.0,
    )


def _begin(place: Place) -> None:
    if BUCKET not in [item["Name"] for item in place.client.list_buckets()["Buckets"]]:
        place.client.create_bucket(Bucket=BUCKET)
    _empty(place)
    with (place.directory / "source.bin").open("wb") as file:
        file.truncate(place.size)
        for number in range(MARKS):
            file.seek(place.size // MARKS * number)
            file.write(f"mark {number}".encode().ljust(4096, b"."))


def _upload(place: Place, part_mib: int) -> None:
    started = time.monotonic()
    options = UploadOptions(attributes=ATTRIBUTES, chunk_size=part_mib * MIB)
    open_engine(place.config, client=place.client).upload(place.directory / "source.bin", place.source, options)
    store = S3Store(place.client, place.config)
    if sorted(store.get_tags(place.source)) != sorted(TAGS):
        print("the store has dropped the tags of the upload; the source is tagged by a request of its own")
        store.put_tags(place.source, TAGS)
    print(f"{place.name}: a source of {place.size / GIB:.2f} GiB in {time.monotonic() - started:.0f} s", flush=True)


def _copied(place: Place) -> list[str]:
    """Kill one try at half, let another one end; what is wrong then."""
    began = time.monotonic()
    pid = _fork(place)
    parts = _wait_for_parts(place, pid)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        return [f"the first try was not killed but ended: {_told(place)}"]
    print(f"killed after {time.monotonic() - began:.1f} s with {parts} parts in the store", flush=True)
    os.waitpid(_fork(place), 0)
    told = _told(place)
    print(f"continued: {told}", flush=True)
    if "error" in told:
        return [f"the second try: {told['error']}"]
    faults = [] if told["resumed"] and told["bytes_saved"] else ["the second try did not continue the first"]
    faults += [] if not _open_uploads(place) else ["an open upload is left"]
    return [*faults, *_lost(place, told), *_wrong_bytes(place)]


def _fork(place: Place) -> int:
    pid = os.fork()
    if pid:
        return pid
    told: dict[str, Any] = {"error": "it said nothing"}
    try:
        # A client of its own: a fork must not share its parent's connections.
        engine = open_engine(place.config, client=make_client(place.config))
        tokens = FileTokenStore(place.directory / "tokens")
        result = engine.copy_object(place.source, place.target, place.copied, tokens=tokens)
        told = {
            "seconds": round(result.duration, 1),
            "resumed": result.resumed,
            "parts_found": result.parts_found,
            "bytes_saved": result.bytes_saved,
            "bytes_copied": result.bytes_copied,
            "integrity": result.integrity.value,
            "not_kept": list(result.not_kept),
        }
    except BaseException as exc:
        told = {"error": f"{type(exc).__name__}: {exc}"}
    finally:
        (place.directory / "told.json").write_text(json.dumps(told))
        os._exit(0)


def _told(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place.directory / "told.json").read_text())
    return found


def _wait_for_parts(place: Place, pid: int) -> int:
    """Until half of the parts are there, or the process is not."""
    part_size = place.copied.chunk_size or 1
    half = -(-place.size // part_size) // 2
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        there = sum(_parts(place, upload_id) for upload_id in _open_uploads(place))
        if there >= half:
            return there
        time.sleep(0.05)
    return 0


def _open_uploads(place: Place) -> list[str]:
    found = place.client.list_multipart_uploads(Bucket=BUCKET, Prefix=place.target.key).get("Uploads", [])
    return [item["UploadId"] for item in found]


def _parts(place: Place, upload_id: str) -> int:
    return len(place.client.list_parts(Bucket=BUCKET, Key=place.target.key, UploadId=upload_id).get("Parts", []))


def _lost(place: Place, told: dict[str, Any]) -> list[str]:
    """What the source has, the copy has not, and nobody has named; with a line for each."""
    store = S3Store(place.client, place.config)
    had, has = store.head(place.source), store.head(place.target)
    seen: list[tuple[str, Any, Any]] = [("size", had.size, has.size)]
    seen += [
        (name, getattr(had, name), getattr(has, name))
        for name in ("storage_class", "server_side_encryption", "kms_key_id")
    ]
    seen.append(("metadata", _metadata(had), _metadata(has)))
    seen.append(("tags", dict(store.get_tags(place.source)), dict(store.get_tags(place.target))))
    names = ("content_type", "content_encoding", "content_disposition", "content_language", "cache_control")
    seen += [(name, getattr(had.headers, name), getattr(has.headers, name)) for name in names]
    for name, before, after in seen:
        print(f"  {name:24} {'kept' if before == after else 'LOST':5} {before!r}")
    return [f"{name} was lost" for name, one, other in seen if one != other and name not in told["not_kept"]]


def _metadata(info: ObjectInfo) -> dict[str, str]:
    """Without the engine's own mark, which is of the upload and not of the object."""
    return {name: value for name, value in info.metadata if name != MARK}


def _wrong_bytes(place: Place) -> list[str]:
    started, at = time.monotonic(), 0
    body = place.client.get_object(Bucket=BUCKET, Key=place.target.key)["Body"]
    with (place.directory / "source.bin").open("rb") as file:
        while block := body.read(4 * MIB):
            if block != file.read(len(block)):
                return [f"WRONG BYTES in the 4 MiB behind {at}"]
            at += len(block)
    print(f"read back: {at / GIB:.2f} GiB, the source's, in {time.monotonic() - started:.0f} s")
    return [] if at == place.size else [f"the copy ends after {at} bytes"]


def _empty(place: Place) -> None:
    for upload_id in _open_uploads(place):
        place.client.abort_multipart_upload(Bucket=BUCKET, Key=place.target.key, UploadId=upload_id)
    for ref in (place.source, place.target):
        place.client.delete_object(Bucket=BUCKET, Key=ref.key)


def _report(faults: list[str]) -> int:
    for fault in faults:
        print(f"WRONG: {fault}")
    print("passed" if not faults else "failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
