"""The gRPC transport against a scripted server on loopback: answers, compression, TLS, headers, end of life."""

import gzip
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import grpc
import pytest

from receiver import __version__
from receiver.export.build import build
from receiver.export.credentials import Bearer, TlsSettings, Token, read_pem, system_pool
from receiver.export.endpoint import Endpoint, parse_endpoint
from receiver.export.errors import AbandonedError, OversizeError, PermanentError, RetryableError, UnimplementedError
from receiver.export.exporter import Exporter
from receiver.export.halt import Halt, MonotonicClock
from receiver.export.otlp_grpc import Keepalive, OtlpGrpc, Transport
from receiver.export.request import Receipt
from receiver.ledger import Ledger, imbalance
from tests.export_parts import Remembered, notices, numbers_of, request
from tests.otlp_server import Answer, OtlpServer, partial_success, retry_info, until

TLS = Path(__file__).parent / "data" / "tls"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def dead_endpoint() -> str:
    """An address of this host where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Client:
    """A destination, and a sender of it for each signal."""

    def __init__(self, endpoint: str, tls: TlsSettings | None = None, **more: Any) -> None:
        self.halt = Halt(MonotonicClock())
        tls = tls or TlsSettings(insecure=True)
        self.destination = OtlpGrpc(Transport(parse_endpoint(endpoint), tls, **more))
        self.notices, self.log = notices()

    def send(self, items: int = 1, size: int = 0, signal: Any = "logs") -> Receipt:
        return self.destination.sender(signal, self.halt, self.notices).send(request(items, size, signal))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.destination.close()


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with OtlpServer() as found:
        yield found


# Calls


def test_the_bytes_arrive_as_they_are_at_the_service_of_their_signal(server: OtlpServer) -> None:
    with Client(server.endpoint) as client:
        for signal in ("logs", "metrics", "traces"):
            assert client.send(3, signal=signal) == Receipt(3)
    assert [(call.signal, call.data) for call in server.received] == [
        (signal, request(3, signal=signal).data) for signal in ("logs", "metrics", "traces")
    ]


def test_who_we_are_and_our_headers_are_sent(server: OtlpServer) -> None:
    with Client(server.endpoint, headers=(("x-tenant", "blue"), ("x-other", "1"))) as client:
        client.send()
    found = server.received[0].metadata
    assert found["user-agent"].startswith(f"weir/{__version__} OTel-OTLP-Exporter-Python/{__version__} grpc-python/")
    assert (found["x-tenant"], found["x-other"]) == ("blue", "1")


def test_partial_success_is_told(server: OtlpServer) -> None:
    server.answers += [Answer(response=partial_success(2, "too old")), Answer(response=b""), Answer()]
    with Client(server.endpoint) as client:
        assert [client.send(5) for _ in range(3)] == [Receipt(3, 2, "too old"), Receipt(5), Receipt(5)]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_comes_through_as_its_kind_of_error(server: OtlpServer, code: grpc.StatusCode) -> None:
    server.answers.append(Answer(code, "sorry", retry_info(3)))
    with Client(server.endpoint) as client, pytest.raises((RetryableError, PermanentError), match="sorry") as caught:
        client.send()
    names = {
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNAVAILABLE",
        "DATA_LOSS",
        "RESOURCE_EXHAUSTED",
    }
    if code.name in names:
        assert isinstance(caught.value, RetryableError)
        assert (caught.value.delay, caught.value.throttle) == (3, True)
    else:
        assert isinstance(caught.value, PermanentError)


def test_nothing_is_sent_twice_by_grpc_itself(server: OtlpServer) -> None:
    server.answers += [Answer(UNAVAILABLE, "busy")] * 3
    with Client(server.endpoint) as client, pytest.raises(RetryableError):
        client.send()
    assert len(server.received) == 1


def test_a_service_that_is_not_there_is_unimplemented_and_the_others_work() -> None:
    with OtlpServer(services=("logs",)) as server, Client(server.endpoint) as client:
        with pytest.raises(UnimplementedError) as caught:
            client.send(signal="metrics")
        assert caught.value.fault is not None
        assert caught.value.fault.name == "no_service"
        assert client.send() == Receipt(1)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_too_large_a_request_is_told_from_exhaustion(compression: Any) -> None:
    with OtlpServer(max_bytes=10_000) as server, Client(server.endpoint, compression=compression) as client:
        with pytest.raises(OversizeError) as caught:
            client.send(1, 20_000)
        assert caught.value.limit == (10_000 if compression == "none" else None)
        assert client.send() == Receipt(1)


def test_an_attempt_has_a_timeout_and_the_next_one_works(server: OtlpServer) -> None:
    go = threading.Event()
    server.answers.append(Answer(until=go))
    with Client(server.endpoint, timeout=0.1) as client:
        with pytest.raises(RetryableError) as caught:
            client.send()
        assert caught.value.fault is not None
        assert caught.value.fault.name == "timeout"
        go.set()
        client.destination.transport = Transport(parse_endpoint(server.endpoint), timeout=0)
        assert client.send() == Receipt(1)


def test_a_peer_that_stays_silent_gets_a_new_connection(server: OtlpServer) -> None:
    go = threading.Event()
    server.answers += [Answer(until=go)] * 3
    with Client(server.endpoint, timeout=0.05) as client:
        found = []
        for _ in range(3):
            with pytest.raises(RetryableError):
                client.send()
            found.append(client.destination._line)
        go.set()
        assert found[0] is found[1] is not None
        assert found[2] is None
        client.destination.transport = Transport(parse_endpoint(server.endpoint), timeout=0)
        assert client.send() == Receipt(1)


def test_closing_ends_a_call_that_is_under_way(server: OtlpServer) -> None:
    go = threading.Event()
    server.answers.append(Answer(until=go))
    client = Client(server.endpoint, timeout=0)
    failed: list[BaseException] = []

    def send() -> None:
        try:
            client.send()
        except (RetryableError, AbandonedError) as error:
            failed.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    until(lambda: server.received)
    client.destination.close()
    thread.join(10)
    go.set()
    assert failed
    with pytest.raises(AbandonedError):
        client.send()


def test_last_attempts_at_once_wait_for_one_connection_and_leave_nothing_that_looks_at_it_closed(
    server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[object] = []
    waits: list[object] = []
    ready = grpc.channel_ready_future
    monkeypatch.setattr(threading, "excepthook", lambda hook: died.append(hook.exc_value))
    monkeypatch.setattr(grpc, "channel_ready_future", lambda channel: waits.append(channel) or ready(channel))
    with Client(server.endpoint) as client:
        client.halt.set(client.halt.clock.now() + 10)
        calls = [threading.Thread(target=client.send) for _ in range(4)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
    # gRPC's own threads end a moment later.
    until(lambda: not [thread for thread in threading.enumerate() if "(_run)" in thread.name])
    assert len(waits) == 1
    assert died == []


def test_no_call_is_begun_after_the_deadline_and_none_outlives_it(server: OtlpServer) -> None:
    go = threading.Event()
    server.answers.append(Answer(until=go))
    with Client(server.endpoint, timeout=60) as client:
        client.halt.set(time.monotonic() + 0.2)
        begun = time.monotonic()
        with pytest.raises(RetryableError):
            client.send()
        assert time.monotonic() - begun < 10
        with pytest.raises(AbandonedError):
            client.send()
    go.set()
    assert len(server.received) <= 1


# Compression


class Wire(threading.Thread):
    """A forwarder that remembers the bytes from client to server."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        host, _, port = endpoint.rpartition(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen = bytearray()
        self.start()

    def run(self) -> None:
        client, _ = self._listener.accept()
        with self._listener, client, socket.create_connection(self._to) as server:
            back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
            back.start()
            self._copy(client, server, self.seen)
            back.join(10)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket, seen: bytearray | None = None) -> None:
        try:
            while data := source.recv(65536):
                if seen is not None:
                    seen += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.mark.parametrize(("compression", "small"), [("gzip", True), ("none", False), ("auto", False)])
