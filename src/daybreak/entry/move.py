"""What ``cutover`` and ``rollback`` have in common: both move the primary, in opposite directions."""

from __future__ import annotations

from pathlib import Path

import typer

from daybreak.entry import render
from daybreak.entry.command import FAILED, Command, command
from daybreak.entry.reports import MoveReport, PlanReport, SwitchoverReport
from daybreak.model import MigrationRecord, Verb
from daybreak.table import destination


def move(verb: Verb, config: Path, as_json: bool, plan: bool, yes: bool) -> None:
    """Move the primary where ``verb`` says, or show the plan of it."""
    resume = (
        f"`daybreak {verb}` goes on with it, `daybreak abort` backs out where that is still possible."
        " Run one of them soon: until then the switchover is half done."
    )
    with command(verb, config, as_json, "" if plan else resume) as run:
        if plan:
            _plan(run, verb)
        else:
            _move(run, verb, yes)


def _plan(run: Command, verb: Verb) -> None:
    with run.runtime() as runtime:
        found = runtime.controller.plan(verb)
    run.show(PlanReport.of(found), render.plan(found))
    if not found.ready:
        raise typer.Exit(FAILED)


def _move(run: Command, verb: Verb, yes: bool) -> None:
    name = run.settings.name
    run.confirm(f"move the writes of {name} to the {destination(MigrationRecord(name), verb)}", yes)
    with run.runtime() as runtime:
        before = runtime.controller.record().last_switchover
        record = runtime.run(verb)
    last = record.last_switchover
    switched = None if last is None or last == before else SwitchoverReport.of(last)
    report = MoveReport(record.name, record.phase, record.primary, record.read_weight, switched)
    if switched is None:
        run.show(report, f"The {record.primary} is the primary already; nothing had to be done.")
    else:
        run.show(report, render.switchover(switched), f"The {record.primary} is the primary.")
