"""``daybreak start``: schema, full load, indexes and streams, until both sides are in step."""

from __future__ import annotations

from daybreak.entry import render
from daybreak.entry.command import command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.model import Verb

_RESUME = "What is copied stays. `daybreak start` goes on where it stopped; `daybreak abort` removes everything."


def start(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Copy the database to the target and keep it in step. Run it again to go on after an interruption."""
    with command("start", config, as_json, _RESUME) as run:
        with run.runtime() as runtime:
            runtime.run(Verb.START)
            report = run.status(runtime)
        run.show(report, render.status(report), "", "Both sides are in step. Next: `daybreak verify`.")
