"""Reading configurations: every error at once with its path, substitution, merging, defaults."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import config
from receiver.config import ConfigError, load, yaml
from receiver.config.durations import format_duration, parse_duration
from receiver.config.load import merge

ROOT = Path(__file__).parent.parent
MINIMAL = """
receivers: {ebpf: {}}
exporters: {otlp_grpc: {tls: {insecure: true}}}
service: {extensions: [], pipelines: {logs: {receivers: [ebpf], exporters: [otlp_grpc]}}}
"""


def errors(*texts: str, sets: tuple[str, ...] = (), environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load([f"yaml:{text}" for text in texts], sets, environ or {})
    return caught.value.errors


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/*.yaml")), ids=lambda path: path.name)
def test_the_configurations_that_are_shipped_are_valid(path: Path) -> None:
    assert load([str(path)], environ={}).service.pipelines


def test_full_yaml_is_current_and_holds_the_defaults() -> None:
    text = (ROOT / "config/full.yaml").read_text()
    assert text == config.full_yaml(), "run: weir print-config --full > config/full.yaml"
    full, bare = load([str(ROOT / "config/full.yaml")], environ={}), load([f"yaml:{MINIMAL}"], environ={})
    assert full.receiver == bare.receiver
    assert full.exporters["otlp_grpc"] == bare.exporters["otlp_grpc"]


def test_the_defaults_of_the_contract() -> None:
    made = load([f"yaml:{MINIMAL}"], environ={})
    receiver, exporter = made.receiver, made.exporters["otlp_grpc"]
    assert (receiver.scope, receiver.flows.update_interval, receiver.metrics.interval) == ("netns", 60.0, 15.0)
    assert (receiver.limits.ring_mib, receiver.limits.max_flows, receiver.limits.max_edges) == (2, 65536, 2048)
    assert (exporter.endpoint, exporter.compression, exporter.timeout) == ("localhost:4317", "auto", 5.0)
    retry, queue = exporter.retry_on_failure, exporter.sending_queue
    assert (retry.initial_interval, retry.multiplier, retry.max_interval, retry.max_elapsed_time) == (5, 1.5, 30, 300)
    assert (queue.sizer, queue.queue_size, queue.num_consumers) == ("bytes", 16777216, 2)
    assert made.service.shutdown_timeout == 10
    insecure = MINIMAL.replace("tls: {insecure: true}", "")
    assert load([f"yaml:{insecure}"], environ={}).exporters["otlp_grpc"].tls.insecure is False


def test_without_a_source_flows_are_printed() -> None:
    made = config.default()
    assert made.service.pipelines["logs"].exporters == ["debug"]
    assert made.service.extensions == []


BAD = [
    ("receivers: {ebpf: {scop: host}}", "receivers::ebpf::scop: unknown key"),
    ("receivers: {ebpf: {scope: pod}}", "receivers::ebpf::scope: Input should be 'netns' or 'host'"),
    (
        "receivers: {ebpf: {limits: {ring_mib: 2.5}}}",
        "receivers::ebpf::limits::ring_mib: Input should be a valid integer",
    ),
    (
        "receivers: {ebpf: {limits: {ring_mib: 0}}}",
        "receivers::ebpf::limits::ring_mib: Input should be greater than or equal to 1",
    ),
    (
        "receivers: {ebpf: {flows: {update_interval: 60}}}",
        "receivers::ebpf::flows::update_interval: a duration needs a unit",
    ),
    ("receivers: {ebpf: {metrics: {interval: 10ms}}}", "receivers::ebpf::metrics::interval: must be at least 1s"),
    ("receivers: {ebpf: {dns: {enabled: yes}}}", "receivers::ebpf::dns::enabled: Input should be a valid boolean"),
    (
        "receivers: {ebpf: {scope: host, dns: {enabled: true}}}",
        "receivers::ebpf::dns: names are those of one workload: needs scope: netns",
    ),
    ("receivers: {ebpf: {l7: {enabled: true}}}", "receivers::ebpf::l7::enabled: not available in this version"),
    ("receivers: {otlp: {}}", "receivers::otlp: unknown type 'otlp'"),
    ("receivers: {ebpf/2: {}}", "receivers: exactly one ebpf receiver is needed, there are 2"),
    ("exporters: {otlp_grpc: {endpoint: ''}}", 'exporters::otlp_grpc::endpoint: requires a non-empty "endpoint"'),
    ("exporters: {otlp_grpc: {endpoint: nowhere}}", "exporters::otlp_grpc::endpoint: 'nowhere' is none of host:port"),
    (
        "exporters: {otlp_grpc: {compression: zstd}}",
        "exporters::otlp_grpc::compression: zstd is not possible with grpcio",
    ),
    ("exporters: {otlp_grpc: {headers: {grpc-x: y}}}", "exporters::otlp_grpc::headers: 'grpc-x' is gRPC's own"),
    ("exporters: {otlp_grpc: {headers: {a-bin: y}}}", "exporters::otlp_grpc::headers: 'a-bin' is gRPC's own"),
    (
        "exporters: {otlp_grpc: {headers: {a: é}}}",
        "exporters::otlp_grpc::headers: the value of 'a' is not printable ASCII",
    ),
    (
        "exporters: {otlp_grpc: {tls: {insecure_skip_verify: true}}}",
        "exporters::otlp_grpc::tls::insecure_skip_verify: not possible",
    ),
    ("exporters: {otlp_grpc: {tls: {cert_file: a}}}", "exporters::otlp_grpc::tls: a client certificate needs its key"),
    (
        "exporters: {otlp_grpc: {tls: {ca_file: a, ca_pem: b}}}",
        "exporters::otlp_grpc::tls: ca_file and ca_pem exclude each other",
    ),
    (
        "exporters: {otlp_grpc: {retry_on_failure: {max_elapsed_time: 1s}}}",
        "exporters::otlp_grpc::retry_on_failure: max_elapsed_time",
    ),
    (
        "exporters: {otlp_grpc: {sending_queue: {storage: file_storage}}}",
        "exporters::otlp_grpc::sending_queue::storage: 'file_storage' is not listed in service::extensions",
    ),
    (
        "exporters: {otlp_grpc: {sending_queue: {storage: zpages}}}",
        "exporters::otlp_grpc::sending_queue::storage: 'zpages' is no file_storage extension",
    ),
    (
        "exporters: {otlp_grpc: {sending_queue: {storage: file_storage/other}}}",
        "exporters::otlp_grpc::sending_queue::storage: 'file_storage/other' is not configured under extensions",
    ),
    (
        "exporters: {otlp_grpc: {auth: {authenticator: bearertokenauth}}}",
        "exporters::otlp_grpc::auth::authenticator: 'bearertokenauth' is not configured under extensions",
    ),
    (
        "exporters: {otlp_grpc: {auth: {authenticator: b}, headers: {authorization: x}}}",
        "exporters::otlp_grpc: auth and a header authorization exclude each other",
    ),
    ("extensions: {bearertokenauth: {}}", "extensions::bearertokenauth: exactly one of token and filename is needed"),
    (
        "exporters: {otlp_grpc: {sending_queue: {storage: file_storage, wait_for_result: true}}}",
        "exporters::otlp_grpc::sending_queue: wait_for_result and storage exclude each other",
    ),
    (
        "exporters: {otlp_grpc: {sending_queue: {enabled: false, batch: {}}}}",
        "exporters::otlp_grpc::sending_queue: batch needs the queue: enabled is false",
    ),
    (
        "exporters: {otlp_grpc: {sending_queue: {batch: {max_size: 5}}}}",
        "exporters::otlp_grpc::sending_queue::batch: max_size must be 0, or at least min_size",
    ),
    (
        "exporters: {otlp_grpc: {sending_queue: {batch: {flush_timeout: 0s}}}}",
        "exporters::otlp_grpc::sending_queue::batch: flush_timeout must be greater than 0s",
    ),
    (
        "exporters: {otlp_grpc: {sending_queue: {sizer: items, queue_size: 9, batch: {min_size: 10}}}}",
        "exporters::otlp_grpc::sending_queue: batch::min_size must not be larger than queue_size",
    ),
    ("exporters: {kafka: {}}", "exporters::kafka: unknown type 'kafka' (known: otlp_grpc, otlp, debug)"),
    ("exporters: []", "exporters: must be a map of ids"),
    ("processors: {batch: {}}", "processors: Weir has no processors"),
    ("service: {pipelines: {logs: {receivers: [x]}}}", "service::pipelines::logs::receivers: 'x' is not configured"),
    ("service: {pipelines: {logs: {exporters: [x]}}}", "service::pipelines::logs::exporters: 'x' is not configured"),
    (
        "service: {pipelines: {logs: {exporters: []}}}",
        "service::pipelines::logs::exporters: List should have at least 1 item",
    ),
    (
        "service: {pipelines: {logs: {processors: [batch]}}}",
        "service::pipelines::logs::processors: List should have at most 0 items",
    ),
    (
        "service: {pipelines: {traces: {receivers: [ebpf], exporters: [otlp_grpc]}}}",
        "service::pipelines::traces: no receiver makes spans (set receivers::ebpf::flows::spans)",
    ),
    (
        "receivers: {ebpf: {flows: {spans: true}}}",
        "receivers::ebpf::flows::spans: spans leave by a traces pipeline, and there is none",
    ),
    ("receivers: {ebpf: {exclude: {ports: [0]}}}", "receivers::ebpf::exclude::ports::0: Input should be greater"),
    (
        "receivers: {ebpf: {include: {cidrs: [10.0.0.1/8]}}}",
        "receivers::ebpf::include::cidrs: '10.0.0.1/8' is no network",
    ),
    (
        "receivers: {ebpf: {exclude: {executables: [/bin/sh]}}}",
        "receivers::ebpf::exclude::executables: '/bin/sh' is no",
    ),
    ("receivers: {ebpf: {sample: {flows: 0}}}", "receivers::ebpf::sample::flows: Input should be"),
    (
        "service: {pipelines: {profiles: {receivers: [ebpf], exporters: [otlp_grpc]}}}",
        "service::pipelines::profiles: unknown signal",
    ),
    ("service: {extensions: [pprof]}", "service::extensions: 'pprof' is not configured"),
    ("service: {extensions: [observer]}", "service::extensions: observer: not available in this version"),
    ("service: {telemetry: {logs: {level: trace}}}", "service::telemetry::logs::level: Input should be"),
    ("nonsense: 1", "nonsense: unknown section"),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_each_mistake_is_named_by_its_path(text: str, expected: str) -> None:
    found = errors(MINIMAL, text)
    assert [error for error in found if error.startswith(expected)], found


def test_all_mistakes_come_at_once() -> None:
    text = "{receivers: {ebpf: {scop: 1, flows: {spans: 3}}}, exporters: {otlp_grpc: {endpoint: '', timeout: x}}, nonsense: 1}"
    found = errors(MINIMAL, text)
    assert {error.partition(": ")[0] for error in found} == {
        "nonsense", "receivers::ebpf::scop", "receivers::ebpf::flows::spans", "exporters::otlp_grpc::endpoint",
        "exporters::otlp_grpc::timeout", "service::pipelines::logs::receivers", "service::pipelines::logs::exporters",
    }  # fmt: skip


def test_a_key_that_stands_twice_is_an_error_with_its_place() -> None:
    assert errors("receivers:\n  ebpf:\n    scope: host\n    scope: netns\n") == [
        "yaml::4:5: the key 'scope' stands here a second time"
    ]


def test_numbers_and_words_are_what_they_look_like() -> None:
    made = load(
        [f"yaml:{MINIMAL}", "yaml:receivers: {ebpf: {resource: {attributes: {a: 22:22, b: yes, c: 017, d: 0o17}}}}"],
        environ={},
    )
    assert dict(made.receiver.resource.attributes) == {"a": "22:22", "b": "yes", "c": 17, "d": 15}


def test_substitution_as_the_collector_does_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    text = (
        "exporters: {otlp_grpc: {endpoint: '${env:HOST:-localhost}:${PORT}', timeout: '${env:T}', headers: {"
        f"a: '${{file:{tmp_path}/token}}', b: 'x$$y$${{z}}', c: 'n${{env:UNSET}}'}}}}}}"
    )
    made = load([f"yaml:{MINIMAL}", f"yaml:{text}"], environ={"PORT": "4317", "T": "7s"})
    exporter = made.exporters["otlp_grpc"]
    assert (exporter.endpoint, exporter.timeout) == ("localhost:4317", 7.0)
    assert dict(exporter.headers) == {"a": "s3cret", "b": "x$y${z}", "c": "n"}
    assert made.warnings == ("exporters::otlp_grpc::headers::c: the environment variable UNSET is not set",)


def test_a_reference_alone_gives_what_yaml_makes_of_it() -> None:
    made = load([f"yaml:{MINIMAL}", "yaml:receivers: {ebpf: {limits: {ring_mib: '${env:N}'}}}"], environ={"N": "8"})
    assert made.receiver.limits.ring_mib == 8
    found = errors(MINIMAL, "receivers: {ebpf: {tenant: '${http://x}', scope: '${env:1x}'}}")
    assert [error.partition(": ")[0] for error in found] == ["receivers::ebpf::tenant", "receivers::ebpf::scope"]


def test_later_sources_win_and_set_is_last(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(MINIMAL)
    sources = [str(tmp_path / "base.yaml"), "env:MORE", f"file:{tmp_path}/base.yaml"]
    environ = {"MORE": "receivers: {ebpf: {scope: host, limits: {ring_mib: 4}}}"}
    made = load(
        sources, ["receivers.ebpf.limits.ring_mib=16", "receivers::ebpf::attributes::families=[source]"], environ
    )
    assert (made.receiver.scope, made.receiver.limits.ring_mib) == ("host", 16)
    assert made.receiver.attributes.families == ["source"]
    assert errors(MINIMAL, sets=("nonsense",)) == ["--set nonsense: not of the form a.b=value"]
    with pytest.raises(ConfigError, match="No such file"):
        load([str(tmp_path / "none.yaml")])


def test_secrets_are_not_shown_unless_asked_for() -> None:
    made = load(
        [
            f"yaml:{MINIMAL}",
            "yaml:exporters: {otlp_grpc: {headers: {Authorization: Bearer s3cret}, tls: {ca_pem: s3cret}}}",
        ]
    )
    for form in ("yaml", "json"):
        assert "s3cret" not in config.dump(made, form=form)
        assert config.dump(made, redact=False, form=form).count("s3cret") == 2
    assert "s3cret" not in "".join(
        errors(MINIMAL, "exporters: {otlp_grpc: {headers: {a: [s3cret]}, tls: {ca_pem: {s3cret: 1}}}}")
    )


def test_what_is_dumped_loads_as_the_same() -> None:
    made = load([str(ROOT / "config/full.yaml")], environ={})
    again = load([f"yaml:{config.dump(made)}"], environ={})
    assert (again.receiver, again.service) == (made.receiver, made.service)


@given(st.integers(0, 10**7).map(lambda n: n / 1000) | st.integers(0, 10**6).map(float))
def test_durations_survive_their_text(seconds: float) -> None:
    assert abs(parse_duration(format_duration(seconds)) - seconds) < 1e-9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("300ms", 0.3),
        ("-2m", -120),
        ("0", 0),
        (".5s", 0.5),
        ("1h1m1s1ms1us1ns", 3661.001001001),
    ],
)
def test_go_durations(text: str, seconds: float) -> None:
    assert abs(parse_duration(text) - seconds) < 1e-9


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1 s", "--1s", "1s ", "1e3s", "\uff11s"])
def test_what_go_would_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


TREE = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(TREE, TREE, TREE)
def test_merging_is_associative_on_maps_and_the_last_wins(one: object, two: object, three: object) -> None:
    assert merge(one, merge(two, two)) == merge(one, two)
    if not isinstance(three, dict):
        assert merge(merge(one, two), three) == three


@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_clear_error(text: str) -> None:
    try:
        load([f"yaml:{text}"], environ={})
    except ConfigError as error:
        assert error.errors


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/collector/*.yaml")), ids=lambda path: path.name)
def test_the_collector_examples_have_a_pipeline_for_each_signal_and_refer_to_what_they_have(path: Path) -> None:
    tree = yaml.parse(path.read_text(), path.name)
    assert {"logs", "metrics"} <= tree["service"]["pipelines"].keys()
    for pipeline in tree["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= tree[kind].keys()
    assert set(tree["service"].get("extensions", ())) <= tree.get("extensions", {}).keys()


def test_a_durable_queue_and_a_token_are_valid_where_their_extensions_are_on() -> None:
    made = load(
        [
            "yaml:" + MINIMAL,
            """yaml:
extensions: {file_storage/a: {directory: /tmp/x}, bearertokenauth: {token: secret}}
exporters: {otlp_grpc: {auth: {authenticator: bearertokenauth}, sending_queue: {storage: file_storage/a}}}
service: {extensions: [file_storage/a, bearertokenauth]}
""",
        ],
        environ={},
    )
    assert made.exporters["otlp_grpc"].sending_queue.limited is False
    shown = config.dump(made)
    assert "secret" not in shown
    assert "secret" in config.dump(made, redact=False)


def test_what_the_sizes_of_a_batch_count() -> None:
    def sizer(text: str) -> str:
        made = load(["yaml:" + MINIMAL, f"yaml:exporters: {{otlp_grpc: {{sending_queue: {text}}}}}"], environ={})
        return str(made.exporters["otlp_grpc"].sending_queue.batch_sizer)

    assert sizer("{batch: {}}") == "items"
    assert sizer("{sizer: bytes, batch: {}}") == "bytes"
    assert sizer("{sizer: requests, batch: {}}") == "items"
    assert sizer("{sizer: bytes, batch: {sizer: items}}") == "items"
