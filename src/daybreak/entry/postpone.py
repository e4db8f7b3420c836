"""``daybreak postpone``: nothing begins by itself for a while."""

from __future__ import annotations

from typing import Annotated

import typer

from daybreak.entry.command import command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.rewind import moment

Until = Annotated[str, typer.Argument(metavar="TIME", help="ISO 8601 with its zone, or `off`: no longer.")]


def postpone(until: Until, config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Until TIME let nothing begin by itself. What is under way goes on; reads that do harm still go back."""
    with command("postpone", config, as_json) as run:
        end = None if until == "off" else moment(until)
        with run.runtime() as runtime:
            runtime.remote.postpone(end)
            report = run.status(runtime)
        what = (
            "Nothing is postponed any more." if end is None else f"Nothing begins by itself before {end.isoformat()}."
        )
        run.show(report, what)
