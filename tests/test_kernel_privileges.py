"""Wall 4: capabilities are let go of, for good. Tried in a thread of its own, because they belong to threads."""

import threading
from collections.abc import Callable

from receiver.kernel.privileges import drop, held


def in_thread(action: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def no_new_privs() -> bool:
    with open("/proc/thread-self/status") as file:
        return "NoNewPrivs:\t1" in file.read()


def test_what_is_kept_is_what_was_held_and_named() -> None:
    before = held()

    def act() -> None:
        keep = {"CAP_BPF", "CAP_PERFMON"}
        assert drop(keep) == held() == before & keep
        assert no_new_privs()
        assert drop({"CAP_SYS_ADMIN"}) == frozenset()

    in_thread(act)
    assert held() == before
