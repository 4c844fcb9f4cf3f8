"""What gives credentials on AWS, played on loopback: a container's endpoint, an instance's metadata, and STS.

Each answer is a key pair of its own that the S3 server knows from then on, good for ``uses`` requests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from tests.model_server import Credentials, ModelServer

ROLE = "backup-role"
IMDS = "/latest/meta-data/iam/security-credentials/"
IMDS_TOKEN = "imds-token-of-the-second-version"


class Cloud:
    """The handler's state: what was asked, and what was given."""

    def __init__(self, store: ModelServer, uses: int = 0) -> None:
        self.store = store
        self.uses = uses
        self.given: list[Credentials] = []
        self.asked: list[str] = []
        self.assumed: list[dict[str, list[str]]] = []
        self.url = ""
        self._lock = threading.Lock()

    def credentials(self) -> Credentials:
        with self._lock:
            number = len(self.given) + 1
            keys = Credentials(
                access_key=f"ASIA{number:016}",
                secret_key=f"secret-{number}-given",
                session_token=f"token-{number}-given",
            )
            self.given.append(keys)
        self.store.add_credentials(keys)
        if self.uses:
            self.store.expire_credentials(keys.access_key, after=self.uses)
        return keys

    def as_json(self) -> bytes:
        keys, later = self.credentials(), datetime.now(UTC) + timedelta(hours=1)
        answer = {
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key,
            "Token": keys.session_token, "Expiration": later.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        return json.dumps(answer).encode()

    def as_xml(self) -> bytes:
        keys, later = self.credentials(), datetime.now(UTC) + timedelta(hours=1)
        return (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{keys.access_key}</AccessKeyId><SecretAccessKey>{keys.secret_key}</SecretAccessKey>"
            f"<SessionToken>{keys.session_token}</SessionToken>"
            f"<Expiration>{later.strftime('%Y-%m-%dT%H:%M:%SZ')}</Expiration></Credentials></AssumeRoleResult>"
            "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"
        ).encode()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        self.asked.append(f"{method} {path}")
        if (method, path) == ("PUT", "/latest/api/token"):
            return 200, IMDS_TOKEN.encode()
        if path.startswith(IMDS):
            if headers.get("x-aws-ec2-metadata-token") != IMDS_TOKEN:
                return 401, b""
            return 200, self.as_json() if path == IMDS + ROLE else ROLE.encode()
        if (method, path) == ("GET", "/container"):
            return 200, self.as_json()
        if (method, path) == ("POST", "/"):
            self.assumed.append(parse_qs(body.decode()))
            return 200, self.as_xml()
        return 404, b""


@contextmanager
def cloud_over(store: ModelServer, uses: int = 0) -> Iterator[Cloud]:
    """A cloud on a free port of loopback, gone behind the block."""
    cloud = Cloud(store, uses)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, data = cloud.answer(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Silence."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        cloud.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield cloud
        finally:
            server.shutdown()
            thread.join(10)
