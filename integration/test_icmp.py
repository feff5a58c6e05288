"""Connects that a host or a firewall turns away by ICMP, or by an RST: failed flows with the errno that the program gets."""

import pytest

from integration.harness.processes import script
from integration.harness.stage import Stage
from integration.harness.truth import ends, event_key, missing_or_twice, wrong_fields

# Port -> how packets to it are turned away.
REJECTS = {
    701: "icmpx type port-unreachable", 702: "icmpx type host-unreachable", 703: "icmpx type admin-prohibited",
    704: "icmpx type no-route", 705: "tcp reset",
}  # fmt: skip


@pytest.mark.parametrize(
    ("address", "own"), [("127.0.0.1",) * 2, ("::1",) * 2, ("10.99.0.1", "10.99.0.2"), ("fd99::1", "fd99::2")]
)
def test_a_rejected_connect_fails_with_its_errno(stage: Stage, address: str, own: str) -> None:
    if own != address:
        here, space = stage.pair()
    else:
        here = space = stage.namespace()
    rules = "".join(f"add rule inet weir input tcp dport {port} reject with {how}; " for port, how in REJECTS.items())
    chain = "add table inet weir; add chain inet weir input { type filter hook input priority 0; };"
    here.run("nft", f"{chain} {rules}")
    collector = stage.collector(space)
    weir = stage.weir(space, collector)
    count = len(REJECTS) * (3 if own == address else 2)
    facts = stage.run(space, script("rejected.py", own, address, *REJECTS)).wait_for_facts(count, seconds=60)
    wanted = ends(facts)
    found = collector.wait_for_events(len(wanted))
    weir.stop()
    collector.stop()
    assert missing_or_twice(wanted, found) == ""
    assert wrong_fields(wanted, found, reason="failed") == []
    errors = {end.key: fact["error"] for end, fact in zip(wanted, facts, strict=True)}
    assert {event_key(event): event["error.type"] for event in found} == errors
