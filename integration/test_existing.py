"""Connections that are older than Weir: who has them, which side they are, all their bytes, and each reported once."""

import time
from itertools import pairwise
from pathlib import Path

import pytest

from integration.harness.processes import script
from integration.harness.stage import Stage
from integration.harness.truth import ends, event_key, missing_or_twice, wrong_fields

COUNT, MANY = 10, 3000
HOW = ("idle", "busy", "half", "pending", "reset")


@pytest.mark.parametrize(
    ("how", "address", "scope"),
    [
        *((how, address, "netns") for how in HOW for address in ("127.0.0.1", "::1")),
        *((how, "127.0.0.1", "host") for how in HOW),
    ],
)
def test_connections_that_are_older_than_weir(stage: Stage, how: str, address: str, scope: str) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    holder = stage.run(space, script("hold.py", address, how, COUNT))
    holder.wait_for_facts(1)
    weir = stage.weir(space, collector, {"scope": scope})
    holder.tell("go on")
    wanted = ends(holder.wait_for_facts(1 + 2 * COUNT))
    port = wanted[0].client_first[1][1]  # in host scope other namespaces' events come too
    found = collector.wait_for_events(2 * COUNT, lambda event: port in event.ports)
    weir.stop()
    collector.stop()
    assert missing_or_twice(wanted, found) == ""
    clients, servers = ([end for end in wanted if end.role == role] for role in ("client", "server"))
    assert wrong_fields(clients, found, reason="reset" if how == "reset" else "closed") == []
    assert wrong_fields(servers, found, reason="reset" if how == "reset" else "closed") == []
    assert all(event["weir.flow.duration"] is None for event in found)  # their beginning was not seen


def test_what_opens_and_closes_while_the_listing_runs_is_reported_once(stage: Stage, connload: Path) -> None:
    space = stage.namespace()
    collector = stage.collector(space)
    holder = stage.run(space, script("hold.py", "127.0.0.1", "idle", MANY))  # so that there is much to list
    holder.wait_for_facts(1)
    stage.listen(space, connload, 7000)
    churn = stage.run(space, [str(connload), "conn", "127.0.0.1", "7000", "3000", "4", "10"])
    time.sleep(0.5)  # not for a condition: so that it is under way
    weir = stage.weir(space, collector)
    (paced,) = churn.done(60)
    assert paced["failed"] == 0
    holder.tell("go on")
    held = ends(holder.wait_for_facts(1 + 2 * MANY, 60))
    port = held[0].client_first[1][1]
    old = collector.wait_for_events(2 * MANY, lambda event: port in event.ports, seconds=60)
    weir.stop()
    collector.stop()
    assert missing_or_twice(held, old) == ""
    times: dict[object, list[int]] = {}
    for event in collector.events():
        if 7000 in event.ports:
            times.setdefault(event_key(event), []).append(event.time)
    assert sum(map(len, times.values())) > 1000  # it was under way for long enough
    apart = [later - sooner for found in times.values() for sooner, later in pairwise(sorted(found))]
    assert min(apart, default=10**9) > 10**8  # ns: ports are used again, but not so soon
