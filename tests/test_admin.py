"""The small HTTP endpoints, over real loopback sockets."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from receiver.admin.http import AddressError, HttpServer, parse_endpoint
from receiver.admin.pages import health_routes, zpages_routes

READY = {"now": True}


@pytest.fixture
def server() -> Iterator[HttpServer]:
    routes = {
        **zpages_routes(lambda: {"logs": {"observed": 3}}, lambda: {"capture": "available"}),
        "/health": health_routes(lambda: READY["now"])["/"],
    }
    made = HttpServer("zpages", "localhost:0", routes)
    made.start()
    yield made
    made.stop()


def get(server: HttpServer, path: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_pages_are_json_and_may_not_be_scripted(server: HttpServer) -> None:
    status, headers, body = get(server, "/debug/ledger?x=1")
    assert (status, json.loads(body)) == (200, {"logs": {"observed": 3}})
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert json.loads(get(server, "/debug/status")[2]) == {"capture": "available"}
    assert b"/debug/ledger" in get(server, "/")[2]
    assert get(server, "/etc/passwd")[0] == 404


def test_health_follows_readiness(server: HttpServer) -> None:
    status, _, body = get(server, "/health")
    assert (status, json.loads(body)["status"]) == (200, "Server available")
    READY["now"] = False
    try:
        assert get(server, "/health")[0] == 503
    finally:
        READY["now"] = True


def test_junk_and_many_idle_clients_do_not_stop_it(server: HttpServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    with socket.create_connection(("127.0.0.1", server.port)) as junk:
        junk.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert b"400" in junk.recv(4096)
    assert get(server, "/debug/ledger")[0] == 200
    for client in idle:
        client.close()


def test_an_endpoint_in_use_or_malformed_is_named(server: HttpServer) -> None:
    with pytest.raises(AddressError, match="extensions::zpages::endpoint"):
        HttpServer("zpages", f"localhost:{server.port}", {})
    with pytest.raises(AddressError, match="host:port"):
        parse_endpoint("localhost")
    assert parse_endpoint("[::1]:80") == ("::1", 80)
