"""Every fault action, as a raw client sees it, and what the server did meanwhile."""

import contextlib
import http.client
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.model_server import Fault, ModelServer, RequestRecord, ServerProfile, raw
from tests.model_server.faults import Action

BODY = b"0123456789" * 10_000
HALF = len(BODY) // 2


def put(server: ModelServer, body: bytes = BODY, key: str = "k") -> tuple[int, dict[str, str], bytes]:
    return raw.send(server, "PUT", f"/plain/{key}", {}, body)


def stored(server: ModelServer) -> list[bytes]:
    return [item.read() for item in server.versions("plain", "k")]


@pytest.mark.parametrize(("stage", "done"), [("before", False), ("mid", False), ("after", True)])
def test_reset_at_each_stage(server: ModelServer, stage: Any, done: bool) -> None:
    """A reset is an RST; only behind "after" has the work been done."""
    server.inject(Fault("PutObject", "reset", stage))
    with pytest.raises((ConnectionResetError, BrokenPipeError)) as caught:
        put(server)
    # http.client gives a clean end of stream the same family of errors.
    assert not isinstance(caught.value, http.client.RemoteDisconnected)
    assert stored(server) == ([BODY] if done else [])
    (record,) = server.records("PutObject")
    assert record.bytes_received == {"before": 0, "mid": HALF, "after": len(BODY)}[stage]
    assert (record.fault, record.status) == (f"{stage}:reset", None)


def test_fin_is_an_end_without_an_answer(server: ModelServer) -> None:
    """A clean close after the work: the client reads end of stream, the object is there."""
    server.inject(Fault("PutObject", "fin", "after"))
    with raw.connect(server) as sock:
        sock.sendall(raw.head_bytes(server, "PUT", "/plain/k", {"Content-Length": "3"}) + b"123")
        assert sock.recv(100) == b""
    assert stored(server) == [b"123"]


@pytest.mark.parametrize("action", ["hang", "stop_reading"])
def test_hang_keeps_the_connection_and_says_nothing(server: ModelServer, action: Action) -> None:
    """The client waits in vain, with half of the body taken; the server lets go when the client does."""
    server.inject(Fault("PutObject", action, "mid"))
    with raw.connect(server) as sock:
        sock.sendall(raw.head_bytes(server, "PUT", "/plain/k", {"Content-Length": str(len(BODY))}) + BODY)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    assert server.records("PutObject")[0].bytes_received == HALF
    assert stored(server) == []


def test_delay_goes_on(server: ModelServer) -> None:
    """A delay costs its time and changes nothing else."""
    server.inject(Fault("PutObject", "delay", "mid", seconds=0.1))
    assert put(server)[0] == 200
    (record,) = server.records("PutObject")
    assert record.finished is not None
    assert record.finished - record.started >= 0.1


@pytest.mark.parametrize(("stage", "done"), [("before", False), ("mid", False), ("after", True)])
def test_error_with_headers(server: ModelServer, stage: Any, done: bool) -> None:
    """An error has the status, code and headers of its rule, at each stage."""
    server.inject(Fault("PutObject", "error", stage, status=503, code="SlowDown", headers={"Retry-After": "7"}))
    status, headers, body = put(server)
    assert (status, headers["retry-after"], b"<Code>SlowDown</Code>" in body) == (503, "7", True)
    assert stored(server) == ([BODY] if done else [])
    assert put(server)[0] == 200


def test_answers_of_200_that_mean_nothing(server: ModelServer) -> None:
    """200 with an error document, and 200 with nothing at all."""
    server.inject(Fault("PutObject", "answer_200_error", code="InternalError"))
    status, _, body = put(server)
    assert (status, b"<Error><Code>InternalError</Code>" in body) == (200, True)
    server.inject(Fault("PutObject", "answer_200_empty"))
    status, headers, body = put(server)
    assert (status, body, "etag" in headers) == (200, b"", False)
    assert stored(server) == []


def test_empty_etag_in_header_and_document(server: ModelServer, s3: Any) -> None:
    """The answer lost its ETag, the work was done."""
    server.inject(Fault("PutObject", "empty_etag"))
    assert put(server)[1]["etag"] == ""
    server.inject(Fault("CompleteMultipartUpload", "empty_etag"))
    upload_id = s3.create_multipart_upload(Bucket="plain", Key="m")["UploadId"]
    etag = s3.upload_part(Bucket="plain", Key="m", UploadId=upload_id, PartNumber=1, Body=b"1")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    answer = s3.complete_multipart_upload(Bucket="plain", Key="m", UploadId=upload_id, MultipartUpload=parts)
    assert answer.get("ETag", "") == ""


