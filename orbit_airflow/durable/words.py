"""The log's sentences: what a person reads of a transfer, by its direction. Texts only; nothing here has a state."""

from __future__ import annotations

from dataclasses import dataclass

from orbit_airflow.engine.errors import printable
from orbit_airflow.engine.events import Progress, TransferCompleted, TransferDirection, TransferFailed, TransferStarted


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How one direction is spoken of. ``moved`` is the name of the figure that counts what travelled."""

    noun: str
    doing: str
    rest: str
    done: str
    piece: str
    moved: str


_UPLOAD = Words(noun="upload", doing="uploading", rest="sending", done="sent", piece="part", moved="bytes_sent")
_DOWNLOAD = Words(
    noun="download", doing="downloading", rest="fetching", done="received", piece="range", moved="bytes_received"
)
_COPY = Words(noun="copy", doing="copying", rest="copying", done="copied", piece="part", moved="bytes_copied")
_BATCH = Words(noun="batch", doing="batch", rest="working on", done="done", piece="page", moved="bytes_sent")
_ALL = {
    TransferDirection.UPLOAD: _UPLOAD,
    TransferDirection.DOWNLOAD: _DOWNLOAD,
    TransferDirection.COPY: _COPY,
    TransferDirection.BATCH: _BATCH,
}


def words_for(direction: TransferDirection) -> Words:
    """The words of one direction."""
    return _ALL[direction]


def human_size(size: float) -> str:
    """Bytes as people read them: ``1.5 GiB``."""
    if abs(size) < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if abs(size) < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def human_time(seconds: float) -> str:
    """A duration as people read it: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def percent(done: int, total: int) -> float:
    """With one digit; nothing of nothing is everything."""
    return round(100.0 * done / total, 1) if total else 100.0


def start_line(event: TransferStarted, words: Words, uri: str, *, try_number: int) -> str:
    """The plan, and what was found of an earlier try. The upload's id is long and stands at the end."""
    total = human_size(event.total_bytes)
    again = "; nothing of an earlier try was found" if try_number > 1 and not event.bytes_found else ""
    if not event.parts:
        return f"{words.doing} {uri}: {total} in one request{again}"
    named = f", {words.noun} {event.upload_id}" if event.upload_id else ""
    if event.parts_found:
        return (
            f"resuming {words.noun} of {uri}: found {event.parts_found} of {event.parts} {words.piece}s "
            f"({human_size(event.bytes_found)} of {total}), {words.rest} {event.parts - event.parts_found}{named}"
        )
    plan = f"{total} in {event.parts} {words.piece}s of {human_size(event.part_size)}"
    return f"{words.doing} {uri}: {plan}{named}{again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubles:
    """What a try met on its way: requests that were sent again, and seconds that it waited for the store."""

    retries: int = 0
    waited: float = 0.0

    def __str__(self) -> str:
        requests = "1 request was" if self.retries == 1 else f"{self.retries} requests were"
        again = f", {requests} sent again" if self.retries else ""
        return f"{again}, {human_time(self.waited)} spent waiting for the store" if self.waited else again


def progress_line(event: Progress, *, retries: int) -> str:
    """How far, how fast, how much longer."""
    left = f", {human_time(round(event.eta_secs, 1))} left" if event.eta_secs is not None else ""
    again = Troubles(retries=retries)
    done, total = human_size(event.bytes_done), human_size(event.total_bytes)
    return f"{event.percentage:.0f} % ({done} of {total}), {human_size(event.rate_bps)}/s{left}{again}"


def end_line(event: TransferCompleted, words: Words, uri: str, target: str | None, troubles: Troubles) -> str:
    """The whole story in one line: what is where, what proves it, and what it cost.

    The proof stands before the figures: the UI shows a line's beginning, and its end only to who scrolls.
    """
    rate = event.bytes_sent / event.duration if event.duration > 0 else 0.0
    place = f" at {target}" if target else ""
    saved = f", {human_size(event.bytes_saved)} saved by resuming" if event.bytes_saved else ""
    proof = f", proved by {event.integrity.value}" if event.integrity else ""
    checksum = f", {event.checksum.algorithm} {event.checksum.value}" if proof and event.checksum else ""
    version = f", version {printable(event.version_id)}" if event.version_id else ""
    return (
        f"{uri} is complete{place}{proof}: {human_size(event.total_bytes)}, {human_size(event.bytes_sent)} {words.done}"
        f"{saved}, in {human_time(event.duration)} ({human_size(rate)}/s){checksum}{version}{troubles}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Where a try stood when it ended without success. ``seconds``: since it began; the figures are bytes."""

    paused: bool
    seconds: float
    done: int
    total: int | None


def failure_line(event: TransferFailed, words: Words, uri: str, stopped: Stopped, troubles: Troubles) -> str:
    """How far it came, what it met, and why it ended."""
    how = "paused" if stopped.paused else "failed"
    far = ""
    if stopped.total is not None:
        share = percent(stopped.done, stopped.total)
        far = f" at {share:.0f} % ({human_size(stopped.done)} of {human_size(stopped.total)})"
    return (
        f"the {words.noun} of {uri} {how} after {human_time(stopped.seconds)}{far}{troubles}: "
        f"{printable(event.error, 2000)}"
    )
