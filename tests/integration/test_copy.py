"""The full load: every row, in every shape, once; and what a broken load leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest
from integration.nasty import Move, claimed_move, nasty_move
from support import NAME

from daybreak.errors import PermanentError, StateConflict, TransientError
from daybreak.lab.pair import OWNER, Pair
from daybreak.model import Progress, Side, TableName
from daybreak.postgres import control, schema
from daybreak.replication import copy

# Large enough for two psql, and a type that only text can carry: the format that takes a broken pipe
# for the end.
_LARGE = "CREATE TABLE large (id integer PRIMARY KEY, note text, class regclass)"
# Rows of 7 kB, so that not many fit into the buffers on their way.
_LARGE_ROWS = """
ALTER TABLE large ALTER note SET STORAGE PLAIN;
INSERT INTO large SELECT g, repeat(md5(g::text), 220), 'pg_class' FROM generate_series(1, {}) g
"""
ROWS = 3000
LARGE, SMALL, OTHER = (TableName("public", name) for name in ("large", "small", "other"))


def made(pair: Pair, rows: int = ROWS) -> Move:
    """Tables ``large``, ``other`` and ``small``, with their schema on the target."""
    with pair.connect(Side.SOURCE, OWNER) as owner:
        owner.execute(_LARGE)
        owner.execute(_LARGE_ROWS.format(rows).encode())
        owner.execute("CREATE TABLE small AS SELECT g AS id, 'a' AS a FROM generate_series(1, 5) g")
        owner.execute("CREATE TABLE other AS TABLE small")
        owner.execute("ANALYZE")
    move = claimed_move(pair)
    schema.transfer_pre_data(move.job)
    return move


def copy_once(move: Move) -> None:
    with move.snapshot() as snapshot:
        move.copy(snapshot)


def on_target(pair: Pair, statement: str) -> list[tuple[object, ...]]:
    with pair.connect(Side.TARGET) as target:
        cursor = target.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def client_programs() -> list[str]:
    """The programs that we run now; servers' processes come and go meanwhile."""
    names = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            names.append(child.name())
    return [name for name in names if name in {"psql", "pg_dump"}]


@contextmanager
def slowly(pair: Pair, table: str) -> Iterator[None]:
    """Copying into ``table`` takes as long as the test needs."""
    wait = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END'"
    on_target(pair, wait)
    on_target(pair, f"CREATE TRIGGER wait BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION wait()")
    yield
    on_target(pair, "DROP FUNCTION IF EXISTS wait CASCADE")


def when_copying(pair: Pair, act: Callable[[], object], side: Side = Side.TARGET) -> threading.Thread:
    """In a thread: ``act`` as soon as a psql of ours copies on ``side``."""

    def watch() -> None:
        query = "SELECT count(*) FROM pg_stat_progress_copy WHERE tuples_processed > 0 AND relid = 'large'::regclass"
        with pair.connect(side) as superuser:
            while superuser.execute(query.encode()).fetchone() == (0,):
                time.sleep(0.02)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


# --- all goes well


@pytest.mark.parametrize(
    ("versions", "tls"), [((17, 18), False), ((15, 17), False), ((17, 17), True)], indirect=["versions", "tls"]
)
@pytest.mark.parametrize("small_bytes", [0, copy._SMALL_BYTES])
def test_every_row_arrives_by_either_way(pair: Pair, monkeypatch: pytest.MonkeyPatch, small_bytes: int) -> None:
    monkeypatch.setattr(copy, "_SMALL_BYTES", small_bytes)
    move = nasty_move(pair, rows=True)
    schema.transfer_pre_data(move.job)
    copy_once(move)
    tables = move.tables()
    for table in tables:
        assert move.rows(Side.TARGET, table) == move.rows(Side.SOURCE, table), table.name
    counted = move.copied()
    assert counted.keys() == {table.name for table in tables}
    assert counted[TableName("app", "binary_safe")] == 20_000
    assert counted[TableName("app", "zero")] == 3


def test_rows_are_those_of_the_snapshot(pair: Pair) -> None:
    move = made(pair)
    with move.snapshot() as snapshot:
        with pair.connect(Side.SOURCE, OWNER) as owner:
            owner.execute("DELETE FROM large WHERE id > 10")
            owner.execute("INSERT INTO small VALUES (6, 'later')")
        move.copy(snapshot)
    assert move.copied() == {LARGE: ROWS, SMALL: 5, OTHER: 5}


