"""Every connection becomes one event at each end, with the right addresses, sizes, owner, role and flow id."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from integration.harness.otlp import Event
from integration.harness.stage import Stage
from integration.harness.truth import missing_or_twice, wrong_fields

# Where a server listens -> what is dialled, and how often.
FAMILIES = {"127.0.0.1": ("127.0.0.1", 334), "::1": ("::1", 333), "::": ("::ffff:127.0.0.1", 333)}


def test_a_thousand_connections_over_v4_v6_and_mapped(stage: Stage) -> None:
    began = datetime.now(UTC)
    space = stage.namespace()
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    servers = {address: stage.serve(space, address) for address in FAMILIES}
    clients = [
        stage.dial(space, dialled, servers[address].port, count, 10_000 + 1000 * number)
        for number, (address, (dialled, count)) in enumerate(FAMILIES.items())
    ]
    wanted = [end for client in clients for end in client.ends()]
    assert len(wanted) == 1000
    wanted += [end for address, (_, count) in FAMILIES.items() for end in servers[address].ends(count)]
    assert len(wanted) == 2000

    collector.wait_for_events(2000)
    ledger = weir.stop()["logs"]
    collector.stop()
    found = collector.events()

    assert {event.name for event in found} == {"weir.flow.end"}
    assert missing_or_twice(wanted, found) == ""
    wrong = wrong_fields(wanted, found)
    assert not wrong, f"{len(wrong)} wrong: {wrong[:10]}"
    _the_rest_is_plausible(found, began)
    assert set(Counter(event["weir.flow.id"] for event in found).values()) == {2}
    for flow in _by_flow(found):
        assert {event["weir.flow.role"] for event in flow} == {"client", "server"}

    assert ledger["exported"] == 2000
    assert ledger["observed"] == 2000 + ledger["filtered"].get("self", 0)
    assert not any(ledger["dropped"].values())


def _by_flow(found: list[Event]) -> list[list[Event]]:
    flows: dict[str, list[Event]] = {}
    for event in found:
        flows.setdefault(event["weir.flow.id"], []).append(event)
    return list(flows.values())


def _the_rest_is_plausible(found: list[Event], began: datetime) -> None:
    """What only the kernel knows, within what can be known outside of it."""
    instances = [event["weir.flow.instance.id"] for event in found]
    assert len(set(instances)) == len(found)
    assert all(len(instance) == 16 and int(instance, 16) for instance in instances)
    ended = datetime.now(UTC)
    for event in found:
        assert event.scope == "weir.l4"
        time = datetime.fromtimestamp(event.time / 1e9, UTC)
        assert began < time < ended, event
        assert 0 <= event.observed - event.time < 5e9, event
        assert event["network.connection.state"] == "closed", event
        assert 0 < event["weir.flow.duration"] < 20, event
        assert ("weir.flow.connect.duration" in event.attributes) == (event["weir.flow.role"] == "client"), event
        assert 0 <= event.attributes.get("weir.flow.connect.duration", 0) <= event["weir.flow.duration"], event
        assert 0 < event["weir.flow.rtt"] < 5, event
        assert event["weir.flow.retransmits"] >= 0, event
        for way in ("transmit", "receive"):
            size, packets = event[f"weir.flow.{way}.size"], event[f"weir.flow.{way}.packets"]
            assert (size == 0) == (packets == 0), event
        assert "error.type" not in event.attributes, event
        assert event["telemetry.distro.name"] == "weir", event
        assert event["service.name"], event
        created = datetime.fromisoformat(event["process.creation.time"])
        assert began - timedelta(seconds=1) < created < time, event
