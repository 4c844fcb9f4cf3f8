"""The model server in another process: its control client, and the process itself."""

import http.client
import json
import ssl
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, final

from tests.model_server.faults import Fault
from tests.model_server.records import RequestRecord
from tests.model_server.seeds import Seed
from tests.model_server.state import Versioning
from tests.model_server.views import OpenUpload, VersionState, VersionView

_REPOSITORY = Path(__file__).resolve().parents[2]
_TIMEOUT_SECONDS = 30.0
_STOP_SECONDS = 10.0


class ModelClient:
    """The methods of ModelServer, over the control API; an answer other than 200 raises RuntimeError."""

    def __init__(self, endpoint_url: str, ca_file: str | None = None) -> None:
        self.endpoint_url = endpoint_url
        self._ca_file = ca_file

    def _request(self, method: str, name: str, body: Any = None, **query: str | None) -> bytes:
        target = urllib.parse.urlsplit(self.endpoint_url)
        connection: http.client.HTTPConnection
        if target.scheme == "https":
            context = ssl.create_default_context(cafile=self._ca_file)
            connection = http.client.HTTPSConnection(target.netloc, timeout=_TIMEOUT_SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection(target.netloc, timeout=_TIMEOUT_SECONDS)
        words = {key: value for key, value in query.items() if value is not None}
        path = f"/_model/{name}?{urllib.parse.urlencode(words, quote_via=urllib.parse.quote)}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"control request {method} {path}: {answer.status} {data[:200]!r}")
        return data

    def create_bucket(self, name: str, versioning: Versioning = "") -> None:
        """A new bucket."""
        self._request("POST", "bucket", {"name": name, "versioning": versioning})

    def seed(self, seed: Seed) -> VersionView:
        """Put an object there without a request: its bytes, parts, ETag and checksum as they are given."""
        self._request("POST", "seed", seed.to_json())
        return self.versions(seed.bucket, seed.key)[0]

    def seed_many(self, seed: Seed, keys: Sequence[str]) -> None:
        """The same object under each of the keys."""
        self._request("POST", "seeds", {"seed": seed.to_json(), "keys": list(keys)})

    def census(self, bucket: str) -> dict[str, list[VersionState]]:
        """Every key of a bucket with its versions and delete markers, the oldest first."""
        found = json.loads(self._request("GET", "census", bucket=bucket))
        return {key: [VersionState(*item) for item in versions] for key, versions in found.items()}

    def empty(self) -> None:
        """Take every object and every open upload out of all buckets."""
        self._request("POST", "empty")

    def inject(self, fault: Fault) -> None:
        """Put a fault rule in force."""
        self._request("POST", "faults", fault.to_json())

    def clear_faults(self, key: str | None = None) -> None:
        """Drop all fault rules, or those that are about this key."""
        self._request("DELETE", "faults", key=key)

    def records(self, operation: str | None = None, key: str | None = None) -> list[RequestRecord]:
        """The log, of one operation and key when given."""
        found = json.loads(self._request("GET", "log", operation=operation, key=key))
        return [RequestRecord(**item) for item in found]

    def bytes_received(self, operation: str | None = None, key: str | None = None) -> int:
        """The body bytes received, repeated sends included."""
        answer = json.loads(self._request("GET", "bytes", operation=operation, key=key))
        return int(answer["bytes_received"])

    def bytes_by_part(self) -> dict[tuple[str, int], int]:
        """The body bytes received for each (upload id, part number)."""
        totals: dict[tuple[str, int], int] = {}
        for item in self.records("UploadPart"):
            slot = (item.upload_id, item.part_number or 0)
            totals[slot] = totals.get(slot, 0) + item.bytes_received
        return totals

    def versions(self, bucket: str, key: str) -> list[VersionView]:
        """The versions and delete markers of a key, newest first."""
        found = json.loads(self._request("GET", "versions", bucket=bucket, key=key))
        return [VersionView(**item, _read=self._reader(bucket, key, item["version_id"])) for item in found]

    def _reader(self, bucket: str, key: str, version_id: str) -> "_Reader":
        return _Reader(self, bucket, key, version_id)

    def read_object(self, bucket: str, key: str, version_id: str | None = None) -> bytes:
        """The stored bytes, past every fault."""
        return self._request("GET", "object", bucket=bucket, key=key, version_id=version_id)

    def open_uploads(self, bucket: str) -> list[OpenUpload]:
        """The multipart uploads that are neither completed nor aborted."""
        return [OpenUpload.from_json(item) for item in json.loads(self._request("GET", "uploads", bucket=bucket))]

    def reset(self) -> None:
        """Forget log and faults; keep the buckets."""
        self._request("POST", "reset")

    def set_rate_limit(self, rate: int | None) -> None:
        """The new upload rate of all connections together, in bytes per second."""
        self._request("POST", "rate", {"rate_limit": rate})


class _Reader:
    def __init__(self, client: ModelClient, bucket: str, key: str, version_id: str) -> None:
        self._client = client
        self._place = (bucket, key, version_id)

    def __call__(self) -> bytes:
        return self._client.read_object(*self._place)


@final
class ModelProcess(ModelClient):
    """`python -m tests.model_server` as a child; leaving the context ends exactly this child.

    `arguments` are added to the command line. Raises RuntimeError when the server does not come up.
    """

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.model_server", *arguments]
        self._process = subprocess.Popen(command, cwd=_REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the model server ended with {self._process.wait()}")
        ready = json.loads(line)
        super().__init__(ready["endpoint_url"], ready["ca_file"])
        self.access_key: str = ready["access_key"]
        self.secret_key: str = ready["secret_key"]
        self.region: str = ready["region"]
        self.ca_file: str | None = ready["ca_file"]

    @property
    def pid(self) -> int:
        """The child's pid."""
        return self._process.pid

    def __enter__(self) -> "ModelProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> int:
        """End the child and give its exit code; one that ignores SIGTERM is killed."""
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code
