"""Which index is built next, what it is thought to cost and how much memory it gets."""

from __future__ import annotations

import threading
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from daybreak.postgres.dump import Entry
from daybreak.postgres.indexes import Build, Queue, index_cost, maintenance_memory_kb


def build(number: int, table: int, cost: float = 1.0, exclusive: bool = False, needs: tuple[int, ...] = ()) -> Build:
    kind = "CONSTRAINT" if exclusive else "INDEX"
    return Build(Entry(number, 1259, number, kind, "s", f"i{number}", needs, f"-- {number}"), table, exclusive, 0, cost)


def test_the_dearest_comes_first() -> None:
    queue = Queue([build(1, 1, cost=1), build(2, 2, cost=3), build(3, 3, cost=2)])
    assert [taken.entry.dump_id for taken in (queue.take(), queue.take(), queue.take()) if taken] == [2, 3, 1]


def test_indexes_of_one_table_go_together_and_a_constraint_goes_alone() -> None:
    queue = Queue([build(1, 1, cost=9), build(2, 1, cost=8, exclusive=True), build(3, 1, cost=7), build(4, 2, cost=1)])
    first, second, third = queue.take(), queue.take(), queue.take()
    assert [one.entry.dump_id for one in (first, second, third) if one] == [1, 3, 4]
    for one in (first, second):
        assert one is not None
        queue.give_back(one)
    last = queue.take()
    assert last is not None
    assert last.entry.dump_id == 2


def test_a_build_waits_for_what_it_needs() -> None:
    queue = Queue([build(1, 1, cost=9, needs=(2,)), build(2, 2, cost=1)])
    first = queue.take()
    assert first is not None
    assert first.entry.dump_id == 2
    queue.give_back(first)
    second = queue.take()
    assert second is not None
    assert second.entry.dump_id == 1


def test_closing_wakes_those_who_wait() -> None:
    queue = Queue([build(1, 1, exclusive=True), build(2, 1, exclusive=True)])
    assert queue.take() is not None
    answers: list[Build | None] = []
    waiter = threading.Thread(target=lambda: answers.append(queue.take()))
    waiter.start()
    queue.close()
    waiter.join(10)
    assert answers == [None]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.floats(0, 100), st.integers(0, 12)), max_size=12),
    st.randoms(use_true_random=False),
    st.integers(1, 4),
)
def test_in_any_order_nobody_waits_in_vain_and_all_is_built(
    rows: list[tuple[int, bool, float, int]], random: Random, workers: int
) -> None:
    builds = [
        build(number, table, cost, exclusive, (need,) if need < number else ())
        for number, (table, exclusive, cost, need) in enumerate(rows, 1)
    ]
    queue = Queue(builds)
    running: list[Build] = []
    finished: list[Build] = []
    while len(finished) < len(builds):
        while len(running) < workers and any(queue._may_run(one) for one in queue._waiting):
            taken = queue.take()
            assert taken is not None
            beside = [other for other in running if other.table == taken.table]
            assert not any(other.exclusive or taken.exclusive for other in beside)
            assert not set(taken.entry.needs) & {other.entry.dump_id for other in builds if other not in finished}
            running.append(taken)
        assert running
        done = running.pop(random.randrange(len(running)))
        queue.give_back(done)
        finished.append(done)
    assert queue.left == 0
    assert queue.take() is None


def test_kinds_of_indexes_cost_differently() -> None:
    numbers = index_cost(1e6, "btree", 0, False)
    text = index_cost(1e6, "btree", 1, False)
    few = index_cost(1e6, "btree", 1, True)
    assert index_cost(1e6, "brin", 0, False) < numbers < text < few
    assert index_cost(1e6, "gin", 0, False) > numbers
    assert index_cost(1e6, "a method of an extension", 0, False) > numbers


def test_memory_is_shared_and_never_less_than_the_servers_own() -> None:
    gigabyte_kb = 1 << 20
    assert maintenance_memory_kb(128 << 10, 64 << 10, 4) == 64 << 10
    assert maintenance_memory_kb(8 * gigabyte_kb, 64 << 10, 8) == gigabyte_kb // 2
    assert maintenance_memory_kb(100 * gigabyte_kb, 64 << 10, 2) == gigabyte_kb
