"""The comparison on two real servers of different versions: equal content is equal whatever its types,
and the smallest change is found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import conninfo, sql

from daybreak.errors import PermanentError
from daybreak.lab.pair import MIGRATION, OWNER, Pair
from daybreak.model import Progress, Side, TableName, Verification
from daybreak.postgres.server import Server
from daybreak.verify.compare import compare_snapshots
from daybreak.verify.digest import Table, digest_query, pin, read_digest, read_tables

AT = datetime(2026, 1, 1, tzinfo=UTC)
PAIRS = pytest.mark.parametrize("versions", [(17, 18), (15, 17)], indirect=True)

# Type, a value, and another that a lax comparison takes for the same.
TYPES = (
    ("smallint", "1", "2"),
    ("integer", "1", "-1"),
    ("bigint", "1", "4294967297"),
    ("numeric", "1.0", "1.00"),
    ("numeric", "NaN", "0"),
    ("numeric(30,10)", "1.5", "1.5000000001"),
    ("real", "0", "-0"),
    ("double precision", "0.1", "0.10000000000000002"),
    ("double precision", "NaN", "Infinity"),
    ("money", "12.34", "12.35"),
    ("text", "naïve", "naive"),
    ("text", "a", "a "),
    ("text", "", None),
    ('text COLLATE "C"', "a", "A"),
    ("varchar(10)", "ß", "ss"),
    ("char(5)", "a", "b"),
    ('"char"', "a", "b"),
    ("name", "a", "A"),
    ("bytea", r"\x00", r"\x0000"),
    ("boolean", "t", "f"),
    ("date", "2026-01-01", "infinity"),
    ("time", "24:00", "00:00"),
    ("timetz", "12:00+00", "13:00+01"),
    ("timestamp", "2026-01-01 00:00:00.000001", "2026-01-01"),
    ("timestamptz", "2026-01-01 00:00+00", "2026-01-01 00:00+01"),
    ("interval", "1 month", "30 days"),
    ("interval", "24:00:00", "1 day"),
    ("uuid", "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"),
    ("json", '{"a":1}', '{"a": 1}'),
    ("jsonb", '{"a":1.0}', '{"a":1.00}'),
    ("jsonb", "null", None),
    ("inet", "10.0.0.1/8", "10.0.0.1"),
    ("cidr", "10.0.0.0/8", "10.0.0.0/9"),
    ("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    ("macaddr8", "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"),
    ("bit(3)", "101", "100"),
    ("bit varying", "10", "100"),
    ("tsvector", "'a':1", "'a':2"),
    ("tsquery", "'a' & 'b'", "'a' | 'b'"),
    ("point", "(0,0)", "(-0,0)"),
    ("line", "{1,2,3}", "{1,2,4}"),
    ("lseg", "[(0,0),(1,1)]", "[(0,0),(1,2)]"),
    ("box", "(1,1),(0,0)", "(1,2),(0,0)"),
    ("path", "((0,0),(1,1))", "[(0,0),(1,1)]"),
    ("polygon", "((0,0),(1,1))", "((0,0),(1,2))"),
    ("circle", "<(0,0),1>", "<(0,0),1.0000000000000002>"),
    ("int4range", "[1,3)", "[1,4)"),
    ("numrange", "[1.0,2]", "[1.00,2]"),
    ("tstzrange", "[2026-01-01 00:00+00,)", "(2026-01-01 00:00+00,)"),
    ("int8multirange", "{[1,2),[4,5)}", "{[1,2)}"),
    ("pg_lsn", "16/B374D848", "16/B374D849"),
    ("pg_snapshot", "10:20:10,14,15", "10:20:10,14"),
    ("oid", "1", "4294967295"),
    ("regtype", "integer", "bigint"),
    ("xid8", "1", "2"),
    ("jsonpath", "$.a", "$.b"),
    ("int[]", "{1,2}", "{{1,2}}"),
    ("int[]", "{1,2}", "[2:3]={1,2}"),
    ("text[]", '{"a,b"}', "{a,b}"),
    ("text[]", "{NULL}", '{"NULL"}'),
    ("numeric[]", "{1.0}", "{1.00}"),
    ("shop.mood", "sad", "ok"),
    ("shop.mood[]", "{sad,ok}", "{ok,sad}"),
    ("shop.pair", "(1.0,sad)", "(1.00,sad)"),
    ("shop.pair[]", '{"(1,sad)"}', '{"(1,ok)"}'),
    ("shop.price", "1.0", "1.00"),
    ("shop.dear_price", "10.0", "10.00"),
    ("shop.label", "a", "b"),
    ("shop.mood_range", "[sad,ok]", "[sad,sad]"),
    ("shop.citext", "a", "A"),
    ("shop.hstore", "a=>1", "a=>NULL"),
)
SHOP = """
CREATE SCHEMA shop AUTHORIZATION payments_owner;
CREATE EXTENSION citext SCHEMA shop;
CREATE EXTENSION hstore SCHEMA shop;
SET ROLE payments_owner;
CREATE TYPE shop.mood AS ENUM ('sad', 'ok');
CREATE TYPE shop.pair AS (n numeric, m shop.mood);
CREATE DOMAIN shop.price AS numeric CHECK (VALUE > 0);
CREATE DOMAIN shop.dear_price AS shop.price CHECK (VALUE >= 10);
CREATE DOMAIN shop.label AS text;
CREATE TYPE shop.mood_range AS RANGE (subtype = shop.mood);
-- A cast of the user's own must not stand between a value and its hash.
CREATE FUNCTION shop.hide(shop.mood) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'hidden' $$;
CREATE CAST (shop.mood AS text) WITH FUNCTION shop.hide(shop.mood);
"""


def server(pair: Pair, side: Side) -> Server:
    parameters = {key: str(value) for key, value in conninfo.conninfo_to_dict(pair.dsn(side)).items()}
    return Server(side, "payments", parameters, {})


def both(pair: Pair, *statements: str) -> None:
    """Run ``statements`` as the owner on both sides."""
    for side in Side:
        on(pair, side, *statements)


def on(pair: Pair, side: Side, *statements: str) -> None:
    with pair.connect(side, OWNER) as owner:
        for statement in statements:
            owner.execute(statement.encode())


@contextmanager
def snapshots(pair: Pair) -> Iterator[dict[Side, str]]:
    """What every session that exports one does: a transaction that stays open."""
    sessions = {side: server(pair, side).connect("snapshot") for side in Side}
    names = {}
    for side, session in sessions.items():
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        names[side] = str(session.execute("SELECT pg_export_snapshot()").fetchone()[0])  # type: ignore[index]
    try:
        yield names
    finally:
        for session in sessions.values():
            session.close()


def compare(
    pair: Pair,
    *tables: str,
    names: dict[Side, str] | None = None,
    report: Callable[[Progress], None] = lambda _: None,
    jobs: int = 2,
    deadline_seconds: float = 60.0,
    cancelled: Callable[[], bool] = lambda: False,
) -> Verification:
    if names is None:
        with snapshots(pair) as taken:
            return compare(
                pair,
                *tables,
                names=taken,
                report=report,
                jobs=jobs,
                deadline_seconds=deadline_seconds,
                cancelled=cancelled,
            )
    return compare_snapshots(
        server(pair, Side.SOURCE),
        server(pair, Side.TARGET),
        names[Side.SOURCE],
        names[Side.TARGET],
        [TableName("public", table) for table in tables],
        jobs=jobs,
        generation=1,
        deadline_seconds=deadline_seconds,
        report=report,
        at=AT,
        cancelled=cancelled,
    )


def _shop(pair: Pair) -> None:
    for side in Side:
        with pair.connect(side) as postgres:
            if side is Side.TARGET:
                # Shifts the oids of everything that follows.
                for number in range(7):
                    postgres.execute(sql.SQL("CREATE TYPE {} AS ENUM ('x')").format(sql.Identifier(f"odd_{number}")))
            postgres.execute(SHOP)


def _values(other: bool) -> Iterator[tuple[int, str, str | None]]:
    for number, (kind, one, two) in enumerate(TYPES):
        yield number, kind, two if other else one


@PAIRS
def test_every_type_compares_equal_and_its_smallest_change_is_found(pair: Pair) -> None:
    _shop(pair)
    columns = ", ".join(f"c{number} {kind}" for number, kind, _ in _values(other=False))
    both(pair, f"CREATE TABLE everything (id int PRIMARY KEY, {columns})", "INSERT INTO everything VALUES (2)")
    places = sql.SQL(", ").join([sql.Placeholder()] * len(TYPES))
    for side in Side:
        with pair.connect(side, OWNER) as owner:
            # Settings that change how values are written must not matter.
            if side is Side.TARGET:
                name = sql.Identifier(pair.database)
                for change in ("extra_float_digits = -5", "datestyle = 'German'", "bytea_output = 'escape'"):
                    owner.execute(sql.SQL("ALTER DATABASE {} SET {}").format(name, sql.SQL(change)))
            owner.execute(
                sql.SQL("INSERT INTO everything VALUES (1, {})").format(places),
                [value for _, _, value in _values(other=False)],
            )
    clean = compare(pair, "everything")
    assert clean.differences == ()
    assert (clean.clean, clean.rows, clean.tables, clean.at) == (True, 2, 1, AT)
    assert _unseen(pair) == []


def _unseen(pair: Pair) -> list[str]:
    """The types whose other value makes no difference."""
    with server(pair, Side.TARGET).connect("test") as target:
        pin(target)
        name = TableName("public", "everything")
        query = digest_query(read_tables(target, [name])[name], None, None)
        before = read_digest(target, query)
        blind = []
        for number, kind, value in _values(other=True):
            with target.transaction(force_rollback=True):
                change = sql.SQL("UPDATE public.everything SET {} = %s WHERE id = 1")
                target.execute(change.format(sql.Identifier(f"c{number}")), (value,))
                if read_digest(target, query) == before:
                    blind.append(f"{kind}: {value}")
        assert read_digest(target, query) == before
    return blind


# What is done on the target, and what is said about it.
DIFFERENCES = (
    ("DELETE FROM t WHERE id = 7", "public.t: 120 rows on source, 119 on target"),
    ("INSERT INTO t VALUES (0, 0, '')", "public.t: 120 rows on source, 121 on target"),
    ("UPDATE t SET b = 'row 8 ' WHERE id = 8", "public.t: same count (120), different content"),
    ("UPDATE t SET a = NULL WHERE id = 8", "public.t: same count (120), different content"),
    # Two rows exchange a value: a sum of hashes that is linear in the columns doesn't see it.
    ("UPDATE t SET a = 77 - a WHERE id IN (5, 6)", "public.t: same count (120), different content"),
    # The values of two columns exchanged within a row.
    ("UPDATE t SET id = a * 1000, a = id WHERE id = 3", "public.t: same count (120), different content"),
    ("ALTER TABLE t ADD c int", "public.t: columns differ: c integer"),
    ("ALTER TABLE t ALTER a TYPE bigint", "public.t: columns differ: a bigint, a integer"),
    ("DROP TABLE t", "public.t: missing on target"),
)


@PAIRS
def test_a_difference_is_found_and_named(pair: Pair) -> None:
    both(pair, "CREATE TABLE same AS SELECT 1 AS one")
    for change, difference in DIFFERENCES:
        both(
            pair,
            "DROP TABLE IF EXISTS t",
            "CREATE TABLE t (id int PRIMARY KEY, a int, b text)",
            "INSERT INTO t SELECT g, g * 7, 'row ' || g FROM generate_series(1, 120) g",
        )
        on(pair, Side.TARGET, change)
        found = compare(pair, "t", "same")
        assert found.differences == (difference,), change
        assert found.complete
        assert not found.clean


def test_a_doubled_row_does_not_cancel_itself_out(pair: Pair) -> None:
    both(pair, "CREATE TABLE t (a int, b text)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    on(pair, Side.SOURCE, "INSERT INTO t VALUES (3, 'z'), (3, 'z')")
    on(pair, Side.TARGET, "INSERT INTO t VALUES (4, 'z'), (4, 'z')")
    assert compare(pair, "t").differences == ("public.t: same count (4), different content",)


def test_many_swapped_pairs_are_all_found(pair: Pair) -> None:
    both(pair, "CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
    both(pair, "INSERT INTO t SELECT g, g * 7, 'row ' || g FROM generate_series(1, 400) g")
    with server(pair, Side.SOURCE).connect("test") as source:
        pin(source)
        name = TableName("public", "t")
        table = read_tables(source, [name])[name]
        before = read_digest(source, digest_query(table, None, None))
        for low in range(1, 400, 2):
            with source.transaction(force_rollback=True):
                swap = "UPDATE public.t SET a = %s - a WHERE id IN (%s, %s)"
                source.execute(swap, ((2 * low + 1) * 7, low, low + 1))
                assert read_digest(source, digest_query(table, None, None)) != before


@PAIRS
def test_odd_tables(pair: Pair) -> None:
    """No columns, no rows, odd names, dropped columns, inheritance, a partition, generated columns."""
    both(
        pair,
        "CREATE TABLE nothing ()",
        "INSERT INTO nothing SELECT FROM generate_series(1, 3)",
        "CREATE TABLE empty (a int)",
        'CREATE TABLE "a.b "" \n é" ("x "" y" int, "%s" text)',
        'INSERT INTO "a.b "" \n é" VALUES (1, \'%\')',
        "CREATE TABLE parent (id int)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (2)",
        "CREATE TABLE parts (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF parts DEFAULT",
        "INSERT INTO parts VALUES (1), (2)",
        "CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
        "INSERT INTO made VALUES (1)",
    )
    on(pair, Side.SOURCE, "CREATE TABLE grown (a int, gone text, b text)", "ALTER TABLE grown DROP gone")
    on(pair, Side.TARGET, "CREATE TABLE grown (b text, a int)")
    both(pair, "INSERT INTO grown (a, b) VALUES (1, 'x')")
    names = ("nothing", "empty", 'a.b " \n é', "parent", "child", "part", "made", "grown")
    found = compare(pair, *names)
    assert found.differences == ()
    assert (found.tables, found.rows) == (8, 3 + 0 + 1 + 1 + 1 + 2 + 1 + 1)
    on(pair, Side.TARGET, "DELETE FROM nothing WHERE ctid = '(0,1)'", "UPDATE child SET id = 3")
    assert compare(pair, *names).differences == (
        "public.child: same count (1), different content",
        "public.nothing: 3 rows on source, 2 on target",
    )


@pytest.mark.parametrize("versions", [(15, 17)], indirect=True)
def test_a_collation_that_takes_different_strings_for_equal_does_not_hide_them(pair: Pair) -> None:
    with pair.connect(Side.SOURCE) as postgres:
        if postgres.execute("SELECT 1 FROM pg_collation WHERE collprovider = 'i' LIMIT 1").fetchone() is None:
            pytest.skip("the source server is built without ICU")
    blind = "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
    on(pair, Side.SOURCE, blind, "CREATE TABLE t (a text COLLATE blind)")
    on(pair, Side.TARGET, "CREATE TABLE t (a text)")
    both(pair, "INSERT INTO t VALUES ('a')")
    assert compare(pair, "t").clean
    on(pair, Side.SOURCE, "UPDATE t SET a = 'A'")
    assert compare(pair, "t").differences == ("public.t: same count (1), different content",)


def test_ranges_of_one_large_table_add_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daybreak.verify.compare._RANGE_BLOCKS", 7)
    both(
        pair,
        "CREATE TABLE t (id int, b text)",
        "INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 10000) g",
    )
    # Other blocks on the target: rows moved to the end.
    on(pair, Side.TARGET, "UPDATE t SET id = id WHERE id % 3 = 0")
    reports: list[Progress] = []
    found = compare(pair, "t", report=reports.append)
    assert found.clean
    assert found.rows == 10000
    last = reports[-1]
    assert (last.tables_done, last.tables_total, last.rows_done) == (1, 1, 10000)
    assert last.bytes_done is not None
    assert last.bytes_total is not None
    assert 0 < last.bytes_done <= last.bytes_total
    assert last.eta_seconds is not None
    on(pair, Side.TARGET, "UPDATE t SET b = 'y' WHERE id = 9999")
    assert compare(pair, "t").differences == ("public.t: same count (10000), different content",)


def test_only_what_the_snapshot_sees_counts(pair: Pair) -> None:
    both(pair, "CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)")
    with snapshots(pair) as names:
        on(pair, Side.SOURCE, "INSERT INTO t VALUES (2)")
        on(pair, Side.TARGET, "UPDATE t SET id = 3")
        assert compare(pair, "t", names=names).clean
    assert compare(pair, "t").differences == ("public.t: 2 rows on source, 1 on target",)


def test_a_snapshot_that_is_gone_is_an_error_and_not_a_difference(pair: Pair) -> None:
    both(pair, "CREATE TABLE t (id int)")
    with snapshots(pair) as names:
        pass
    with pytest.raises(PermanentError, match="snapshot"):
        compare(pair, "t", names=names)


def test_rows_hidden_by_row_level_security_are_no_clean_result(pair: Pair) -> None:
    both(
        pair,
        "CREATE TABLE t (id int)",
        "INSERT INTO t VALUES (1)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )
    found = compare(pair, "t")
    assert not found.clean
    assert "cannot be compared" in found.differences[0]
    assert "row-level security" in found.differences[0]


@pytest.fixture
def slow(pair: Pair) -> None:
    """A table that takes minutes to read, and one that takes no time."""
    both(
        pair,
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.2); RETURN $1; END'",
        "CREATE TABLE quick (id int)",
        "INSERT INTO quick VALUES (1)",
        "CREATE TABLE t (id int)",
        "INSERT INTO t SELECT generate_series(1, 10000)",
    )


def _make_slow(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def query(asked: Table, first: int | None, end: int | None) -> sql.Composed:
        if asked.name == table.name:
            return sql.SQL("SELECT count(*), sum(public.slow(id)) FROM {}").format(sql.Identifier("public", "t"))
        return digest_query(asked, first, end)

    monkeypatch.setattr("daybreak.verify.compare.digest_query", query)


def _verify_sessions(pair: Pair, side: Side) -> int:
    with pair.connect(side) as postgres:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'daybreak:payments:1:verify'"
        return int(str(postgres.execute(query).fetchone()[0]))  # type: ignore[index]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("how", ["deadline", "cancelled"])
def test_it_stops_in_time_and_says_that_it_is_incomplete(pair: Pair, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _make_slow(Table(TableName("public", "t"), (), 0, 0), monkeypatch)
    stop = threading.Event()
    if how == "cancelled":
        threading.Timer(1.0, stop.set).start()
    limit = 1.0 if how == "deadline" else 3600.0
    found = compare(pair, "t", "quick", deadline_seconds=limit, cancelled=stop.is_set)
    assert not found.complete
    assert not found.clean
    assert (found.tables, found.rows, found.differences) == (1, 1, ())
    for side in Side:
        while _verify_sessions(pair, side):
            time.sleep(0.05)


@pytest.mark.usefixtures("slow")
def test_a_server_that_fails_ends_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _make_slow(Table(TableName("public", "t"), (), 0, 0), monkeypatch)

    def kill(_: Progress) -> None:
        with pair.connect(Side.TARGET) as postgres:
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'daybreak:payments:1:verify' AND query LIKE '%%slow%%'"
            )

    with pytest.raises(Exception, match="terminating connection"):
        compare(pair, "t", "quick", report=kill)
    while _verify_sessions(pair, Side.SOURCE):  # a session that was closed takes a moment to go
        time.sleep(0.05)


@pytest.mark.usefixtures("slow")
def test_the_application_may_alter_a_table_that_was_compared(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock outlives the reading of its table."""
    _make_slow(Table(TableName("public", "t"), (), 0, 0), monkeypatch)
    altered: list[int] = []

    def alter(progress: Progress) -> None:
        if progress.tables_done == 1 and not altered:
            on(pair, Side.SOURCE, "SET lock_timeout = '5s'", "ALTER TABLE quick ADD extra int")
            altered.append(1)

    found = compare(pair, "t", "quick", report=alter, cancelled=lambda: bool(altered))
    assert altered
    assert found.tables == 1


def test_the_migration_role_needs_no_more_than_its_grants(pair: Pair) -> None:
    both(pair, "CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)")
    with psycopg.connect(pair.dsn(Side.SOURCE, MIGRATION)) as here:
        row = here.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert row == (False,)
    assert compare(pair, "t").clean
