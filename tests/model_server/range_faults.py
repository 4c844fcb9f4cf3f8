"""Faults of ranged reads: what servers, proxies and caches get wrong while the status says success."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tests.model_server.exchange import Exchange
from tests.model_server.faults import Fault
from tests.model_server.wire import Response

_BOUNDED = re.compile(r"bytes=(\d+)-(\d+)\Z")


def bend(exchange: Exchange, faults: Iterable[Fault]) -> None:
    """Change the range that a GetObject asks for; one without a range is left as it is."""
    found = _BOUNDED.match(exchange.head.header("range"))
    if found is None:
        return
    start, stop = int(found[1]), int(found[2]) + 1
    for fault in faults:
        others = {name: value for name, value in exchange.head.headers.items() if name != "range"}
        if fault.action == "ignore_range":
            exchange.head = replace(exchange.head, headers=others)
        elif fault.action == "neighbour":
            length = stop - start
            first = start - length if start >= length else stop
            others["range"] = f"bytes={first}-{first + length - 1}"
            exchange.head = replace(exchange.head, headers=others)
            exchange.claimed_range = (start, stop)


def claim(exchange: Exchange, response: Response) -> None:
    """Let the answer claim the range that was asked for."""
    if exchange.claimed_range is not None and "Content-Range" in response.headers:
        start, stop = exchange.claimed_range
        size = response.headers["Content-Range"].rpartition("/")[2]
        response.headers["Content-Range"] = f"bytes {start}-{min(stop, int(size)) - 1}/{size}"


def shorten(fault: Fault, response: Response) -> None:
    """Take bytes or the Content-Range from an answer with a body; any other answer is left as it is."""
    if response.stream is None:
        return
    length = int(response.stream_length * fault.at_fraction)
    if fault.action == "no_content_range":
        response.headers.pop("Content-Range", None)
    elif fault.action == "short_body":
        response.stream, response.stream_length = _first(response.stream, length), length
    elif fault.action == "short_chunked":
        response.headers["Transfer-Encoding"] = "chunked"
        response.stream = _chunks(_first(response.stream, length))


def _first(stream: Iterable[memoryview | bytes], length: int) -> Iterator[memoryview | bytes]:
    for block in stream:
        yield block[:length]
        length -= min(length, len(block))
        if not length:
            return


def _chunks(stream: Iterable[memoryview | bytes]) -> Iterator[bytes]:
    for block in stream:
        if block:
            yield b"%x\r\n%b\r\n" % (len(block), bytes(block))
    yield b"0\r\n\r\n"
