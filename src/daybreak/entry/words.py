"""Numbers as people read them, each kind in one place."""

from __future__ import annotations

from datetime import timedelta

import humanize

from daybreak.model import Progress, Step
from daybreak.table import TABLE

UNKNOWN = "unknown"


def size(count: int | None) -> str:
    """Bytes as ``1.2 GiB``."""
    return UNKNOWN if count is None else humanize.naturalsize(count, binary=True)


def duration(seconds: float | None) -> str:
    """``3 ms``, ``4.2 s`` or, from two minutes on, ``1 hour and 3 minutes``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return humanize.precisedelta(timedelta(seconds=seconds), minimum_unit="minutes", format="%.0f")


def count(number: int) -> str:
    """``1,234,567``."""
    return humanize.intcomma(number)


def what(step: Step) -> str:
    """What a step does, in the words of the transition table."""
    return next(row.what for row in TABLE if row.step is step)


def progress(report: Progress, bytes_per_second: float | None) -> str:
    """One line of everything that ``report`` says."""
    parts = []
    if report.tables_total is not None:
        # Work without bytes counts other things: entries of a dump, foreign keys.
        unit = " tables" if report.bytes_total else ""
        parts.append(f"{report.tables_done or 0} of {report.tables_total}{unit}")
    if report.bytes_total:
        done = report.bytes_done or 0
        parts.append(f"{size(done)} of {size(report.bytes_total)} ({min(done / report.bytes_total, 1):.0%})")
    if report.rows_done is not None:
        parts.append(f"{count(report.rows_done)} rows")
    if bytes_per_second:
        parts.append(f"{size(int(bytes_per_second))}/s")
    if report.eta_seconds is not None:
        parts.append(f"{duration(report.eta_seconds)} left")
    return ", ".join(parts)
