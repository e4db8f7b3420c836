"""``daybreak status``: where the migration stands. Takes charge of nothing."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated

import typer
from rich.live import Live

from daybreak.entry import render
from daybreak.entry.command import Command, command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.errors import ConfigError
from daybreak.wiring import Runtime

_REFRESH_SECONDS = 1.0

Watch = Annotated[bool, typer.Option("--watch", help="Refresh every second until the migration ends or Ctrl-C.")]


def status(config: Config = DEFAULT_CONFIG, as_json: Json = False, watch: Watch = False) -> None:
    """Show phase, primary, progress, lag and what is in the way, also while a server is down."""
    with command("status", config, as_json) as run:
        if watch and as_json:
            raise ConfigError("--watch and --json exclude each other: --json prints one object.", "Leave one out.")
        with run.runtime() as runtime:
            if watch:
                _watch(run, runtime)
            else:
                report = run.status(runtime)
                run.show(report, render.status(report))


def _watch(run: Command, runtime: Runtime) -> None:
    """Ctrl-C is how one leaves, not a failure."""
    with contextlib.suppress(KeyboardInterrupt), Live(console=run.out, auto_refresh=False) as live:
        while True:
            report = run.status(runtime)
            live.update(render.status(report), refresh=True)
            if report.phase.ended:
                return
            time.sleep(_REFRESH_SECONDS)