def test_compression_on_the_wire(server: OtlpServer, compression: Any, small: bool) -> None:
    wire = Wire(server.endpoint)
    with Client(wire.endpoint, compression=compression) as client:
        client.send(1, 50_000)
    wire.join(10)
    assert (len(wire.seen) < 10_000) == small
    assert (gzip.compress(b"")[:2] in wire.seen) == small
    assert server.received[0].data == request(1, 50_000).data


@pytest.mark.parametrize(
    ("endpoint", "compressed"),
    [
        ("localhost:4317", False),
        ("unix:/run/otlp.sock", False),
        ("[::1]:4317", False),
        ("collector:4317", True),
        ("10.0.0.1:4317", True),
    ],
)
def test_auto_compresses_what_leaves_the_host(endpoint: str, compressed: bool) -> None:
    destination = OtlpGrpc(Transport(parse_endpoint(endpoint), TlsSettings(insecure=True)))
    assert (destination.compression == grpc.Compression.Gzip) == compressed


def test_a_destination_that_cannot_decompress_gets_plain_bytes_from_then_on(server: OtlpServer) -> None:
    text = 'grpc: Decompressor is not installed for grpc-encoding "gzip"'
    server.answers.append(Answer(grpc.StatusCode.UNIMPLEMENTED, text))
    with Client(server.endpoint, compression="gzip") as client:
        assert client.send(2) == Receipt(2)
        assert client.send(2) == Receipt(2)
        assert client.log.messages() == ["The destination cannot decompress. Sending without compression."]
    assert len(server.received) == 3


