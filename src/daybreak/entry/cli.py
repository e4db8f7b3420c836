"""The command ``daybreak``: its verbs, one file each, and the way out for errors in the command line."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

import typer
from typer.exceptions import TyperException

from daybreak.entry.abort import abort
from daybreak.entry.adopt import adopt
from daybreak.entry.check import check
from daybreak.entry.command import USAGE, command
from daybreak.entry.cutover import cutover
from daybreak.entry.finish import finish
from daybreak.entry.grants import grants
from daybreak.entry.infra import infra
from daybreak.entry.init import help_text, init
from daybreak.entry.options import DEFAULT_CONFIG, Json
from daybreak.entry.postpone import postpone
from daybreak.entry.reports import ErrorReport
from daybreak.entry.rewind import rewind
from daybreak.entry.rollback import rollback
from daybreak.entry.shift import shift
from daybreak.entry.start import start
from daybreak.entry.status import status
from daybreak.entry.verify import verify
from daybreak.errors import ConfigError

# Tracebacks of typer show local variables, and those hold passwords.
app = typer.Typer(
    help="Move a live PostgreSQL database to another server, and back, without losing a committed row.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(help=help_text())(init)
_VERBS: tuple[Callable[..., None], ...] = (
    check, start, status, verify, shift, cutover, rollback, abort, finish, postpone, adopt, grants, rewind,
)  # fmt: skip
for _verb in _VERBS:
    app.command()(_verb)
app.add_typer(infra, name="infra")
if importlib.util.find_spec("psutil") is not None:
    from daybreak.entry.rehearse import rehearse

    app.command()(rehearse)
else:

    @app.command("rehearse")
    def without_lab(as_json: Json = False) -> None:
        """Rehearse a migration on this machine; needs `pip install 'daybreak[lab]'`."""
        with command("rehearse", DEFAULT_CONFIG, as_json):
            raise ConfigError("The lab is not installed.", "Run `pip install 'daybreak[lab]'`.")


def main() -> None:
    """The console script. With ``--json`` an error in the command line itself is printed as an object too."""
    arguments = sys.argv[1:]
    if "--json" not in arguments:
        app(arguments)
    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        report = ErrorReport("usage", error.format_message(), "See `daybreak --help`.")
        typer.echo(json.dumps({"error": asdict(report)}, indent=2))
        sys.exit(USAGE)
    sys.exit(code)
