"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("daybreak.toml")

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The migration's configuration.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask for the migration's name.")]
Planned = Annotated[bool, typer.Option("--plan", help="Print steps and gates, and do nothing; exit 1 if one is red.")]