def test_what_was_there_is_replaced(pair: Pair) -> None:
    move = made(pair)
    on_target(pair, "INSERT INTO large SELECT g FROM generate_series(1, 7) g")
    on_target(pair, "INSERT INTO small VALUES (1)")
    copy_once(move)
    assert on_target(pair, "SELECT (SELECT count(*) FROM large), (SELECT count(*) FROM small)") == [(ROWS, 5)]


def test_no_tables_are_no_work(pair: Pair) -> None:
    claimed_move(pair).copy("no snapshot needed", ())


def test_progress_only_grows_and_ends_complete(pair: Pair) -> None:
    move = made(pair)
    copy_once(move)
    told = [progress for progress in move.progress if progress.what == "copying tables"]
    done = [progress.bytes_done or 0 for progress in told]
    assert done == sorted(done)
    assert (told[-1].tables_done, told[-1].bytes_done, told[-1].rows_done) == (3, told[-1].bytes_total, ROWS + 10)
    assert told[-1].eta_seconds == 0.0


@pytest.mark.parametrize("versions", [(17, 17)], indirect=True)
def test_toast_is_compressed_by_lz4_where_the_column_has_no_method_of_its_own(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, OWNER) as owner:
        owner.execute("CREATE TABLE t (id integer PRIMARY KEY, a text, b text COMPRESSION pglz)")
        owner.execute("INSERT INTO t VALUES (1, repeat('x', 10000), repeat('x', 10000))")
    move = claimed_move(pair)
    schema.transfer_pre_data(move.job)
    copy_once(move)
    assert on_target(pair, "SELECT pg_column_compression(a), pg_column_compression(b) FROM t") == [("lz4", "pglz")]


# --- something does not fit


def test_a_row_that_does_not_fit_is_named_and_finished_tables_stay(pair: Pair) -> None:
    move = made(pair)
    on_target(pair, "ALTER TABLE large ADD CHECK (id <> 2222)")
    with pytest.raises(PermanentError, match=r"copying public\.large to the target.*large_id_check") as caught:
        copy_once(move)
    assert "line 2222" in caught.value.message
    on_target(pair, "ALTER TABLE large DROP CONSTRAINT large_id_check")
    missing = tuple(table for table in move.tables() if table.name not in move.copied())
    assert LARGE in {table.name for table in missing}
    with move.snapshot() as snapshot:
        move.copy(snapshot, missing)
    assert move.copied() == {LARGE: ROWS, SMALL: 5, OTHER: 5}


def test_a_small_table_that_does_not_fit_is_named(pair: Pair) -> None:
    move = made(pair, rows=10)
    on_target(pair, "ALTER TABLE small ADD CHECK (id <> 3)")
    with pytest.raises(PermanentError, match=r"copying public\.small: .*small_id_check"):
        copy_once(move)
    assert SMALL not in move.copied()


@pytest.mark.parametrize("table", ["large", "small"])
def test_a_full_disk_needs_a_person(pair: Pair, table: str) -> None:
    move = made(pair)
    full = "BEGIN RAISE EXCEPTION ''could not extend file'' USING ERRCODE = ''53100''; END"
    on_target(
        pair, f"CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS '{full}'".replace("full()", '"full"()')
    )
    on_target(pair, f'CREATE TRIGGER f BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION "full"()')
    with pytest.raises(PermanentError, match="could not extend file") as caught:
        copy_once(move)
    assert "Free disk space" in caught.value.hint


def test_rows_hidden_by_a_policy_are_an_error_and_not_absent(pair: Pair) -> None:
    move = made(pair)
    with pair.connect(Side.SOURCE, OWNER) as owner:
        for table_name in ("large", "small"):
            owner.execute(f"ALTER TABLE {table_name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY".encode())
    for name in (LARGE, SMALL):
        table = tuple(table for table in move.tables() if table.name == name)
        with move.snapshot() as snapshot, pytest.raises(PermanentError, match="row-level security"):
            move.copy(snapshot, table)
    assert move.copied() == {}


def test_a_snapshot_that_is_gone_is_worth_another_try(pair: Pair) -> None:
    move = made(pair)
    with move.snapshot() as snapshot:
        pass
    for name in (LARGE, SMALL):
        with pytest.raises(TransientError, match="snapshot"):
            move.copy(snapshot, tuple(table for table in move.tables() if table.name == name))


