"""How the rows of a load should be moved: two psql and a pipe, or psycopg's ``copy()``, side by side.

    python benchmarks/copy_pump.py [--megabytes 400] [--small 500]

Prints seconds, CPU seconds of this process and their ratio, for a table of narrow rows, one of TOASTed
documents and many small tables, on two servers of its own (17 -> 17).
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from daybreak.lab.pair import MIGRATION, OWNER, Pair, running_pair
from daybreak.model import Progress, Side
from daybreak.postgres import catalog, control
from daybreak.postgres.catalog import Table
from daybreak.postgres.installations import client_tools
from daybreak.postgres.server import Connection, Server
from daybreak.postgres.workers import Stop
from daybreak.replication import copy
from daybreak.replication.pump import Pump

_NAME, _GENERATION, _MAJOR = "bench", 1, 17
_SCHEMA = """
CREATE TABLE narrow (id bigint, account bigint, amount numeric(12, 2), at timestamptz, note text);
CREATE TABLE documents (id bigint, body jsonb, picture bytea);
DO $$ BEGIN FOR i IN 1..{small} LOOP
    EXECUTE format('CREATE TABLE small_%s (id bigint, note text)', i);
END LOOP; END $$;
"""
_ROWS = """
INSERT INTO narrow SELECT g, g % 1000, g / 7.0, now(), md5(g::text)
FROM generate_series(1, {megabytes} * 10000) g;
INSERT INTO documents SELECT g, jsonb_build_object('text', repeat(md5(g::text), 20)), (
    SELECT string_agg(decode(md5(g || '/' || n), 'hex'), '') FROM generate_series(1, 800) n)
FROM generate_series(1, {megabytes} * 65) g;
DO $$ BEGIN FOR i IN 1..{small} LOOP
    EXECUTE format('INSERT INTO small_%s SELECT g, md5(g::text) FROM generate_series(1, 500) g', i);
END LOOP; END $$;
ANALYZE;
"""


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    seconds: float
    cpu_seconds: float


def measured(work: Callable[[], object]) -> Cost:
    """Run ``work``; its wall time and this process's own CPU time."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.monotonic() - began, cpu)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=400, help="size of each of the two large tables, roughly")
    parser.add_argument("--small", type=int, default=500, help="number of small tables")
    asked = parser.parse_args()
    with running_pair(_MAJOR, _MAJOR) as pair, ExitStack() as stack:
        fill(pair, asked.megabytes, asked.small)
        source, target = server(pair, Side.SOURCE), server(pair, Side.TARGET)
        with target.session("setup", _GENERATION) as connection:
            control.install(connection, _NAME, Side.TARGET)
            control.raise_generation(connection, _NAME, "bench", _GENERATION)
        holder = stack.enter_context(source.session("snapshot", _GENERATION))
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        (snapshot,) = holder.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        tables = {t.name.name: t for t in catalog.user_tables(source.connect("look"), ("public.*",), ())}
        compare(source, target, str(snapshot), tables)


def compare(source: Server, target: Server, snapshot: str, tables: dict[str, Table]) -> None:
    """One table each way, then all small ones each way."""
    tools = client_tools(_MAJOR, _MAJOR)
    settings = (("synchronous_commit", "off"), ("default_toast_compression", "lz4"))
    pump = Pump(source, target, tools, snapshot, _GENERATION, "UTF8", settings)
    reading, writing = source.connect("copy", _GENERATION), target.connect("copy", _GENERATION)
    pump.begin_reading(reading)
    pump.begin_writing(writing)
    print("table         size MB    psql pipe s  CPU s    psycopg s  CPU s   ratio")
    for name in ("narrow", "documents"):
        show(name, *both_ways(pump, reading, writing, [tables[name]]))
    small = [table for name, table in tables.items() if name.startswith("small_")]
    show(f"{len(small)} small", *both_ways(pump, reading, writing, small))
    whole = measured(
        lambda: copy.copy_tables(
            source, target, tools, list(tables.values()), snapshot, jobs=2, generation=_GENERATION, report=_silent
        )
    )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"copy_tables with 2 jobs: {whole.seconds:.1f} s, CPU {whole.cpu_seconds:.1f} s, peak {peak_mb:.0f} MB")


def both_ways(pump: Pump, reading: Connection, writing: Connection, tables: Sequence[Table]) -> tuple[int, Cost, Cost]:
    """Bytes of ``tables``, and what moving them costs by pipe and by psycopg."""

    def by_pipe() -> None:
        for table in tables:
            pump.through_pipe(table, Stop())

    def by_psycopg() -> None:
        for table in tables:
            with writing.transaction():
                pump.through_python(reading, writing, table)

    return sum(table.bytes for table in tables), measured(by_pipe), measured(by_psycopg)


def show(name: str, size: int, pipe: Cost, python: Cost) -> None:
    """One line of the table."""
    print(
        f"{name:<12}{size / 1e6:>9.0f}{pipe.seconds:>15.2f}{pipe.cpu_seconds:>7.2f}"
        f"{python.seconds:>13.2f}{python.cpu_seconds:>7.2f}{python.seconds / pipe.seconds:>8.2f}"
    )


def server(pair: Pair, side: Side) -> Server:
    """A side as the migration role sees it."""
    parameters = pair.cluster(side).parameters(MIGRATION, pair.migration_password, pair.database)
    return Server(side, _NAME, parameters, parameters)


def fill(pair: Pair, megabytes: int, small: int) -> None:
    """The tables on both sides, rows on the source."""
    for side in Side:
        with pair.connect(side, OWNER) as connection:
            connection.execute(_SCHEMA.format(small=small).encode())
            if side is Side.SOURCE:
                connection.execute(_ROWS.format(small=small, megabytes=megabytes).encode())


def _silent(_: Progress) -> None:
    return None


if __name__ == "__main__":
    main()