# Endpoints and connections


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:4317", Endpoint("localhost:4317", None, True)),
        ("127.0.0.9:1", Endpoint("127.0.0.9:1", None, True)),
        ("collector.example:4317", Endpoint("collector.example:4317", None, False)),
        ("[2001:db8::1]:4317", Endpoint("[2001:db8::1]:4317", None, False)),
        ("[::1]:4317", Endpoint("[::1]:4317", None, True)),
        ("http://localhost:4317/", Endpoint("localhost:4317", True, True)),
        ("https://collector:443", Endpoint("collector:443", False, False)),
        ("dns:///collector:4317", Endpoint("dns:///collector:4317", None, False, True)),
        ("dns://8.8.8.8/collector:4317", Endpoint("dns://8.8.8.8/collector:4317", None, False, True)),
        ("passthrough:///collector:4317", Endpoint("collector:4317", None, False)),
        ("unix:/run/otlp.sock", Endpoint("unix:/run/otlp.sock", None, True)),
        ("unix:///run/otlp.sock", Endpoint("unix:/run/otlp.sock", None, True)),
        ("unix-abstract:otlp", Endpoint("unix-abstract:otlp", None, True)),
    ],
)
def test_endpoints(text: str, expected: Endpoint) -> None:
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    "text", ["", "localhost", ":4317", "localhost:", "localhost:0", "localhost:70000", "localhost:http", "::1:4317", "http://x",
             "http://x:1/path", "unix:", "unix://relative", "dns:///x", "ftp://x:1"],
)  # fmt: skip
def test_an_endpoint_that_cannot_be_used_is_an_error_that_says_what_can(text: str) -> None:
    with pytest.raises(ValueError, match="an endpoint is host:port"):
        parse_endpoint(text)


def test_a_unix_socket_works(tmp_path: Path) -> None:
    with OtlpServer(address=f"unix:{tmp_path}/otlp.sock") as server, Client(f"unix://{tmp_path}/otlp.sock") as client:
        assert client.send(2) == Receipt(2)
        assert len(server.received) == 1


