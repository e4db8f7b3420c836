"""``daybreak verify``: compare both sides at one point of the stream."""

from __future__ import annotations

import typer

from daybreak.entry import render
from daybreak.entry.command import FAILED, command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.entry.reports import VerificationReport
from daybreak.errors import InvariantViolated
from daybreak.model import Verb


def verify(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Hold writers for an instant and compare every table; exit 1 where anything differs."""
    with command("verify", config, as_json, "Nothing was changed. Run `daybreak verify` again.") as run:
        with run.runtime() as runtime:
            found = runtime.run(Verb.VERIFY).verification
        if found is None:
            raise InvariantViolated("Verified, but no result was kept.", "Run `daybreak verify` again.")
        report = VerificationReport.of(found)
        run.show(report, render.verification(report))
        if not found.clean:
            raise typer.Exit(FAILED)
