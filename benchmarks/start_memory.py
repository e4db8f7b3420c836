"""What ``daybreak start`` needs on a database of many tables and on one with a single large table.

    python benchmarks/start_memory.py --tables 2000
    python benchmarks/start_memory.py --gigabytes 3

Starts two servers of its own (17 -> 18), runs the command as a process and prints its seconds, its peak
memory as the operating system accounts for it, how many progress lines it wrote and the last one with an
ETA. Needs free disk space of about three times the data under the temporary directory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from daybreak.lab.configuration import write_configuration
from daybreak.lab.pair import OWNER, Pair, running_pair
from daybreak.model import Side

_MANY = """
DO $$ BEGIN FOR i IN 1..{} LOOP
    EXECUTE format('CREATE TABLE t_%s (id bigint PRIMARY KEY, note text, at timestamptz DEFAULT now())', i);
    EXECUTE format('CREATE INDEX ON t_%s (note)', i);
    EXECUTE format('INSERT INTO t_%s SELECT g, md5(g::text) FROM generate_series(1, 20) g', i);
    IF i % 100 = 0 THEN COMMIT; END IF;
END LOOP; END $$
"""
# About 1 GB: rows of some 500 bytes.
_LARGE = """
CREATE TABLE IF NOT EXISTS large (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text, b text, c text);
INSERT INTO large (a, b, c)
SELECT repeat(md5(g::text), 5), repeat(md5((g + 1)::text), 5), repeat(md5((g + 2)::text), 5)
FROM generate_series(1, 1900000) g;
"""


@dataclass(frozen=True)
class Measured:
    """One run of ``daybreak start``."""

    tables: int
    bytes: int
    seconds: float
    peak_megabytes: float
    progress_lines: int
    last_with_eta: str


def many(count: int) -> Callable[[Pair], None]:
    """A database of ``count`` small tables."""

    def fill(pair: Pair) -> None:
        with pair.connect(Side.SOURCE, OWNER) as connection:
            connection.execute(_MANY.format(count))

    return fill


def large(gigabytes: int) -> Callable[[Pair], None]:
    """A database of one table."""

    def fill(pair: Pair) -> None:
        with pair.connect(Side.SOURCE, OWNER) as connection:
            for _ in range(gigabytes):
                connection.execute(_LARGE)
            connection.execute("VACUUM ANALYZE large")

    return fill


def measure(fill: Callable[[Pair], None]) -> Measured:
    """Fill a source, start its migration, measure the process."""
    with running_pair(17, 18) as pair, tempfile.TemporaryDirectory() as directory:
        with pair.connect(Side.SOURCE, OWNER) as owner:
            owner.execute("CREATE SCHEMA IF NOT EXISTS bench")
            owner.execute(f"ALTER ROLE {OWNER} SET search_path = bench")
        fill(pair)
        config = write_configuration(pair, Path(directory))
        log = Path(directory) / "start.log"
        began = time.monotonic()
        with log.open("wb") as said:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("daybreak"), "start", "--config", str(config)],
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
        lines = log.read_text().splitlines()
        if status != 0:
            raise SystemExit("\n".join(lines[-20:]))
        with pair.connect(Side.TARGET, "postgres") as target:
            row = target.execute("SELECT count(*), sum(bytes)::bigint FROM daybreak.table_load").fetchone()
        assert row is not None
        return Measured(
            tables=int(str(row[0])),
            bytes=int(str(row[1])),
            seconds=round(time.monotonic() - began, 1),
            peak_megabytes=round(usage.ru_maxrss / 1024, 1),
            progress_lines=sum("%" in line or "ETA" in line or "of" in line for line in lines),
            last_with_eta=next((line for line in reversed(lines) if "ETA" in line or "left" in line), ""),
        )


def main() -> None:
    """Measure what was asked for and print it as JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tables", type=int, default=0)
    arguments.add_argument("--gigabytes", type=int, default=0)
    asked = arguments.parse_args()
    if asked.tables:
        print(json.dumps(asdict(measure(many(asked.tables))), indent=2))
    if asked.gigabytes:
        print(json.dumps(asdict(measure(large(asked.gigabytes))), indent=2))


if __name__ == "__main__":
    main()