@pytest.mark.parametrize(("endpoint", "cause"), [("", "refused"), ("unix:/nowhere/otlp.sock", "refused")])
def test_an_absent_server_is_named(endpoint: str, cause: str) -> None:
    with Client(endpoint or dead_endpoint()) as client, pytest.raises(RetryableError) as caught:
        client.send()
    assert caught.value.fault is not None
    assert caught.value.fault.name == cause


def test_keepalive_and_proxy_become_channel_options() -> None:
    local = OtlpGrpc(Transport(parse_endpoint("localhost:1"), TlsSettings(insecure=True)))._options()
    assert local["grpc.enable_http_proxy"] == 0
    assert "grpc.keepalive_time_ms" not in local
    keepalive = Keepalive(time=300, timeout=5.5, permit_without_stream=True)
    far = OtlpGrpc(Transport(parse_endpoint("dns:///x:1"), TlsSettings(insecure=True), keepalive=keepalive))._options()
    assert "grpc.enable_http_proxy" not in far
    assert (far["grpc.keepalive_time_ms"], far["grpc.keepalive_timeout_ms"]) == (300_000, 5500)
    assert (far["grpc.keepalive_permit_without_calls"], far["grpc.lb_policy_name"]) == (1, "round_robin")
    assert (far["grpc.enable_retries"], far["grpc.use_local_subchannel_pool"]) == (0, 1)


# TLS


def server_tls(name: str = "server", client_ca: str = "") -> Any:
    pair = ((TLS / f"{name}.key").read_bytes(), (TLS / f"{name}.pem").read_bytes())
    if client_ca:
        return grpc.ssl_server_credentials([pair], (TLS / f"{client_ca}.pem").read_bytes(), True)
    return grpc.ssl_server_credentials([pair])


def settings(ca: str = "ca", client: str = "", **more: Any) -> TlsSettings:
    pair = {"cert_file": str(TLS / f"{client}.pem"), "key_file": str(TLS / f"{client}.key")} if client else {}
    return TlsSettings(ca_file=str(TLS / f"{ca}.pem"), **pair, **more)


def cause_of(client: Client) -> str:
    with client, pytest.raises(RetryableError) as caught:
        client.send()
    assert caught.value.fault is not None
    return caught.value.fault.name


def test_tls_with_a_ca_of_ones_own() -> None:
    with OtlpServer(credentials=server_tls()) as server:
        pem = TlsSettings(ca_pem=(TLS / "ca.pem").read_text())
        for tls in (settings(), pem, settings(include_system_ca_certs_pool=True)):
            with Client(server.endpoint, tls) as client:
                assert client.send() == Receipt(1)
        with Client(f"https://{server.endpoint}", settings(insecure=True)) as client:
            assert client.send() == Receipt(1)


def test_wrong_certificates_are_told_apart() -> None:
    with OtlpServer(credentials=server_tls()) as server:
        assert cause_of(Client(server.endpoint, settings("other"))) == "certificate"
        assert cause_of(Client(server.endpoint, TlsSettings())) == "certificate"
        assert cause_of(Client(server.endpoint)) == "closed"
        assert cause_of(Client(f"http://{server.endpoint}", settings())) == "closed"
    with OtlpServer(credentials=server_tls("elsewhere")) as server:
        assert cause_of(Client(server.endpoint, settings())) == "certificate_name"
    with OtlpServer() as server:
        assert cause_of(Client(server.endpoint, settings())) == "tls_mismatch"


def test_a_server_of_another_name_is_taken_where_that_is_said() -> None:
    with (
        OtlpServer(credentials=server_tls("elsewhere")) as server,
        Client(server.endpoint, settings(server_name_override="elsewhere.test")) as client,
    ):
        assert client.send() == Receipt(1)


def test_client_certificates() -> None:
    with OtlpServer(credentials=server_tls(client_ca="ca")) as server:
        with Client(server.endpoint, settings(client="client")) as client:
            assert client.send() == Receipt(1)
        for wrong in ("", "foreign"):
            assert cause_of(Client(server.endpoint, settings(client=wrong))) in ("closed", "client_certificate")


