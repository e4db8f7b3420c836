"""``daybreak shift``: move a share of the reads to the target, or back."""

from __future__ import annotations

from typing import Annotated

import typer

from daybreak.entry.command import command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json, Yes
from daybreak.model import Verb
from daybreak.schedule import share_to_take

Percent = Annotated[
    int | None, typer.Argument(min=0, max=100, help="Share of reads on the target; left out: the schedule's next.")
]

_ROUTED = {
    "multihost": "Published in daybreak.route of both databases: clients that look it up follow, libpq alone doesn't.",
    "pgbouncer": "Transactions that begin now on the reading entry go there.",
    "route53": "Sessions whose look-up of the reading name begins now go there; pools follow as they reconnect.",
}


def shift(percent: Percent = None, config: Config = DEFAULT_CONFIG, as_json: Json = False, yes: Yes = False) -> None:
    """Send PERCENT of the reads to the target. Writes stay with the primary."""
    with command("shift", config, as_json, "Run the same command again; 0 moves all reads back.") as run:
        with run.runtime() as runtime:
            share = percent
            if share is None:
                share = share_to_take(runtime.controller.record(), runtime.settings.schedule())
            run.confirm(f"send {share}% of the reads of {run.settings.name} to the target", yes)
            runtime.run(Verb.SHIFT, share)
            report = run.status(runtime)
        run.show(report, f"{report.read_weight}% of reads go to the target.", _ROUTED[run.settings.traffic.router])
