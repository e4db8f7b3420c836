"""How AWS DMS is doing, judged: pure, from what its API says of a task and its tables.

DMS user guide, "AWS DMS tables" and "Data validation": the words for states are DMS's."""

from __future__ import annotations

from collections.abc import Iterable

from daybreak.aws.dms import TableStatistics, Task
from daybreak.model import TableName

_COMPLETE = frozenset({"Table completed", "Table all", "Table updates"})
_BROKEN = frozenset({"Table error", "Table cancelled", "Table does not exist"})
_DIFFERENT = frozenset({"Mismatched records", "Suspended records", "Table error", "Error"})
# Without a primary key DMS can't validate; the comparison of the fence point covers those as well.
_VALIDATED = frozenset({"Validated", "Not enabled", "No primary key"})
# By `daybreak infra`; anything else applies out of order, loads what is there already or streams too early.
_NEEDED = {
    ("TargetMetadata", "BatchApplyEnabled"): False,
    ("FullLoadSettings", "TargetTablePrepMode"): "TRUNCATE_BEFORE_LOAD",
    ("FullLoadSettings", "StopTaskCachedChangesNotApplied"): True,
}


def wrong_settings(task: Task) -> str:
    """Which settings of the task are not those that a migration needs, or the empty string."""
    found = [
        f"{section}.{name} is {task.setting(section, name)}, not {wanted}"
        for (section, name), wanted in _NEEDED.items()
        if task.setting(section, name) != wanted
    ]
    return "; ".join(found)


def halt(task: Task, identifier: str) -> str:
    """Why a task that should stream does not, and what to do; empty where it does."""
    if not task.halted:
        return "" if task.running else f"AWS DMS's task {identifier} is {task.status}"
    why = task.failure or task.stop_reason or "no reason given"
    if task.status == "failed" or "ERROR" in task.stop_reason:
        return f"AWS DMS's task {identifier} failed: {why}. Mend that; `daybreak start` resumes it"
    return f"AWS DMS's task {identifier} is {task.status} ({why}). `daybreak start` resumes it"


def loading(task: Task, identifier: str, tables: tuple[TableStatistics, ...], streaming: bool) -> str:
    """What the task is busy with before it streams; empty where it waits to be started or streams."""
    if task.halted or (streaming and task.running):
        return ""
    if not task.running:
        return f"AWS DMS's task {identifier} is {task.status}"
    done = sum(table.state in _COMPLETE for table in tables)
    return f"AWS DMS loads: {task.percent} percent, {done} of {len(tables)} tables complete"


def complete(tables: Iterable[TableStatistics]) -> tuple[TableStatistics, ...]:
    """Those that are loaded."""
    return tuple(table for table in tables if table.state in _COMPLETE)


def incomplete(tables: Iterable[TableStatistics]) -> tuple[str, ...]:
    """Those that are being loaded, for instance again."""
    return tuple(str(table.name) for table in tables if table.state not in _COMPLETE | _BROKEN)


def broken(tables: Iterable[TableStatistics], suspended: Iterable[TableName]) -> str:
    """Which tables DMS has given up or found different, and what to do; empty where there are none."""
    why = {str(name): "suspended" for name in suspended}
    for table in tables:
        if table.state in _BROKEN:
            why[str(table.name)] = table.state
        elif table.validation in _DIFFERENT:
            why.setdefault(str(table.name), f"validation: {table.validation}")
    if not why:
        return ""
    named = ", ".join(f"{name} ({what})" for name, what in sorted(why.items())[:5])
    return f"AWS DMS does not keep {named} in step; reload it (`aws dms reload-tables`) or see the task's log"


def unvalidated(tables: Iterable[TableStatistics]) -> tuple[str, ...]:
    """Those with rows that DMS's own validation has not looked at yet."""
    return tuple(
        f"{table.name} ({table.validation})" for table in tables if table.validation not in _VALIDATED | _DIFFERENT
    )
