"""Another host, to which a redirect points: it takes everything and remembers whether credentials came along."""

from __future__ import annotations

import http.server
import threading
from types import TracebackType
from typing import final


@final
class Elsewhere:
    """Listens until the context ends. ``requests`` came, ``signed`` of them with an Authorization header."""

    def __init__(self) -> None:
        self.requests = 0
        self.signed = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="elsewhere", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens; the store is 127.0.0.1 to its clients, so that "localhost" is another host."""
        return self._server.server_port

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        home = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _take(self) -> None:
                home.requests += 1
                home.signed += "Authorization" in self.headers
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.send_response(200)
                self.send_header("ETag", f'"{0:032x}"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self._take()

            def do_PUT(self) -> None:
                self._take()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        return Handler

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
