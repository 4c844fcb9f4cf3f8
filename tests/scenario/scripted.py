"""A server that does exactly what a test says with each connection, right or wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Script = Callable[[socket.socket, threading.Event], None]
DRIP_SECONDS = 0.05


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """``script(sock, stop)`` runs for each connection; gives ``host:port``. All threads have ended behind it."""
    stop, socks, threads = threading.Event(), list[socket.socket](), list[threading.Thread]()
    listener = socket.create_server(("127.0.0.1", 0))

    def run(sock: socket.socket) -> None:
        with suppress(OSError), sock:
            script(sock, stop)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                socks.append(sock)
                threads.append(threading.Thread(target=run, args=(sock,), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for sock in socks:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)


def read_head(sock: socket.socket) -> bytes:
    """Up to and with the empty line."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise OSError("the client left")
        data += piece
    return data


def read_whole(sock: socket.socket) -> bytes:
    """A request with its body, unless that waits for "100 Continue"."""
    data = read_head(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    lower = head.lower()
    if b"content-length:" not in lower or b"100-continue" in lower:
        return data
    missing = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0]) - len(body)
    while missing > 0:
        piece = sock.recv(65536)
        if not piece:
            raise OSError("the client left")
        data, missing = data + piece, missing - len(piece)
    return data


def drip(sock: socket.socket, stop: threading.Event, data: bytes) -> None:
    """One byte after the other, slowly."""
    for at in range(len(data)):
        if stop.wait(DRIP_SECONDS):
            return
        sock.sendall(data[at : at + 1])


def answering(answer: bytes) -> Script:
    """The same answer to every request without a body."""

    def script(sock: socket.socket, stop: threading.Event) -> None:
        while True:
            read_head(sock)
            sock.sendall(answer)

    return script
