"""The watchdog: sees which connections move no bytes, and ends their waiting by shutting their sockets from outside.

A socket's own time limit asks whether *one* byte came; a server that drips a byte a second passes it for ever, and a
``send`` into a full buffer wakes only when a third of it is free, which on a slow line takes longer than any stall. So
the kernel's own counters decide (``TCP_INFO``: bytes acknowledged by the other side and bytes received), over a window.
They cost the hot path nothing. Where they do not exist (not Linux, TLS within TLS) the socket's limits alone hold.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

# struct tcp_info, linux/tcp.h: tcpi_bytes_acked and tcpi_bytes_received, since Linux 4.1.
_COUNTERS = struct.Struct("QQ")
_COUNTERS_AT = 120
_TCP_INFO = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
# How often a stall is looked for, as a share of the stall limit, and its bounds in seconds.
LOOKS_PER_STALL = 25
SHORTEST_TICK, LONGEST_TICK = 0.01, 1.0
# Looks without any connection at work after which the thread ends by itself.
IDLE_LOOKS = 10


def bytes_moved(sock: Any) -> int | None:
    """Bytes that the other side acknowledged plus bytes that came from it; None when that cannot be known."""
    if _TCP_INFO is None or not isinstance(sock, socket.socket):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _COUNTERS_AT + _COUNTERS.size)
    except OSError:
        return None
    return sum(_COUNTERS.unpack_from(info, _COUNTERS_AT)) if len(info) >= _COUNTERS_AT + _COUNTERS.size else None


class Watch:
    """One connection's phases of waiting, written by the thread that uses it and read by the watchdog.

    ``cut`` says that the watchdog has ended the connection, and why; it is the connection's until it connects again.
    """

    def __init__(self, connection: Any, watchdog: Watchdog) -> None:
        self._connection = weakref.ref(connection)
        self._watchdog = watchdog
        self.phase = 0
        self.armed = False
        self.limit = watchdog.stall_timeout
        self.cut: str | None = None
        self._asked, self._seen = 0, False
        self._lent: Callable[[], Any] = _nothing

    @property
    def socket(self) -> Any:
        """The connection's socket as it is now, else the one that a body still comes from, or None."""
        sock = getattr(self._connection(), "sock", None)
        return sock if sock is not None else self._lent()

    def lend(self, sock: Any) -> None:
        """Where a body comes from whose connection has let go of its socket, since the server closes behind it."""
        self._lent = weakref.ref(sock) if sock is not None else _nothing

    def arm(self, limit: float | None = None) -> int:
        """A wait begins: in ``limit`` seconds (default: the stall limit) enough bytes must move. Gives its number."""
        self.limit = limit if limit is not None else self._watchdog.stall_timeout
        self.phase += 1
        self.armed = True
        self._watchdog.wake()
        return self.phase

    def sees(self) -> bool:
        """Whether the watchdog can count this connection's bytes."""
        sock = self.socket
        if id(sock) != self._asked:
            self._asked, self._seen = id(sock), self._watchdog.sees(sock)
        return self._seen

    def disarm(self, phase: int) -> None:
        """The wait of this number is over; a later one, of another thread on the same connection, is left alone."""
        if self.phase == phase:
            self.armed = False

    def raise_if_cut(self) -> None:
        """TimeoutError when the watchdog was here."""
        if self.cut is not None:
            raise TimeoutError(self.cut)


@dataclass(slots=True)
class _Mark:
    phase: int
    since: float
    moved: int


class Watchdog:
    """Cuts connections on which fewer than ``minimum_rate * stall_timeout`` bytes move within their limit.

    One daemon thread, started when a connection first waits; it ends by itself when none does, and on ``close``. A
    child process after a fork starts its own. ``look`` is one round of it.
    """

    def __init__(
        self,
        stall_timeout: float,
        minimum_rate: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        moved: Callable[[Any], int | None] = bytes_moved,
    ) -> None:
        self.stall_timeout = stall_timeout
        self._least = max(1, int(minimum_rate * stall_timeout))
        self._clock = clock
        self._moved = moved
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._marks: weakref.WeakKeyDictionary[Watch, _Mark] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._running: int | None = None
        self._thread: threading.Thread | None = None

    def watch(self, connection: Any) -> Watch:
        """A watch for a new connection."""
        made = Watch(connection, self)
        with self._lock:
            self._watches.add(made)
        return made

    def sees(self, sock: Any) -> bool:
        """Whether this socket's bytes can be counted, so that its own time limit may be a mere backstop."""
        return self._moved(sock) is not None

    def wake(self) -> None:
        """Make sure that the thread runs: called for every wait, so it costs next to nothing when it does."""
        if self._running == os.getpid():
            return
        with self._lock:
            if self._running == os.getpid():
                return
            self._running = os.getpid()
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name="orbit-watchdog", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread, now. A wait that begins later starts it again."""
        with self._lock:
            thread, self._thread, self._running = self._thread, None, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def look(self) -> int:
        """One round: cut what stands still. The number of connections that are waiting."""
        now, waiting = self._clock(), 0
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            if watch.armed:
                waiting += 1
                self._judge(watch, now)
        return waiting

    def _judge(self, watch: Watch, now: float) -> None:
        sock, phase = watch.socket, watch.phase
        moved = self._moved(sock)
        if moved is None:
            # Not connected yet (that has its own limit), or not countable.
            self._marks.pop(watch, None)
            return
        mark = self._marks.get(watch)
        if mark is None or mark.phase != phase or moved - mark.moved >= self._least or moved < mark.moved:
            self._marks[watch] = _Mark(phase, now, moved)
        elif now - mark.since >= watch.limit and watch.armed and watch.phase == phase:
            watch.cut = f"{moved - mark.moved} bytes moved in {now - mark.since:.1f} s; at least {self._least} must"
            shut(sock)

    def _run(self, stop: threading.Event) -> None:
        tick = min(LONGEST_TICK, max(SHORTEST_TICK, self.stall_timeout / LOOKS_PER_STALL))
        idle = 0
        while not stop.wait(tick):
            idle = 0 if self.look() else idle + 1
            if idle >= IDLE_LOOKS and self._retired(stop):
                return

    def _retired(self, stop: threading.Event) -> bool:
        """Say "not running" first and look again then: a wait that began in between is seen here, or starts anew."""
        with self._lock:
            if self._stop is not stop:
                return True
            self._running = None
            if _any_armed(self._watches):
                self._running = os.getpid()
                return False
            self._thread = None
            return True


def _nothing() -> None:
    """No socket was lent."""


def _any_armed(watches: Iterable[Watch]) -> bool:
    return any(watch.armed for watch in watches)


def shut(sock: Any) -> None:
    """End both directions, which wakes the thread that waits on it. An SSLSocket's own ``shutdown`` would take its TLS
    state away under that thread, so it is passed by.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
