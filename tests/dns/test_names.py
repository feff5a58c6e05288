"""The name that a connection was made by: the last one given before it began, to this owner, while it lived."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.dns.lookups import UDP, Conversation, Lookup, Lookups, Role
from receiver.dns.message import parse
from receiver.dns.names import CEILING_S, MAX_SHARED, Names
from tests.dns.wire import ANSWER, ASKED, CNAME, A, answer, mapped, name, query, record, v4

S = 1_000_000_000
ADDRESS = mapped("192.0.2.1")


def counted(names: Names) -> dict[str, int]:
    return {key: count for key, count in asdict(names.counters).items() if count}


def looked_up(
    *addresses: str, asked: str = "www.test", role: Role = "client", rcode: int = 0, ttl: int = 30
) -> Lookup[str]:
    table = Lookups[str]()
    conversation = Conversation(1, mapped("10.0.0.53"), 53, UDP, role)
    table.add(parse(query(asked)), conversation, "app", 4 * S)
    alias = record(ASKED, CNAME, name("edge.test"), ttl=300)
    records = [record(name("edge.test"), A, v4(address), ttl=ttl) for address in addresses]
    flags = ANSWER
    lookup = table.add(parse(answer(asked, alias, *records, rcode=rcode, flags=flags)), conversation, "app", 5 * S)
    assert lookup is not None
    return lookup


def test_an_address_carries_the_name_that_was_asked_for() -> None:
    names = Names()
    names.learn(1, looked_up("192.0.2.1", "192.0.2.2"))
    assert names.lookup(1, mapped("192.0.2.1"), 6 * S) == "www.test"
    assert names.lookup(1, mapped("192.0.2.2"), 35 * S) == "www.test"
    assert names.lookup(1, mapped("192.0.2.3"), 6 * S) == ""
    assert counted(names) == {"given": 2}


@pytest.mark.parametrize("how", [{"role": "server"}, {"rcode": 2}], ids=["an answer it gave", "a failure"])
def test_what_tells_the_workload_no_address_teaches_nothing(how: dict[str, object]) -> None:
    names = Names()
    names.learn(1, looked_up("192.0.2.1", **how))
    assert len(names) == 0


def test_what_another_owner_was_told_is_not_known() -> None:
    names = Names()
    names.give(1, ADDRESS, "one.test", 60, 0)
    assert names.lookup(2, ADDRESS, 1) == ""


def test_a_name_lives_as_long_as_its_ttl() -> None:
    names = Names()
    names.give(1, ADDRESS, "a.test", 30, 100 * S)
    whens = [100 * S - 1, 100 * S, 130 * S, 130 * S + 1]
    assert [names.lookup(1, ADDRESS, when) for when in whens] == ["", "a.test", "a.test", ""]


@pytest.mark.parametrize(("ttl", "life"), [(0, 1), (1, 1), (-5, 1), (CEILING_S + 1, CEILING_S), (2**31, CEILING_S)])
def test_a_life_has_a_floor_and_a_ceiling(ttl: int, life: int) -> None:
    names = Names()
    names.give(1, ADDRESS, "a.test", ttl, 0)
    assert [names.lookup(1, ADDRESS, when) for when in (life * S, life * S + 1)] == ["a.test", ""]


def test_the_floor_may_be_another() -> None:
    names = Names(floor=10)
    names.give(1, ADDRESS, "a.test", 2, 0)
    assert names.lookup(1, ADDRESS, 10 * S) == "a.test"


def test_of_several_names_the_last_before_the_connection_wins() -> None:
    names = Names()
    names.give(1, ADDRESS, "a.test", 100, 10 * S)
    names.give(1, ADDRESS, "b.test", 5, 20 * S)
    names.give(1, ADDRESS, "c.test", 100, 40 * S)
    whens = {9: "", 15: "a.test", 20: "b.test", 25: "b.test", 26: "a.test", 39: "a.test", 40: "c.test", 139: "c.test"}
    assert {when: names.lookup(1, ADDRESS, when * S) for when in whens} == whens


def test_a_name_told_again_lives_on() -> None:
    names = Names()
    names.give(1, ADDRESS, "a.test", 10, 0)
    names.give(1, ADDRESS, "a.test", 3, 5 * S)  # shorter: what was promised stays
    assert names.lookup(1, ADDRESS, 10 * S) == "a.test"
    names.give(1, ADDRESS, "a.test", 10, 9 * S)
    names.give(1, ADDRESS, "a.test", 10, 50 * S)  # another life: nothing in between
    whens = [0, 19, 20, 49, 50, 60, 61]
    assert [names.lookup(1, ADDRESS, when * S) for when in whens] == [
        "a.test",
        "a.test",
        "",
        "",
        "a.test",
        "a.test",
        "",
    ]


def test_a_name_that_comes_back_wins_again() -> None:
    names = Names()
    for second, told in enumerate(["a.test", "b.test", "a.test"]):
        names.give(1, ADDRESS, told, 60, second * S)
    assert [names.lookup(1, ADDRESS, second * S) for second in range(3)] == ["a.test", "b.test", "a.test"]


def test_names_that_come_out_of_order() -> None:
    names = Names()
    names.give(1, ADDRESS, "b.test", 60, 20 * S)
    names.give(1, ADDRESS, "a.test", 60, 10 * S)
    assert [names.lookup(1, ADDRESS, second * S) for second in (15, 25)] == ["a.test", "b.test"]


def test_the_names_of_an_address_are_bounded() -> None:
    names = Names()
    for second in range(MAX_SHARED + 2):
        names.give(1, ADDRESS, f"{second}.test", 60, second * S)
    assert counted(names) == {"given": MAX_SHARED + 2, "displaced": 2}
    assert [names.lookup(1, ADDRESS, second * S) for second in (1, 2, MAX_SHARED + 1)] == [
        "",
        "2.test",
        f"{MAX_SHARED + 1}.test",
    ]


def test_a_full_table_forgets_what_is_longest_without_use() -> None:
    names = Names(limit=3)
    addresses = [mapped(f"10.0.0.{i}") for i in range(5)]
    for address in addresses[:3]:
        names.give(1, address, "a.test", 60, 0)
    assert names.lookup(1, addresses[0], 1) == "a.test"  # a use
    names.give(1, addresses[1], "b.test", 60, 1)  # another
    names.give(1, addresses[3], "a.test", 60, 2)
    assert [names.lookup(1, address, 2) for address in addresses[:4]] == ["a.test", "b.test", "", "a.test"]
    assert (len(names), counted(names)) == (3, {"given": 5, "evicted": 1})


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"floor": -1}])
def test_bounds_must_be_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Names(**wrong)


GIVEN = st.tuples(st.integers(1, 2), st.sampled_from([ADDRESS, bytes(16)]), st.sampled_from("abc"), st.integers(0, 9))


@given(st.lists(st.tuples(GIVEN, st.integers(0, 4)), max_size=MAX_SHARED), st.lists(st.integers(0, 60), max_size=20))
def test_the_rule_holds(given_names: list[tuple[tuple[int, bytes, str, int], int]], whens: list[int]) -> None:
    names = Names()
    told: list[tuple[int, bytes, str, int, int]] = []
    now = 0
    for (owner, address, called, ttl), seconds in given_names:
        now += seconds
        names.give(owner, address, called, ttl, now * S)
        told.append((owner, address, called, now, now + max(ttl, 1)))
    for when in whens:
        for owner in (1, 2):
            alive = [t[2] for t in told if t[:2] == (owner, ADDRESS) and t[3] <= when <= t[4]]
            assert names.lookup(owner, ADDRESS, when * S) == (alive[-1] if alive else "")
