"""The rows of the table: one fault each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.faults.objects import Bodies, Kind
from tests.model_server import Fault, ModelServer, ServerProfile
from tests.model_server.records import RequestRecord

BUCKET = "faults"
KEY = "data/object.bin"
# Less than any client's patience.
_FIRST_RANGE_SECONDS = 0.5
Group = Literal["bytes", "waits", "uploads"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a fault may act on. ``path`` is an upload's source or a download's target.

    ``elsewhere`` is the port of a stranger.
    """

    server: ModelServer
    bodies: Bodies
    path: Path
    kind: Kind | None = None
    elsewhere: int = 0

    @property
    def next_path(self) -> Path:
        """The next generation of the source, written ahead: a fault that takes long is a stall as well."""
        return self.path.with_name("next.bin")

    def overwrite(self, _: RequestRecord) -> None:
        """Somebody puts the next generation of the object."""
        assert self.kind is not None
        deadline = time.monotonic() + _FIRST_RANGE_SECONDS
        while time.monotonic() < deadline and not self._first_range_is_out():
            time.sleep(0.01)
        self.bodies.put(self.server, BUCKET, KEY, self.kind, 1)

    def _first_range_is_out(self) -> bool:
        return any(record.range_start == 0 and record.finished for record in self.server.records("GetObject"))

    def truncate(self, _: RequestRecord) -> None:
        """Somebody cuts the source."""
        os.truncate(self.path, self.bodies.part_size // 5)

    def replace(self, _: RequestRecord) -> None:
        """Somebody renames a new file over the source."""
        self.next_path.replace(self.path)

    def rewrite(self, _: RequestRecord) -> None:
        """Somebody writes other bytes into the source, in place."""
        with self.path.open("r+b") as file:
            file.write(self.bodies.generation(1))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault. ``same_length``: it leaves wrong bytes that nothing but a checksum can tell from right ones.

    ``scale``: the file is so many times larger, so that not every part is under way when the fault comes.
    """

    name: str
    text: str
    group: Group
    faults: Callable[[Scene], tuple[Fault, ...]]
    profile: ServerProfile = field(default_factory=ServerProfile)
    same_length: bool = False
    twelve: bool = False
    scale: int = 1

    @property
    def download(self) -> bool:
        """True for the rows about downloads."""
        return self.group != "uploads"

    def arrange(self, scene: Scene) -> None:
        """Put the fault in force."""
        for fault in self.faults(scene):
            scene.server.inject(fault)


def _fixed(*faults: Fault) -> Callable[[Scene], tuple[Fault, ...]]:
    return lambda _: faults


def _second(action: str, **options: object) -> Fault:
    """A fault of a range that is not the object's first one."""
    return Fault("GetObject", action, range_from=1, **options)  # type: ignore[arg-type]


def _lost(operation: str, **options: object) -> Fault:
    """The work is done and the answer is lost."""
    return Fault(operation, "reset", "after", **options)  # type: ignore[arg-type]


def _bytes(name: str, text: str, *faults: Fault, same_length: bool = False, twelve: bool = True) -> Row:
    found = _fixed(*faults)
    return Row(name=name, text=text, group="bytes", faults=found, same_length=same_length, twelve=twelve)


def _waits(name: str, text: str, *faults: Fault) -> Row:
    return Row(name=name, text=text, group="waits", faults=_fixed(*faults))


def _uploads(name: str, text: str, *faults: Fault, profile: ServerProfile | None = None) -> Row:
    chosen = profile or ServerProfile()
    return Row(name=name, text=text, group="uploads", faults=_fixed(*faults), profile=chosen)


def _overwritten(scene: Scene) -> tuple[Fault, ...]:
    return (_second("callback", callback=scene.overwrite),)


def _redirected(status: int, host: str, where: str) -> Row:
    def faults(scene: Scene) -> tuple[Fault, ...]:
        place = f"http://{host}:{scene.elsewhere}/{BUCKET}/{KEY}"
        return (Fault("UploadPart", "redirect", status=status, location=place, times=None),)

    return Row(
        name=f"redirect-{status}-{where}", text=f"redirect {status} to another {where}", group="uploads", faults=faults
    )


DOWNLOADS = (
    _bytes("reset", "connection reset mid body, once", _second("reset", stage="mid")),
    _bytes("fin", "clean end of the connection mid body, once", _second("fin", stage="mid")),
    _bytes("flip", "one bit flipped, once", _second("flip"), same_length=True),
    _bytes(
        "flip-always",
        "one bit of each answer flipped, always",
        Fault("GetObject", "flip", times=None),
        same_length=True,
        twelve=False,
    ),
    _bytes("short", "fewer bytes, Content-Length agrees, Content-Range claims all", _second("short_body")),
    _bytes("short-unclaimed", "fewer bytes, no Content-Range", _second("short_body"), _second("no_content_range")),
    _bytes("chunked", "chunked body that ends cleanly too early", _second("short_chunked")),
    _bytes("ignored", "Range ignored once (200, whole object)", _second("ignore_range")),
    _bytes("ignored-always", "Range ignored always", Fault("GetObject", "ignore_range", times=None)),
    _bytes("neighbour", "bytes of the neighbouring range", _second("neighbour"), same_length=True),
    _bytes("416", "416 InvalidRange on one range", _second("error", status=416, code="InvalidRange")),
    _bytes("200-error", "200 with an XML error as its body", _second("answer_200_error")),
    Row(
        name="overwritten",
        text="object overwritten meanwhile, If-Match honoured",
        group="bytes",
        faults=_overwritten,
        twelve=True,
    ),
    Row(
        name="overwritten-unseen",
        text="object overwritten meanwhile, If-Match ignored",
        group="bytes",
        faults=_overwritten,
        profile=ServerProfile(conditional_reads=False),
    ),
    _waits("503-thrice", "503 three times, then fine", _second("error", status=503, code="SlowDown", times=3)),
    _waits("503-ever", "503 for ever", _second("error", status=503, code="SlowDown", times=None)),
    _waits("reset-ever", "connection reset for ever", _second("reset", times=None)),
    _waits("silence", "request taken, never answered", Fault("GetObject", "hang", times=None)),
    _waits("stall", "body stalls in the middle, once", _second("hang", stage="mid")),
    _waits("stall-ever", "bodies stall in the middle, for ever", _second("hang", stage="mid", times=None)),
)

UPLOADS = (
    _uploads("complete-lost", "Complete: answer lost, store repeats it", _lost("CompleteMultipartUpload")),
    _uploads(
        "complete-gone",
        "Complete: answer lost, then NoSuchUpload",
        _lost("CompleteMultipartUpload"),
        profile=ServerProfile(complete_repeat="gone"),
    ),
    _uploads(
        "complete-error",
        "Complete: 200 with an error, once",
        Fault("CompleteMultipartUpload", "answer_200_error"),
    ),
    _uploads(
        "complete-empty", "Complete: 200 with nothing, once", Fault("CompleteMultipartUpload", "answer_200_empty")
    ),
    _uploads("create-lost", "Create: answer lost", _lost("CreateMultipartUpload")),
    _uploads("part-lost", "part: answer lost", _lost("UploadPart", nth=2)),
    _uploads(
        "part-503-ever", "part: 503 for ever", Fault("UploadPart", nth=2, times=None, status=503, code="SlowDown")
    ),
    _uploads(
        "abort-fails",
        "part refused for ever, and Abort fails",
        Fault("UploadPart", nth=3, times=None, status=403, code="AccessDenied"),
        Fault("AbortMultipartUpload", times=None, status=503, code="SlowDown"),
    ),
    _uploads(
        "expired",
        "ExpiredToken from the third part on",
        Fault("UploadPart", nth=3, times=None, status=400, code="ExpiredToken"),
    ),
    _uploads("skew", "RequestTimeTooSkewed, once", Fault("UploadPart", "skew", nth=2)),
    Row(
        name="truncated",
        text="source truncated meanwhile",
        group="uploads",
        faults=lambda scene: (Fault("UploadPart", "callback", nth=3, callback=scene.truncate),),
        scale=5,
    ),
    Row(
        name="replaced",
        text="source replaced by rename meanwhile",
        group="uploads",
        faults=lambda scene: (Fault("UploadPart", "callback", nth=3, callback=scene.replace),),
        scale=5,
    ),
    Row(
        name="rewritten",
        text="source rewritten in place meanwhile",
        group="uploads",
        faults=lambda scene: (Fault("UploadPart", "callback", nth=3, callback=scene.rewrite),),
        scale=5,
    ),
    _uploads("part-silence", "part: taken, never answered", Fault("UploadPart", "hang", times=None)),
    _uploads(
        "complete-silence", "Complete: taken, never answered", Fault("CompleteMultipartUpload", "hang", times=None)
    ),
    *(_redirected(status, "localhost", "host") for status in (301, 302, 307)),
    _redirected(307, "127.0.0.1", "port"),
)

ROWS = {row.name: row for row in (*DOWNLOADS, *UPLOADS)}