def test_flip_of_a_part_shows_in_the_listing(server: ModelServer, s3: Any) -> None:
    """The answer is clean, ListParts has the ETag and the checksum of the corrupted bytes."""
    server.inject(Fault("UploadPart", "flip", part_number=2))
    upload_id = s3.create_multipart_upload(Bucket="plain", Key="m", ChecksumAlgorithm="CRC32")["UploadId"]
    place = {"Bucket": "plain", "Key": "m", "UploadId": upload_id}
    sent = [s3.upload_part(**place, PartNumber=number, Body=BODY) for number in (1, 2)]
    listed = s3.list_parts(**place)["Parts"]
    assert listed[0]["ETag"] == sent[0]["ETag"] == sent[1]["ETag"]
    assert listed[1]["ETag"] != sent[1]["ETag"]
    assert listed[1]["ChecksumCRC32"] != sent[1]["ChecksumCRC32"]


def test_flip_of_an_object_may_show_nowhere(server: ModelServer) -> None:
    """Bit rot: one stored byte differs, ETag and checksum are the old ones."""
    server.inject(Fault("PutObject", "flip", flip_shows="nowhere", flip_offset=0))
    etag = put(server)[1]["etag"]
    (version,) = server.versions("plain", "k")
    assert (version.read(), f'"{version.etag}"') == (b"1" + BODY[1:], etag)


def test_flip_of_a_download_leaves_the_store_alone(server: ModelServer, s3: Any) -> None:
    """One byte of the answer is wrong, the stored ones are right."""
    put(server)
    server.inject(Fault("GetObject", "flip", flip_offset=5))
    assert s3.get_object(Bucket="plain", Key="k")["Body"].read() == BODY[:5] + b"4" + BODY[6:]
    assert stored(server) == [BODY]


def test_download_can_be_cut_in_the_middle(server: ModelServer) -> None:
    """A mid fault of GetObject acts in the answer's body."""
    put(server)
    server.inject(Fault("GetObject", "fin", "mid"))
    with raw.connect(server) as sock:
        sock.sendall(raw.head_bytes(server, "GET", "/plain/k", {}))
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    assert data.partition(b"\r\n\r\n")[2] == BODY[:HALF]


RANGED = {"Range": f"bytes={HALF}-{HALF + 99}"}
CLAIMED = f"bytes {HALF}-{HALF + 99}/{len(BODY)}"


def test_a_short_body_has_a_length_that_agrees_and_a_range_that_does_not(server: ModelServer) -> None:
    """40 bytes of 100, all headers of a success; with one more rule the Content-Range is gone."""
    put(server)
    server.inject(Fault("GetObject", "short_body", at_fraction=0.4, times=2))
    server.inject(Fault("GetObject", "no_content_range", nth=2))
    status, headers, body = raw.send(server, "GET", "/plain/k", RANGED)
    assert (status, headers["content-length"], headers["content-range"]) == (206, "40", CLAIMED)
    assert body == BODY[HALF : HALF + 40]
    status, headers, body = raw.send(server, "GET", "/plain/k", RANGED)
    assert (status, headers["content-length"], "content-range" in headers) == (206, "40", False)
    assert raw.send(server, "GET", "/plain/k", RANGED)[2] == BODY[HALF : HALF + 100]


def test_a_chunked_body_may_end_cleanly_too_early(server: ModelServer) -> None:
    """No Content-Length, a last chunk, and half of the bytes; the connection stays in order."""
    put(server)
    server.inject(Fault("GetObject", "short_chunked"))
    status, headers, body = raw.send(server, "GET", "/plain/k", RANGED)
    assert (status, headers["transfer-encoding"], "content-length" in headers) == (206, "chunked", False)
    assert body == BODY[HALF : HALF + 50]


def test_a_range_may_be_ignored_or_be_the_neighbours(server: ModelServer) -> None:
    """200 with everything; 206 with the right claim over the bytes beside it."""
    put(server, body := bytes(100) + b"1" * 100 + b"2" * 100)
    server.inject(Fault("GetObject", "ignore_range"))
    status, headers, got = raw.send(server, "GET", "/plain/k", {"Range": "bytes=100-199"})
    assert (status, "content-range" in headers, got) == (200, False, body)
    server.inject(Fault("GetObject", "neighbour", times=2))
    for asked, given in (("100-199", bytes(100)), ("0-99", b"1" * 100)):
        status, headers, got = raw.send(server, "GET", "/plain/k", {"Range": f"bytes={asked}"})
        assert (status, headers["content-range"], got) == (206, f"bytes {asked}/300", given)


def test_a_rule_may_be_about_later_ranges(server: ModelServer) -> None:
    """The range that begins at 0 is left alone, and so is a GET of everything."""
    put(server)
    server.inject(Fault("GetObject", "error", range_from=1, times=None))
    asked: tuple[dict[str, str], ...] = ({}, {"Range": "bytes=0-99"}, {"Range": "bytes=1-99"})
    assert [raw.send(server, "GET", "/plain/k", headers)[0] for headers in asked] == [200, 206, 500]
    assert [record.range_start for record in server.records("GetObject")] == [None, 0, 1]


