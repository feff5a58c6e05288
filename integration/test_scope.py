"""What is seen: with scope netns Weir's own network namespace and no other, with scope host all of them."""

from integration.harness.stage import Stage
from integration.harness.truth import missing_or_twice, wrong_fields


def test_netns_sees_its_own_namespace_only(stage: Stage) -> None:
    here, there = stage.pair()
    collector = stage.collector(here)
    weir = stage.weir(here, collector)
    server = stage.serve(here, "::")
    elsewhere = stage.serve(there, "::")
    stage.dial(there, "fd99::1", server.port, 20, 10_000).ends()
    stage.dial(here, "fd99::2", elsewhere.port, 20, 11_000, threads=2)
    wanted = server.ends(20)
    outgoing = elsewhere.ends(20)  # their other ends are clients in here
    hidden = stage.talk(there, 20, 12_000)
    wanted += stage.talk(here, 10, 13_000)
    collector.wait_for_events(20 + 20 + 20)
    ledger = weir.stop()["logs"]
    collector.stop()

    found = collector.events()
    ours = [event for event in found if elsewhere.port not in event.ports]
    assert missing_or_twice(wanted, ours) == ""
    assert wrong_fields(wanted, ours) == []
    clients = [event for event in found if elsewhere.port in event.ports]
    assert {event["weir.flow.role"] for event in clients} == {"client"}
    assert {event["client.port"] for event in clients} == {end.peer[1] for end in outgoing}
    assert len(found) == 60
    assert not {event["process.pid"] for event in found} & {end.pid for end in hidden}
    assert ledger["observed"] == 60 + ledger["filtered"].get("self", 0), "what is out of scope leaves no trace"


def test_host_sees_both_ends_of_a_connection_between_namespaces(stage: Stage) -> None:
    watcher = stage.namespace()
    collector = stage.collector(watcher)
    here, there = stage.pair()
    weir = stage.weir(watcher, collector, {"scope": "host"})
    server = stage.serve(here, "10.99.0.1")
    wanted = stage.dial(there, "10.99.0.1", server.port, 20, 10_000).ends() + server.ends(20)
    found = collector.wait_for_events(40, lambda event: server.port in event.ports)
    weir.stop()
    assert missing_or_twice(wanted, found) == ""
    assert wrong_fields(wanted, found) == []
    flows: dict[str, set[str]] = {}
    for event in found:
        flows.setdefault(event["weir.flow.id"], set()).add(event["weir.flow.instance.id"])
    assert len(flows) == 20
    assert all(len(instances) == 2 for instances in flows.values())
