"""``daybreak shift``: move a share of the reads to the target, or back."""

from __future__ import annotations

from typing import Annotated

import typer

from daybreak.entry.command import command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json, Yes
from daybreak.model import Verb

Percent = Annotated[int, typer.Argument(min=0, max=100, help="Share of reads on the target.")]

_ROUTED = {
    "multihost": "Published in daybreak.route of both databases: clients that look it up follow, libpq alone doesn't.",
    "pgbouncer": "Transactions that begin now on the reading entry go there.",
    "route53": "Sessions whose look-up of the reading name begins now go there; pools follow as they reconnect.",
}


def shift(percent: Percent, config: Config = DEFAULT_CONFIG, as_json: Json = False, yes: Yes = False) -> None:
    """Send PERCENT of the reads to the target. Writes stay with the primary."""
    with command("shift", config, as_json, "Run the same command again; 0 moves all reads back.") as run:
        run.confirm(f"send {percent}% of the reads of {run.settings.name} to the target", yes)
        with run.runtime() as runtime:
            runtime.run(Verb.SHIFT, percent)
            report = run.status(runtime)
        run.show(report, f"{report.read_weight}% of reads go to the target.", _ROUTED[run.settings.traffic.router])
