"""``daybreak abort``: back out of a switchover, or end a migration that never cut over."""

from __future__ import annotations

from daybreak.entry import render
from daybreak.entry.command import command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.model import Phase, Verb


def abort(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Stay on the source: remove the streams, what was copied to the target, and every other trace."""
    with command("abort", config, as_json, "Run `daybreak abort` again to go on.") as run:
        with run.runtime() as runtime:
            record = runtime.run(Verb.ABORT)
            report = run.status(runtime)
        if record.phase is Phase.ABORTED:
            run.show(report, f"Migration {record.name} is aborted; the source is as it was before it.")
        else:
            run.show(report, render.status(report))