def test_a_store_may_ignore_the_conditions_of_reads(make_server: Any) -> None:
    """200 whatever If-Match says."""
    server = make_server(profile=ServerProfile(conditional_reads=False))
    put(server)
    assert raw.send(server, "GET", "/plain/k", {"If-Match": '"another"'})[2] == BODY


def test_skew_and_redirect(server: ModelServer, s3: Any) -> None:
    """A made-up RequestTimeTooSkewed, and a redirect with its location."""
    server.inject(Fault("ListBuckets", "skew", headers={"Date": "Tue, 01 Jan 2030 00:00:00 GMT"}))
    with pytest.raises(ClientError, match="RequestTimeTooSkewed") as caught:
        s3.list_buckets()
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["date"].endswith("2030 00:00:00 GMT")
    server.inject(Fault("PutObject", "redirect", location="http://127.0.0.1:1/elsewhere"))
    status, headers, _ = put(server)
    assert (status, headers["location"]) == (307, "http://127.0.0.1:1/elsewhere")


def test_callback_sees_half_of_the_body(server: ModelServer) -> None:
    """A callback runs at its edge, in the server, with the live record."""
    seen: list[int] = []

    def look(record: RequestRecord) -> None:
        seen.append(record.bytes_received)

    server.inject(Fault("PutObject", "callback", "mid", callback=look, at_fraction=0.25))
    assert put(server)[0] == 200
    assert seen == [len(BODY) // 4]


def test_kill_ends_exactly_the_named_process(server: ModelServer, tmp_path: Path) -> None:
    """SIGKILL at an edge, by pid file, and the request goes on."""
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with subprocess.Popen(command) as victim:
        pid_file = tmp_path / "pid"
        pid_file.write_text(str(victim.pid))
        server.inject(Fault("PutObject", "kill", "mid", pid_file=str(pid_file)))
        assert put(server)[0] == 200
        assert victim.wait(5) == -9


def test_rules_count_their_matches(server: ModelServer) -> None:
    """The fields nth and times choose the requests; key narrows them; clearing ends it."""
    server.inject(Fault("PutObject", "error", key="k", nth=2, times=2))
    assert [put(server)[0] for _ in range(4)] == [200, 500, 500, 200]
    assert put(server, key="other")[0] == 200
    server.inject(Fault(None, "error", times=None))
    assert [put(server)[0] for _ in range(2)] == [500, 500]
    server.clear_faults()
    assert put(server)[0] == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "explode"},
        {"stage": "sometimes"},
        {"action": "flip", "stage": "before"},
        {"action": "neighbour", "stage": "after"},
        {"action": "callback"},
        {"action": "kill"},
        {"action": "kill", "pids": (1,)},
    ],
)
def test_impossible_rules_are_refused(wrong: dict[str, Any]) -> None:
    """A rule that cannot act is a ValueError when it is written."""
    with pytest.raises(ValueError, match=r".+"):
        Fault("PutObject", **wrong)


def test_rule_for_an_unknown_operation_is_refused(server: ModelServer) -> None:
    """A misspelt operation would never fire, and so is a ValueError."""
    with pytest.raises(ValueError, match="PutObjekt"):
        server.inject(Fault("PutObjekt", "reset"))


def test_rate_limit_is_shared_and_can_be_lifted(server: ModelServer) -> None:
    """A limited upload shows progress in the log while it runs, and ends at once when the limit goes."""
    server.set_rate_limit(20_000)
    reached = threading.Event()
    server.inject(Fault("PutObject", "callback", "mid", callback=lambda _: reached.set(), at_fraction=0.2))
    sender = threading.Thread(target=put, args=(server,))
    sender.start()
    assert reached.wait(10)
    assert 0 < server.bytes_received("PutObject") < len(BODY)
    assert stored(server) == []
    server.set_rate_limit(None)
    sender.join(10)
    assert stored(server) == [BODY]


def test_close_ends_hanging_requests(make_server: Any) -> None:
    """A server can be closed while a request hangs for ever."""
    others = set(threading.enumerate())
    server = make_server()
    entered = threading.Event()
    server.inject(Fault("PutObject", "callback", callback=lambda _: entered.set()))
    server.inject(Fault("PutObject", "hang"))
    with raw.connect(server) as sock:
        sock.sendall(raw.head_bytes(server, "PUT", "/plain/k", {"Content-Length": "1"}))
        assert entered.wait(5)
        server.close()
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""
    left = set(threading.enumerate()) - others
    assert not [thread for thread in left if thread.name.startswith("model-s3")]
