"""Routes to a small HTTP server of its own thread: GET only, few requests at once, each with a deadline."""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_AT_ONCE: Final = 16
_TIMEOUT: Final = 5.0


class Answer(NamedTuple):
    """One response."""

    status: int
    content_type: str
    body: bytes


Route = Callable[[], Answer]


class AddressError(ValueError):
    """An endpoint that cannot be listened on."""


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """`host:port` to its parts; AddressError says what is wrong."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise AddressError(f"{endpoint!r} is not host:port")
    return host.strip("[]") or "localhost", int(port)


class _Handler(BaseHTTPRequestHandler):
    """Answers from the server's routes; writes no log of its own."""

    server: "_Server"
    timeout = _TIMEOUT
    protocol_version = "HTTP/1.1"
    server_version = "weir"
    sys_version = ""

    def do_GET(self) -> None:
        """A route's answer, or 404."""
        route = self.server.routes.get(urlsplit(self.path).path)
        answer = route() if route else Answer(404, "text/plain; charset=utf-8", b"not found\n")
        self.send_response(answer.status)
        for name, value in (
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "default-src 'none'"),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 http.server's own name
        """Nothing: standard error is for Weir's log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    routes: Mapping[str, Route]

    def __init__(self, address: tuple[str, int], routes: Mapping[str, Route]) -> None:
        self.routes = routes
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Handler)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Refuse what is more than a few at once."""
        del request, client_address
        return self._room.acquire(blocking=False)

    def process_request_thread(self, request: object, client_address: object) -> None:
        """As the base, and make room again."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class HttpServer:
    """One endpoint with its routes. Raises AddressError at once if it cannot be listened on."""

    def __init__(self, name: str, endpoint: str, routes: Mapping[str, Route]) -> None:
        try:
            self._server = _Server(parse_endpoint(endpoint), routes)
        except (OSError, AddressError) as error:
            raise AddressError(f"extensions::{name}::endpoint: {endpoint}: {error}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name=f"admin {name}", daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no longer."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(_TIMEOUT)
        self._server.server_close()
