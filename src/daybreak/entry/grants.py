"""``daybreak grants``: the SQL script that gives Daybreak's role exactly the rights it needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from daybreak.entry.command import Command, command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.errors import PermanentError
from daybreak.model import Side
from daybreak.postgres.grants import Kind, grant_script
from daybreak.postgres.inspect import grant_kind, owners
from daybreak.wiring import server


class KindChoice(StrEnum):
    """For which kind of server; ``auto`` asks it."""

    AUTO = "auto"
    POSTGRES = "postgres"
    RDS = "rds"


@dataclass(frozen=True, slots=True)
class GrantScript:
    """The script for one server. It holds no secret."""

    side: Side
    kind: Kind
    role: str
    database: str
    script: str


@dataclass(frozen=True, slots=True)
class GrantsReport:
    """One script for each server that was asked for."""

    scripts: tuple[GrantScript, ...]


KindOption = Annotated[KindChoice, typer.Option("--kind", help="Plain PostgreSQL, or RDS and Aurora.")]
SideOption = Annotated[Side | None, typer.Option("--side", help="Only this server; both where it is left out.")]


def grants(
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
    kind: KindOption = KindChoice.AUTO,
    side: SideOption = None,
) -> None:
    """Print the rights that the migration role needs, as a script for an administrator of each server."""
    with command("grants", config, as_json) as run:
        scripts = tuple(_script(run, one, kind) for one in Side if side in (None, one))
        run.show(GrantsReport(scripts), *(script.script for script in scripts))


def _dms(run: Command) -> str:
    """AWS DMS's role, where it takes part."""
    aws = run.settings.aws
    return aws.dms.user if aws is not None and run.settings.replication.engine == "dms" else ""


def _script(run: Command, side: Side, choice: KindChoice) -> GrantScript:
    """Needs no right but LOGIN: it reads catalogs that everybody may read."""
    here = server(run.settings, side)
    try:
        with here.session("grants") as connection:
            kind: Kind = grant_kind(connection)
            if choice is not KindChoice.AUTO:
                kind = "rds" if choice is KindChoice.RDS else "postgres"
            version = connection.info.server_version
            text = grant_script(kind, side, here.user, here.database, owners(connection), version, _dms(run))
    except PermanentError as error:
        raise PermanentError(
            error.message,
            f"{error.hint} The script names the owners of what is in the database, so role {here.user} has to be"
            " able to log in before it can be made; nothing but LOGIN is needed (`createuser --pwprompt`).",
        ) from error
    return GrantScript(side, kind, here.user, here.database, text)
