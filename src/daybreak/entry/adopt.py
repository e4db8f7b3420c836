"""``daybreak adopt``: take over from a controller that hangs, or rebuild a lost record."""

from __future__ import annotations

from functools import partial

from daybreak.entry import render
from daybreak.entry.command import command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.switchover.adopt import rebuild_record


def adopt(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Take charge of the migration, whoever held it; a lost record is rebuilt from both databases."""
    with command("adopt", config, as_json, "Run `daybreak adopt` again.") as run:
        with run.runtime() as runtime:
            record = runtime.controller.adopt(partial(rebuild_record, run.settings.name))
            if not record.phase.ended:  # a function that found no record has stopped looking
                runtime.schedule(True)
            report = run.status(runtime)
        run.show(report, render.status(report))
