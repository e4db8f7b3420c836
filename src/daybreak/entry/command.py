"""What all commands share: settings and runtime, one JSON object or text for people, errors, exit codes.

Standard output holds the result and nothing else; progress, logs, questions and (without ``--json``) errors
go to standard error. Exit codes: 0 done, 1 refused or failed, 2 usage or configuration, 130 or 143 ended
by a signal."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import typer
from rich.console import Console, RenderableType
from rich.logging import RichHandler
from rich.text import Text

from daybreak.config import Settings, load_settings
from daybreak.entry.interrupts import Interrupts
from daybreak.entry.progress import watching
from daybreak.entry.reports import ErrorReport
from daybreak.entry.status_report import StatusReport
from daybreak.errors import ConfigError, DaybreakError, Refused
from daybreak.events import Event
from daybreak.wiring import Runtime, build

FAILED, USAGE = 1, 2
_SIGNALLED = 128
_WIDE = 160


def on_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def _console(stderr: bool) -> Console:
    """A console that never takes ``[target]`` in a message for markup, and does not cut lines in a pipe."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(stderr=stderr, markup=False, highlight=False, width=_WIDE)


@dataclass
class Command:
    """One running command."""

    verb: str
    config: Path
    json: bool
    out: Console = field(default_factory=lambda: _console(stderr=False))
    err: Console = field(default_factory=lambda: _console(stderr=True))
    interrupts: Interrupts = field(default_factory=Interrupts)

    @cached_property
    def settings(self) -> Settings:
        """The configuration; raises ConfigError."""
        return load_settings(self.config)

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        """The runtime, its progress shown on standard error while the block runs."""
        settings = self.settings
        with watching(self.err) as tell:

            def listen(event: Event) -> None:
                tell(event)
                self.interrupts.heed(event)

            with build(settings, listen) as runtime:
                yield runtime

    def status(self, runtime: Runtime) -> StatusReport:
        """The migration as it is now."""
        controller = runtime.controller
        record = controller.record()
        seen = controller.observe(record)
        return StatusReport.of(record, seen, runtime.settings.policy(), runtime.store.journal(record.name))

    def show(self, report: object, *parts: RenderableType) -> None:
        """Print the result: ``report`` as JSON, or ``parts`` for people."""
        if self.json:
            self._print_json(asdict(report))  # type: ignore[call-overload]
            return
        for part in parts:
            self.out.print(Text(part) if isinstance(part, str) else part, soft_wrap=isinstance(part, str))

    def confirm(self, what: str, yes: bool, name: str = "") -> None:
        """Have the operator type the migration's ``name`` (default: that in the configuration). Raises
        ConfigError without a terminal, Refused for any other answer."""
        name = name or self.settings.name
        if yes:
            return
        if not on_terminal():
            raise ConfigError(
                f"This would {what}, and there is no terminal to ask on.", f"Add --yes to do it for {name}."
            )
        try:
            answer = self.err.input(Text(f"This will {what}.\nType the migration's name to go on: ")).strip()
        except EOFError:
            answer = ""
        if answer != name:
            raise Refused(f"{answer!r} is not {name}.", "Nothing was done.")

    def fail(self, error: ErrorReport) -> None:
        """Print why the command failed."""
        if self.json:
            self._print_json({"error": asdict(error)})
        self.err.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
        if error.hint:
            self.err.print(Text.assemble(("next: ", "bold"), error.hint), soft_wrap=True)

    def _print_json(self, value: object) -> None:
        typer.echo(json.dumps(value, default=_plain, indent=2))


@contextmanager
def command(verb: str, config: Path, as_json: bool, resume: str = "") -> Iterator[Command]:
    """Run a command's body; turn every error into its message and exit code (``typer.Exit``).

    ``resume`` says how to go on after Ctrl-C; without it nothing was changed that could be gone on with."""
    run = Command(verb, config, as_json)
    try:
        with run.interrupts.caught(), _logging_to(run.err):
            yield run
    except KeyboardInterrupt:
        hint = resume or "Nothing was changed."
        run.fail(ErrorReport("interrupted", "Interrupted.", hint))
        raise typer.Exit(_SIGNALLED + (run.interrupts.received or 2)) from None
    except ConfigError as error:
        run.fail(ErrorReport.of(error))
        raise typer.Exit(USAGE) from None
    except DaybreakError as error:
        run.fail(ErrorReport.of(error))
        raise typer.Exit(FAILED) from None
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:
        run.err.print(Text(traceback.format_exc()), soft_wrap=True)
        hint = "This is a bug in Daybreak; please report it with the traceback on standard error. " + resume
        run.fail(ErrorReport("bug", f"{type(error).__name__}: see the traceback.", hint.strip()))
        raise typer.Exit(FAILED) from None


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


@contextmanager
def _logging_to(console: Console) -> Iterator[None]:
    """Log records go to standard error: coloured on a terminal, with a time stamp elsewhere."""
    handler: logging.Handler = logging.StreamHandler(console.file)
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("daybreak").setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
