"""``daybreak finish``: end the migration on the target."""

from __future__ import annotations

from typing import Annotated

import typer

from daybreak.entry.command import command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json, Yes
from daybreak.model import Verb

Unfence = Annotated[
    bool,
    typer.Option("--unfence", help="After finish: let the old primary take writes again, as a database of its own."),
]


def finish(config: Config = DEFAULT_CONFIG, as_json: Json = False, yes: Yes = False, unfence: Unfence = False) -> None:
    """End the streams and leave the old primary fenced. There is no rollback after this."""
    with command("finish", config, as_json, "Run the same command again to go on.") as run:
        if unfence:
            what = f"let the old primary of {run.settings.name} take writes that go nowhere else"
        else:
            what = f"end the streams of {run.settings.name}: no rollback after this"
        run.confirm(what, yes)
        with run.runtime() as runtime:
            record = runtime.controller.unfence() if unfence else runtime.run(Verb.FINISH)
            report = run.status(runtime)
        old = record.primary.other
        if unfence:
            run.show(report, f"The {old} is not fenced any more, and nothing of Daybreak is left on it.")
        else:
            run.show(report, f"Finished: the {record.primary} is on its own, the {old} stays fenced until --unfence.")