def test_rotated_files_are_taken_and_unreadable_ones_are_not(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(TLS / "ca.pem", ca)
    tls = TlsSettings(ca_file=str(ca), reload_interval=0.000001)
    with OtlpServer(credentials=server_tls()) as server, OtlpServer(credentials=server_tls("second")) as second:
        client = Client(server.endpoint, tls)
        other = Client(second.endpoint, tls)
        with client, other:
            assert client.send() == Receipt(1)
            assert cause_of_send(other) == "certificate"
            ca.write_text("half a file")
            assert client.send() == Receipt(1)
            shutil.copy(TLS / "other.pem", ca)
            assert other.send() == Receipt(1)
            assert cause_of_send(client) == "certificate"


def cause_of_send(client: Client) -> str:
    with pytest.raises(RetryableError) as caught:
        client.send()
    assert caught.value.fault is not None
    return caught.value.fault.name


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (TlsSettings(ca_file="/nowhere/ca.pem"), "tls::ca_file: .*No such file"),
        (TlsSettings(ca_file=str(TLS / "make.sh")), "tls::ca_file: .* is not a PEM file"),
        (TlsSettings(cert_file=str(TLS / "client.pem")), "needs both cert_file and key_file"),
        (TlsSettings(key_pem="-----BEGIN x"), "needs both cert_file and key_file"),
    ],
)
def test_tls_files_that_cannot_be_used_are_errors_at_once(tls: TlsSettings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Client("collector:4317", tls)


def test_the_systems_pool_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    assert read_pem(TlsSettings()).roots == (TLS / "ca.pem").read_bytes()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    assert system_pool() is None


def test_a_token_rotates_and_an_unreadable_file_leaves_the_old_one(server: OtlpServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ValueError, match="extensions::auth::filename"):
        Token(Bearer("auth", filename=str(path)))
    path.write_text("first\n")
    with Client(server.endpoint, bearer=Bearer("auth", filename=str(path))) as client:
        client.send()
        path.write_text("the second one")
        client.send()
        path.unlink()
        client.send()
    assert [call.metadata["authorization"] for call in server.received] == [
        "Bearer first", "Bearer the second one", "Bearer the second one",
    ]  # fmt: skip


# The whole exporter over gRPC, as the composition root builds it


def exporter_to(endpoint: str, ledger: Ledger, log: Remembered, **more: Any) -> Exporter:
    found = {
        "endpoint": endpoint,
        "tls": SimpleNamespace(insecure=True, ca_file=None),
        "compression": "auto",
        "timeout": 5.0,
        "headers": {"x-key": SimpleNamespace(get_secret_value=lambda: "secret")},
        "retry_on_failure": SimpleNamespace(
            enabled=True, initial_interval=0.01, randomization_factor=0.5, multiplier=1.5, max_interval=0.02, max_elapsed_time=60.0
        ),
        "sending_queue": SimpleNamespace(enabled=True, sizer="bytes", queue_size=1 << 20, num_consumers=2),
        **more,
    }  # fmt: skip
    died: list[object] = []
    built = build("otlp_grpc", SimpleNamespace(**found), ledger, ["logs"], lambda *what: died.append(what), log=log)
    assert (built.wants_owner_rule, built.max_request_bytes, died) == (False, 1 << 20, [])
    return built


def offer(exporter: Exporter, ledger: Ledger, items: int, start: int, size: int = 0) -> None:
    with ledger.boundary():
        ledger.signal("logs").observe(items)
        exporter.offer(request(items, size, start=start))


def test_a_collector_that_comes_late_and_goes_away_in_between_loses_nothing(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/otlp.sock"
    ledger, log = Ledger(), Remembered()
    exporter = exporter_to(address, ledger, log)
    exporter.start()
    offer(exporter, ledger, 3, 1)
    until(lambda: "Exporting failed. Will retry the request after interval." in log.messages())
    assert log.fields("Exporting failed. Will retry the request after interval.")["cause"] == "refused"
    arrived = []
    for number in range(2):
        with OtlpServer(address=address) as server:
            until(lambda: ledger.snapshot()["logs"]["in_flight"] == 0)
            arrived += [n for call in server.received for n in numbers_of(call.data)]
            assert server.received[0].metadata["x-key"] == "secret"
        offer(exporter, ledger, 2, 4 + 2 * number)
    with OtlpServer(address=address) as server:
        exporter.stop(time.monotonic() + 10)
        arrived += [n for call in server.received for n in numbers_of(call.data)]
    assert sorted(arrived) == [1, 2, 3, 4, 5, 6, 7]
    found = ledger.snapshot()
    assert (found["logs"]["exported"], found["logs"]["dropped"], imbalance(found)) == (7, {}, [])


def test_a_smaller_limit_of_the_receiver_is_learned_and_nothing_is_lost() -> None:
    ledger, log = Ledger(), Remembered()
    with OtlpServer(max_bytes=3000) as server:
        exporter = exporter_to(server.endpoint, ledger, log)
        exporter.start()
        for number in range(4):
            offer(exporter, ledger, 20, 1 + 20 * number, 400)
        offer(exporter, ledger, 1, 81, 4000)
        until(lambda: ledger.snapshot()["logs"]["in_flight"] == 0)
        exporter.stop(time.monotonic() + 10)
    assert sorted(n for call in server.received for n in numbers_of(call.data)) == list(range(1, 81))
    found = ledger.snapshot()["logs"]
    assert (found["exported"], found["dropped"]) == (80, {"export/oversize": 1})


def test_a_throttling_server_is_obeyed() -> None:
    ledger, log = Ledger(), Remembered()
    with OtlpServer(script=[Answer(UNAVAILABLE, "slow down", retry_info(0.3))]) as server:
        exporter = exporter_to(server.endpoint, ledger, log)
        exporter.start()
        offer(exporter, ledger, 1, 1)
        until(lambda: "Exporting failed. Will retry the request after interval." in log.messages())
        offer(exporter, ledger, 1, 2)
        until(lambda: len(server.received) == 3)
        assert all(call.time - server.received[0].time >= 0.3 for call in server.received[1:])
        exporter.stop(time.monotonic() + 10)
    assert ledger.snapshot()["logs"]["exported"] == 2


def test_stopping_while_the_server_hangs_ends_in_time_with_a_final_ledger() -> None:
    ledger, log, go = Ledger(), Remembered(), threading.Event()
    with OtlpServer(script=[Answer(until=go)] * 9) as server:
        exporter = exporter_to(server.endpoint, ledger, log, timeout=60.0)
        exporter.start()
        for number in range(5):
            offer(exporter, ledger, 1, 1 + number)
        until(lambda: len(server.received) == 2)
        begun = time.monotonic()
        exporter.stop(time.monotonic() + 0.3)
        assert time.monotonic() - begun < 5
        go.set()
    found = ledger.snapshot()
    assert (found["logs"]["dropped"], found["logs"]["in_flight"]) == ({"shutdown/abandoned": 5}, 0)
    assert imbalance(found) == []


def test_the_configuration_as_it_is_builds_every_type(server: OtlpServer) -> None:
    from receiver.config.exporters import TYPES

    for name, model in TYPES.items():
        ledger = Ledger()
        values = {"endpoint": server.endpoint, "tls": {"insecure": True}, "user_agent": "mine", "keepalive": {}}
        made = model.model_validate(values if name != "debug" else {})
        exporter = build(name, made, ledger, ["logs"], lambda *_: None, log=Remembered())
        assert exporter.max_request_bytes == 1 << 20
        if name != "debug":
            exporter.start()
            offer(exporter, ledger, 2, 1)
        exporter.stop(time.monotonic() + 10)
        assert ledger.snapshot()["logs"]["exported"] == (0 if name == "debug" else 2)
    assert [call.metadata["user-agent"].split()[0] for call in server.received] == ["mine", "mine"]
