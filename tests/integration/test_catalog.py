"""What the catalog says of tables, on real servers of several versions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.nasty import NASTY, nasty_move
from psycopg import sql
from support import server_of

from daybreak.lab.pair import OWNER, Pair
from daybreak.model import Side, TableName
from daybreak.postgres import catalog
from daybreak.postgres.catalog import Table
from daybreak.postgres.server import Connection

ALL = ("*.*",)


@pytest.fixture
def source(pair: Pair) -> Iterator[Connection]:
    nasty_move(pair, rows=False)
    with server_of(pair, Side.SOURCE).session("test") as connection:
        yield connection


def names(tables: tuple[Table, ...]) -> set[str]:
    return {table.name.name for table in tables}


def one(connection: Connection, name: str) -> Table:
    return next(table for table in catalog.user_tables(connection, ALL, ()) if table.name.name == name)


def test_leaf_tables_of_users_are_listed_with_what_copy_needs(source: Connection) -> None:
    source.execute("SET ROLE payments_owner")
    source.execute("INSERT INTO app.account (email) SELECT repeat(g::text, 100) FROM generate_series(1, 300) g")
    source.execute("ANALYZE app.account")
    tables = catalog.user_tables(source, ALL, ())
    assert {"account", "zero", "part_2024", "part_rest_0", "child", "booking"} <= names(tables)
    assert not {"part", "part_rest", "unlogged", "moods", "rich", "control", "pg_class"} & names(tables)
    account, leaf, zero = (one(source, name) for name in ("account", "part_rest_0", "zero"))
    assert "double_amount" not in account.columns
    assert account.columns[:2] == ("id", "mood")
    assert account.bytes > 50_000
    assert account.estimated_rows == 300
    assert (leaf.is_partition, leaf.root) == (True, TableName("app", "part"))
    assert (account.is_partition, account.root) == (False, None)
    assert (zero.columns, zero.binary_safe) == ((), True)


def test_identity_is_what_updates_are_replicated_by(source: Connection) -> None:
    source.execute("SET ROLE payments_owner")
    source.execute("CREATE TABLE app.deferred (id integer PRIMARY KEY DEFERRABLE)")
    source.execute("CREATE TABLE app.whole (id integer)")
    source.execute("ALTER TABLE app.whole REPLICA IDENTITY FULL")
    source.execute("CREATE TABLE app.nothing_at_all (id integer PRIMARY KEY)")
    source.execute("ALTER TABLE app.nothing_at_all REPLICA IDENTITY NOTHING")
    having = {table.name.name for table in catalog.user_tables(source, ALL, ()) if table.has_identity}
    assert {"account", "no_key", "whole", "part_2024"} <= having
    assert not {"deferred", "nothing_at_all", "zero", "child"} & having


_BINARY = (
    "integer",
    "text",
    "numeric(4, 1)[]",
    "int8range",
    "int8multirange",
    "app.mood",
    "app.positive",
    "oid",
    "jsonb",
)
_TEXT = ("app.mood[]", "app.positive[]", "app.pair", "app.span", "regclass", "regtype[]", "aclitem", "pg_class")


def test_binary_only_where_it_means_the_same_elsewhere(source: Connection) -> None:
    source.execute("SET ROLE payments_owner")
    source.execute("CREATE DOMAIN app.mood_domain AS app.mood")
    source.execute("CREATE DOMAIN app.moods_domain AS app.mood[]")
    types = {**dict.fromkeys((*_BINARY, "app.mood_domain"), True), **dict.fromkeys((*_TEXT, "app.moods_domain"), False)}
    for number, type_ in enumerate(types):
        source.execute(
            sql.SQL("CREATE TABLE app.typed_{} (a integer, b {})").format(sql.SQL(str(number)), sql.SQL(type_))
        )
    tables = {table.name.name: table for table in catalog.user_tables(source, ALL, ())}
    found = {type_: tables[f"typed_{number}"].binary_safe for number, type_ in enumerate(types)}
    assert found == types


def test_a_partition_follows_itself_or_its_root_and_exclude_wins(source: Connection) -> None:
    parts = {"part_2024", "part_rest_0", "part_rest_1"}
    assert names(catalog.user_tables(source, ("app.part",), ())) == parts
    assert names(catalog.user_tables(source, ("app.part_2*",), ())) == {"part_2024"}
    assert not parts & names(catalog.user_tables(source, ALL, ("app.part",)))
    assert names(catalog.user_tables(source, ("app.part*",), ("*.part_rest_0",))) == parts - {"part_rest_0"}
    assert catalog.user_tables(source, (), ()) == ()
    assert names(catalog.user_tables(source, ('Sch"ema*.*',), ())) == {"ta\"ble\n'x' %s $1 \\"}


def test_the_guard_needs_partitioned_parents_too(source: Connection) -> None:
    guardable = set(catalog.guardable_tables(source, ALL, ()))
    assert {table.name for table in catalog.user_tables(source, ALL, ())} < guardable
    assert guardable >= {TableName("app", "part"), TableName("app", "part_rest")}


def test_excluded_relations_are_the_rest(source: Connection) -> None:
    assert catalog.excluded_relations(source, ALL, ()) == ()
    excluded = catalog.excluded_relations(source, ALL, ("app.entry",))
    assert excluded == (one(source, "entry").oid,)


def test_members_of_extensions_are_nobodys(pair: Pair) -> None:
    with pair.connect(Side.SOURCE) as superuser:
        superuser.execute("CREATE EXTENSION pg_trgm")
        superuser.execute("CREATE TABLE mine (id integer PRIMARY KEY)")
        superuser.execute("CREATE TABLE theirs (id integer PRIMARY KEY)")
        superuser.execute("ALTER EXTENSION pg_trgm ADD TABLE theirs")
        assert names(catalog.user_tables(superuser, ALL, ())) == {"mine"}


_CHANGES = [
    "ALTER TABLE app.account ADD COLUMN more integer",
    "ALTER TABLE app.account ALTER COLUMN email TYPE varchar(10)",
    "ALTER TABLE app.account ALTER COLUMN day SET NOT NULL",
    "ALTER TABLE app.account ALTER COLUMN id DROP IDENTITY",
    "ALTER TABLE app.account RENAME COLUMN day TO days",
    "ALTER TABLE app.account RENAME TO accounts",
    "ALTER TABLE app.account REPLICA IDENTITY FULL",
    "ALTER TABLE app.entry DROP CONSTRAINT entry_pkey CASCADE",
    "ALTER TABLE app.part DETACH PARTITION app.part_2024",
    "CREATE TABLE app.part_2025 PARTITION OF app.part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE TABLE app.another (id integer PRIMARY KEY)",
    "DROP TABLE app.zero",
    "ALTER TYPE app.mood ADD VALUE 'new'",
]


def test_any_change_that_replication_depends_on_changes_the_fingerprint(source: Connection) -> None:
    source.execute("SET ROLE payments_owner")
    source.execute("DELETE FROM app.part")
    before = catalog.fingerprint(source, ALL, ())
    for change in _CHANGES:
        with source.transaction(force_rollback=True):
            source.execute(sql.SQL(change))
            assert catalog.fingerprint(source, ALL, ()) != before, change
    assert catalog.fingerprint(source, ALL, ()) == before


def test_what_replication_does_not_depend_on_does_not(source: Connection) -> None:
    source.execute("SET ROLE payments_owner")
    before = catalog.fingerprint(source, ALL, ("app.zero",))
    for change in (
        "CREATE INDEX ON app.entry (amount)",
        "TRUNCATE app.booking",
        "ALTER TABLE app.zero ADD COLUMN a integer",
        "CREATE VIEW app.more AS SELECT 1 AS one",
    ):
        source.execute(sql.SQL(change))
    assert catalog.fingerprint(source, ALL, ("app.zero",)) == before


@pytest.mark.parametrize("versions", [(17, 18), (15, 17)], indirect=True)
def test_the_fingerprint_is_the_same_on_servers_of_other_versions_and_settings(pair: Pair) -> None:
    prints = []
    for side in Side:
        with pair.connect(side, OWNER) as owner:
            # Other oids and another style of dates on the target.
            if side is Side.TARGET:
                owner.execute("CREATE TABLE gone ()")
                owner.execute("DROP TABLE gone")
                style = sql.SQL("ALTER DATABASE {} SET datestyle = 'SQL, DMY'").format(sql.Identifier(pair.database))
                owner.execute(style)
            owner.execute(NASTY.read_bytes())
        with server_of(pair, side).session("test") as connection:
            prints.append(catalog.fingerprint(connection, ALL, ()))
    assert prints[0] == prints[1]
