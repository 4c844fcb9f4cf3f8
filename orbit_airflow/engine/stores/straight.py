"""An answer's body straight from the socket into the reader's memory.

Through urllib3 and http.client every block is allocated, filled, and copied to where it was wanted: that was the larger
half of what a download cost. Here the kernel's copy is the only one. The state stays http.client's own (its reader's
buffer, its count of bytes to come), so that whoever reads on through urllib3 finds everything in place.
"""

from __future__ import annotations

import io
import socket
import ssl
from typing import Any


class StraightBody:
    """The body of one answer: as many bytes as Content-Length announced, and never one behind them."""

    def __init__(self, raw: Any, head: Any, sock: socket.socket) -> None:
        self._raw = raw
        self._head = head
        self._sock = sock
        # What came together with the head lies in http.client's reader, and goes first.
        self._held = True

    def read_into(self, view: memoryview) -> int:
        """Fill ``view``; less than the whole of it only at the body's end, or when the line ends before it. Raises what
        the socket raises; what came into ``view`` until then is lost, and so is the connection.
        """
        if self._head.fp is None:
            # Over, or closed before its end.
            return 0
        wanted, done = min(len(view), self._head.length), 0
        while done < wanted:
            count = self._received(view[done:wanted])
            if not count:
                break
            done += count
            self._head.length -= count
        if not self._head.length:
            self._give_back()
        return done

    def _received(self, view: memoryview) -> int:
        if not self._held:
            return self._sock.recv_into(view, len(view))
        reader: io.BufferedReader = self._head.fp
        count = reader.readinto1(view) or 0
        # It gives what it holds first, so it is empty when less came than was wanted, or more was than it can hold.
        self._held = count == len(view) <= io.DEFAULT_BUFFER_SIZE
        return count

    def _give_back(self) -> None:
        """The connection may serve again, unless there is something behind the body: that would be taken for the next
        answer. (The pool looks once more before the next request.)
        """
        clean = self._head.will_close or not self._more_came()
        connection = self._raw.connection
        self._head.close()
        if not clean and connection is not None:
            connection.close()
        self._raw.release_conn()

    def _more_came(self) -> bool:
        limit = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            return bool(self._head.fp.peek(1))
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        finally:
            self._sock.settimeout(limit)


def straight(raw: Any) -> StraightBody | None:
    """The body of urllib3's answer ``raw``, of which nothing has been read. None where http.client must read it:
    chunked, of unknown length, empty, to be decoded, or over something that is not a socket.
    """
    head, sock = getattr(raw, "_original_response", None), socket_of(raw)
    length = getattr(head, "length", None)
    if head is None or sock is None or not isinstance(length, int) or length <= 0:
        return None
    if head.chunked or raw.decode_content or not isinstance(head.fp, io.BufferedReader):
        return None
    return StraightBody(raw, head, sock)


def socket_of(raw: Any) -> socket.socket | None:
    """Where the body comes from, also when the connection (with ``Connection: close``) has let go of it already."""
    reader = getattr(getattr(raw, "_original_response", None), "fp", None)
    sock = getattr(getattr(reader, "raw", None), "_sock", None)
    return sock if isinstance(sock, socket.socket) else None
