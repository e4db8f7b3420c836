"""What every ``StateStore`` promises, held against the in-memory one, SQLite and DynamoDB."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from aws_tables import fresh_table
from simulation import NAME, Simulation

from daybreak.errors import StateConflict
from daybreak.memory import MemoryStateStore
from daybreak.model import Intent, JournalEntry, MigrationRecord, Phase, Side, Step, Verb
from daybreak.ports import StateStore
from daybreak.store.codec import encode
from daybreak.store.dynamodb import DynamoStateStore
from daybreak.store.sqlite import SqliteStateStore
from daybreak.switchover.adopt import rebuild_record

_AT = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
_RECORD = MigrationRecord("shop", owner="ana@host:1", generation=3)


@pytest.fixture(params=["memory", "sqlite", "dynamodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    if request.param == "memory":
        yield MemoryStateStore()
    elif request.param == "sqlite":
        yield SqliteStateStore.from_url(f"sqlite:///{tmp_path}/state/shop.db")
    else:
        with fresh_table(request.getfixturevalue("emulated_account")) as (client, table):
            yield DynamoStateStore(client, table)


def _swap(store: StateStore, record: MigrationRecord, expected_version: int, event: str = "moved") -> MigrationRecord:
    return store.compare_and_swap(record, expected_version, event, Step.LOAD, _AT, "why")


def test_nothing_is_there_at_first(store: StateStore) -> None:
    assert store.load("shop") is None
    assert store.journal("shop") == ()


def test_a_new_record_gets_version_1(store: StateStore) -> None:
    stored = _swap(store, _RECORD, 0)
    assert stored == replace(_RECORD, version=1)
    assert store.load("shop") == stored


def test_a_record_comes_back_whole(store: StateStore) -> None:
    intent = Intent(Verb.SHIFT, _AT + timedelta(seconds=1), percent=40)
    full = replace(_RECORD, phase=Phase.STREAMING, primary=Side.TARGET, intent=intent, last_error="ünïcode\n'\"")
    _swap(store, full, 0)
    assert store.load("shop") == replace(full, version=1)


def test_the_version_in_the_record_is_not_believed(store: StateStore) -> None:
    assert _swap(store, replace(_RECORD, version=77), 0).version == 1


@pytest.mark.parametrize("expected_version", [0, 2])
def test_a_conflict_writes_nothing(store: StateStore, expected_version: int) -> None:
    stored = _swap(store, _RECORD, 0)
    with pytest.raises(StateConflict, match="version 1, not"):
        _swap(store, replace(_RECORD, phase=Phase.FINISHED), expected_version)
    assert store.load("shop") == stored
    assert len(store.journal("shop")) == 1


def test_a_change_of_nothing_is_a_conflict(store: StateStore) -> None:
    with pytest.raises(StateConflict):
        _swap(store, _RECORD, 1)
    assert store.load("shop") is None
    assert store.journal("shop") == ()


def test_the_journal_is_in_order(store: StateStore) -> None:
    stored = store.compare_and_swap(_RECORD, 0, "created", None, _AT, "")
    stored = store.compare_and_swap(replace(stored, generation=4), 1, "begun", Step.ARM, _AT - timedelta(days=1), "x")
    assert store.journal("shop") == (
        JournalEntry(_AT, 1, 3, _RECORD.owner, "created"),
        JournalEntry(_AT - timedelta(days=1), 2, 4, _RECORD.owner, "begun", Step.ARM, "x"),
    )


def _put(store: StateStore, record: MigrationRecord | None) -> None:
    """Behind the store's back: the record is lost, or replaced with a copy."""
    if isinstance(store, MemoryStateStore):
        store._records = {} if record is None else {record.name: record}
    elif isinstance(store, SqliteStateStore):
        with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM record")
            if record is not None:
                row = (record.name, record.version, encode(record))
                connection.execute("INSERT INTO record (name, version, body) VALUES (?, ?, ?)", row)
    elif isinstance(store, DynamoStateStore):
        key: dict[str, Any] = {"migration": {"S": _RECORD.name}, "item": {"S": "record"}}
        store._client.delete_item(TableName=store._table, Key=key)
        if record is not None:
            body = {"version": {"N": str(record.version)}, "body": {"S": encode(record)}}
            store._client.put_item(TableName=store._table, Item={**key, **body})


def test_a_record_that_was_lost_is_made_again_after_the_journal(store: StateStore) -> None:
    for version in range(3):
        _swap(store, _RECORD, version, f"change {version + 1}")
    journal = store.journal("shop")
    _put(store, None)
    with pytest.raises(StateConflict):
        _swap(store, _RECORD, 3)
    rebuilt = _swap(store, replace(_RECORD, generation=9), 0, "adopted")
    assert rebuilt == store.load("shop") == replace(_RECORD, generation=9, version=4)
    assert store.journal("shop")[:-1] == journal
    assert _swap(store, rebuilt, 4, "moved").version == 5
    assert [entry.version for entry in store.journal("shop")] == [1, 2, 3, 4, 5]


def test_an_older_copy_that_was_put_back_goes_on_after_the_journal(store: StateStore) -> None:
    copy = _swap(store, _RECORD, 0)
    for version in range(1, 4):
        _swap(store, _RECORD, version)
    _put(store, copy)
    with pytest.raises(StateConflict):  # whoever still had the newest
        _swap(store, _RECORD, 4)
    assert store.load("shop") == copy
    assert _swap(store, copy, 1, "put back").version == 5
    with pytest.raises(StateConflict):
        _swap(store, copy, 1)
    assert [entry.event for entry in store.journal("shop")] == ["moved"] * 4 + ["put back"]


def test_a_record_that_was_lost_after_a_cutover_is_adopted_and_led_on(store: StateStore) -> None:
    simulation = Simulation(store=cast(Any, store)).through(Verb.START, Verb.VERIFY, Verb.CUTOVER)
    last = store.journal(NAME)[-1].version
    _put(store, None)
    controller, process = simulation.controller()
    adopted = controller.adopt(partial(rebuild_record, NAME))
    process.close()
    assert (adopted.primary, adopted.phase, adopted.version) == (Side.TARGET, Phase.STREAMING, last + 1)
    assert simulation.through(Verb.VERIFY).run(Verb.ROLLBACK).primary is Side.SOURCE
    simulation.assert_in_step()


def test_migrations_do_not_meet(store: StateStore) -> None:
    _swap(store, _RECORD, 0, "one")
    other = _swap(store, replace(_RECORD, name="books"), 0, "two")
    assert store.load("books") == other
    assert [entry.event for entry in store.journal("shop")] == ["one"]
    assert store.load("b_oks") is None


def test_of_many_racers_one_wins_every_version(store: StateStore) -> None:
    def race(number: int) -> int:
        won = 0
        for version in range(10):
            try:
                _swap(store, replace(_RECORD, owner=f"racer {number}"), version)
                won += 1
            except StateConflict:
                pass
        return won

    with ThreadPoolExecutor(4) as pool:
        wins = sum(pool.map(race, range(4)))
    entries = store.journal("shop")
    assert wins == len(entries)
    assert [entry.version for entry in entries] == list(range(1, wins + 1))
    record = store.load("shop")
    assert record is not None
    assert (record.version, record.owner) == (wins, entries[-1].owner)
