"""One transfer by a client that is a Python library, in this process; its outcome is a line of JSON on stdout."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

OUR_WAITS: dict[str, Any] = {
    "stall_timeout": 2.0,
    "timeout_seconds": 8.0,
    "settle_seconds": 2.0,
    "outage_patience": 8.0,
}


def orbit(chosen: argparse.Namespace) -> str:
    """The engine, its time limits short and all else as it comes; the proof that its result names."""
    from orbit_airflow.engine import Credentials, EngineConfig, FileTokenStore, ObjectRef, open_engine

    keys = Credentials(access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"])
    config = EngineConfig(
        region=os.environ["AWS_REGION"],
        endpoint=chosen.endpoint,
        credentials=keys,
        force_path_style=True,
        chunk_size=chosen.part_size,
        parallel_operations=chosen.workers,
        **OUR_WAITS,
    )
    ref = ObjectRef(chosen.bucket, chosen.key)
    with tempfile.TemporaryDirectory(prefix="orbit-faults-tokens-") as home:
        tokens, engine = FileTokenStore(Path(home)), open_engine(config)
        if chosen.download:
            return engine.download(ref, chosen.path, tokens=tokens).integrity.value
        return engine.upload(chosen.path, ref, tokens=tokens).integrity.value


def s3transfer(chosen: argparse.Namespace) -> str:
    """boto3's transfers with nothing chosen, the way S3Hook.load_file and S3Hook.download_file call them."""
    import boto3
    from boto3.s3.transfer import TransferConfig

    if chosen.download:
        found = boto3.resource("s3", endpoint_url=chosen.endpoint).Object(chosen.bucket, chosen.key)
        found.load()
        with open(chosen.path, "wb") as file:
            found.download_fileobj(file, ExtraArgs={}, Config=TransferConfig())
    else:
        client = boto3.client("s3", endpoint_url=chosen.endpoint)
        client.upload_file(str(chosen.path), chosen.bucket, chosen.key, ExtraArgs={}, Config=TransferConfig())
    return ""


LIBRARIES = {"orbit": orbit, "s3transfer": s3transfer}


def main() -> None:
    """Transfer and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.one_transfer", description=__doc__)
    parser.add_argument("--client", choices=sorted(LIBRARIES), required=True)
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--part-size", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    chosen = parser.parse_args()
    try:
        told = {"ok": True, "integrity": LIBRARIES[chosen.client](chosen), "error": ""}
    except Exception as exc:
        told = {"ok": False, "integrity": "", "error": f"{type(exc).__name__}: {exc}"}
    print(json.dumps(told), flush=True)
    # A pool of the library that still waits must not keep the verdict back.
    os._exit(0)


if __name__ == "__main__":
    main()
