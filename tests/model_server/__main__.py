"""`python -m tests.model_server`: the server as a process of its own."""

import argparse
import dataclasses
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from tests.model_server.config import Credentials, ServerProfile
from tests.model_server.server import ModelServer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.model_server", description="A strict S3 server on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--ready-file", type=Path, help="written atomically when the server listens")
    parser.add_argument("--data-dir", type=Path, help="where the bytes are kept; a temporary directory without it")
    parser.add_argument("--discard", action="store_true", help="verify the bytes and keep none")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--rate-limit", type=int, help="bytes per second of all uploads together")
    parser.add_argument("--receive-buffer", type=int, help="bytes that the kernel takes ahead of the server")
    parser.add_argument("--min-part-size", type=int)
    parser.add_argument("--profile", type=json.loads, default={}, help="JSON of ServerProfile's fields")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--access-key", default=Credentials.access_key)
    parser.add_argument("--secret-key", default=Credentials.secret_key)
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME[:versioned]")
    return parser.parse_args()


def _server(arguments: argparse.Namespace) -> ModelServer:
    profile = ServerProfile(**arguments.profile)
    if arguments.min_part_size is not None:
        profile = dataclasses.replace(profile, min_part_size=arguments.min_part_size)
    return ModelServer(
        profile=profile,
        credentials=(Credentials(access_key=arguments.access_key, secret_key=arguments.secret_key),),
        tls=arguments.tls,
        port=arguments.port,
        data_dir=arguments.data_dir,
        discard=arguments.discard,
        rate_limit=arguments.rate_limit,
        receive_buffer=arguments.receive_buffer,
        region=arguments.region,
    )


def _ready(server: ModelServer) -> dict[str, Any]:
    return {
        "endpoint_url": server.endpoint_url,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "region": server.region,
        "ca_file": server.ca_file,
        "pid": os.getpid(),
    }


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    arguments = _arguments()
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with _server(arguments) as server:
        for item in arguments.bucket:
            name, _, state = item.partition(":")
            server.create_bucket(name, "Enabled" if state == "versioned" else "")
        ready = json.dumps(_ready(server))
        if arguments.ready_file is not None:
            _write_atomically(arguments.ready_file, ready)
        sys.stdout.write(ready + "\n")
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    main()
