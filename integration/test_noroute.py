"""Connects that fail before a socket changes its state: each reported once, with its errno and owner; a detour is no failure."""

from collections import Counter

from integration.harness.processes import script
from integration.harness.stage import Stage
from integration.harness.truth import ends, event_key, missing_or_twice, owner_of

# Address -> the error, by the route that is (not) there.
ERRORS = {
    "10.1.2.3": "ENETUNREACH",
    "2001:db8::1": "ENETUNREACH",
    "::ffff:10.1.2.4": "ENETUNREACH",
    "10.9.0.1": "EHOSTUNREACH",
    "10.10.0.1": "EACCES",
    "10.11.0.1": "EINVAL",
    "2001:db8:9::1": "EHOSTUNREACH",
    "2001:db8:a::1": "EACCES",
}
COUNT = 5


def test_a_connect_without_a_route_is_a_failed_flow(stage: Stage) -> None:
    space = stage.namespace()
    for kind, four, six in (
        ("unreachable", "10.9.0.0/16", "2001:db8:9::/48"), ("prohibit", "10.10.0.0/16", "2001:db8:a::/48"),
        ("blackhole", "10.11.0.0/16", ""),
    ):  # fmt: skip
        space.run("ip", "route", "add", kind, four)
        if six:
            space.run("ip", "-6", "route", "add", kind, six)
    # A table that is asked first and knows nothing of the addresses that have a route.
    space.run("ip", "route", "add", "198.51.100.0/24", "dev", "lo", "table", "50")
    space.run("ip", "rule", "add", "pref", "5", "lookup", "50")
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    program = stage.run(space, script("noroute.py", 7000, COUNT, *ERRORS))
    facts = program.wait_for_facts(2 * COUNT * len(ERRORS))
    detour = stage.talk(space, 20, 10_000)
    wanted = ends(facts) + detour
    found = collector.wait_for_events(len(wanted))
    weir.stop()
    collector.stop()
    assert missing_or_twice(wanted, found) == ""
    failed = [event for event in found if event["error.type"]]
    assert len(failed) == len(facts)
    for event in failed:
        assert event["weir.flow.end_reason"] == "failed"
        address = event["network.peer.address"]
        assert event["error.type"] == ERRORS.get(address) or ERRORS[f"::ffff:{address}"], event
        owner = owner_of(ends(facts[:1])[0])
        assert {name: event[name] for name in owner} == owner
    assert set(Counter(event_key(event) for event in failed).values()) == {2}  # blocking and not