def test_an_older_generation_copies_nothing(pair: Pair) -> None:
    move = made(pair)
    with move.target.session("test", 2) as target:
        control.raise_generation(target, NAME, "another", 2)
    for name in (LARGE, SMALL):
        with move.snapshot() as snapshot, pytest.raises(StateConflict):
            move.copy(snapshot, tuple(table for table in move.tables() if table.name == name))
    assert on_target(pair, "SELECT (SELECT count(*) FROM large), (SELECT count(*) FROM small)") == [(0, 0)]
    assert move.copied() == {}


# --- somebody dies


def test_half_a_table_never_counts_as_copied(pair: Pair) -> None:
    """The reader's session ends in the middle, and the writer takes that for the end of the data."""
    move = made(pair)

    def end_the_reader() -> None:
        with pair.connect(Side.SOURCE) as superuser:
            superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_copy WHERE command = 'COPY TO'")

    with slowly(pair, "large"):
        thread = when_copying(pair, end_the_reader)
        with pytest.raises(TransientError, match=r"copying public\.large from the source: "):
            copy_once(move)
        thread.join()
    assert LARGE not in move.copied()
    assert client_programs() == []
    copy_once_missing(move)
    assert move.copied()[LARGE] == ROWS


def copy_once_missing(move: Move) -> None:
    missing = tuple(table for table in move.tables() if table.name not in move.copied())
    with move.snapshot() as snapshot:
        move.copy(snapshot, missing)


def test_a_target_that_dies_keeps_what_was_marked(own_pair: Pair) -> None:
    move = made(own_pair)
    with slowly(own_pair, "large"):
        thread = when_copying(own_pair, own_pair.target.kill)
        with pytest.raises(TransientError):
            copy_once(move)
        thread.join()
        own_pair.target.start()
        before = move.copied()
        assert LARGE not in before
    copy_once_missing(move)
    assert move.copied() == {LARGE: ROWS, SMALL: 5, OTHER: 5}
    assert client_programs() == []


def test_ctrl_c_stops_everything(pair: Pair) -> None:
    move = made(pair)

    def interrupt(progress: Progress) -> None:
        if progress.rows_done:
            raise KeyboardInterrupt

    with slowly(pair, "large"), move.snapshot() as snapshot:
        with pytest.raises(KeyboardInterrupt):
            copy.copy_tables(
                move.source, move.target, move.tools, move.tables(), snapshot, jobs=2, generation=1, report=interrupt
            )
        assert client_programs() == []
        assert LARGE not in move.copied()


_COPY = """
import sys
from psycopg import conninfo
from daybreak.model import Side
from daybreak.postgres import catalog
from daybreak.postgres.installations import client_tools
from daybreak.postgres.server import Server
from daybreak.replication.copy import copy_tables
source, target = (Server(side, "payments", conninfo.conninfo_to_dict(dsn), {})
                  for side, dsn in zip((Side.SOURCE, Side.TARGET), sys.stdin.read().splitlines()))
with source.session("snapshot", 1) as holder, source.session("test", 1) as connection:
    holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    (snapshot,) = holder.execute("SELECT pg_export_snapshot()").fetchone()
    tables = catalog.user_tables(connection, ("*.*",), ())
    copy_tables(source, target, client_tools(17, 18), tables, snapshot, jobs=2, generation=1, report=lambda _: None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children of a killed process")
def test_nothing_of_a_killed_load_goes_on(pair: Pair) -> None:
    move = made(pair)
    with slowly(pair, "large"):
        with subprocess.Popen([sys.executable, "-c", _COPY], stdin=subprocess.PIPE, text=True) as loader:
            assert loader.stdin is not None
            loader.stdin.write("\n".join(pair.dsn(side) for side in Side))
            loader.stdin.close()
            children: list[psutil.Process] = []

            def kill() -> None:
                children.extend(psutil.Process(loader.pid).children(recursive=True))
                os.kill(loader.pid, signal.SIGKILL)

            when_copying(pair, kill).join()
        gone, alive = psutil.wait_procs(children, timeout=10)
        assert gone
        assert alive == []
        assert LARGE not in move.copied()
    copy_once_missing(move)
    assert on_target(pair, "SELECT count(*), count(DISTINCT id) FROM large") == [(ROWS, ROWS)]
