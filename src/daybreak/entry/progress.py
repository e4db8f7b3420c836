"""What a running command tells on standard error: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from daybreak.entry import words
from daybreak.events import Event, Listener
from daybreak.model import Progress

Clock = Callable[[], float]
_PLAIN_SECONDS = 5.0


class Meter:
    """Bytes per second since the first report of one piece of work, which may have begun earlier."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first: tuple[str, float, int] | None = None

    def rate(self, report: Progress) -> float | None:
        """The rate so far; None until there is one."""
        if report.bytes_done is None:
            return None
        now = self._clock()
        if self._first is None or self._first[0] != report.what:
            self._first = (report.what, now, report.bytes_done)
        _, began, done = self._first
        return (report.bytes_done - done) / (now - began) if now > began else None


class PlainReporter:
    """Lines for a log: every step and retry, and of progress and waits one every few seconds."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._meter = Meter(clock)
        self._began = clock()
        self._last: tuple[str, float] = ("", 0.0)

    def __call__(self, event: Event) -> None:
        """Print what ``event`` is worth."""
        name = "" if event.step is None else words.what(event.step)
        match event.kind:
            case "intend":
                self._began = self._clock()
                self._print(f"{name} ...")
            case "done":
                self._print(f"{name}: done in {words.duration(self._clock() - self._began)}")
            case "mark":
                self._print(f"  {event.text}")
            case "retry":
                self._print(f"trying again: {_first_line(event.text)}")
            case "wait":
                self._now_and_then("wait", event.text)
            case "progress" if event.progress is not None:
                report = event.progress
                details = words.progress(report, self._meter.rate(report))
                self._now_and_then(report.what, f"  {report.what}: {details}" if details else f"  {report.what}")

    def _now_and_then(self, topic: str, line: str) -> None:
        last, at = self._last
        if last != topic or self._clock() - at >= _PLAIN_SECONDS:
            self._last = (topic, self._clock())
            self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


class LiveReporter:
    """One moving line for the current step above which finished steps, marks and retries scroll away."""

    def __init__(self, console: Console, bars: Bars, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._bars = bars
        self._clock = clock
        self._meter = Meter(clock)
        self._began = clock()
        self._task: TaskID | None = None

    def __call__(self, event: Event) -> None:
        """Show what ``event`` says."""
        name = "" if event.step is None else words.what(event.step)
        match event.kind:
            case "intend":
                self._began = self._clock()
                self._restart(name)
            case "done":
                self._drop()
                self._console.print(Text.assemble(("✓ ", "green"), name, (f"  {self._spent()}", "dim")))
            case "mark":
                self._console.print(Text(f"  {event.text}  {self._spent()}", "dim"))
            case "retry":
                self._console.print(Text(f"trying again: {_first_line(event.text)}", "yellow"))
            case "wait":
                self._update("waiting", event.text, None, None)
            case "progress" if event.progress is not None:
                report = event.progress
                details = words.progress(report, self._meter.rate(report))
                self._update(report.what, details, report.bytes_done, report.bytes_total)

    def _spent(self) -> str:
        return words.duration(self._clock() - self._began)

    def _restart(self, name: str) -> None:
        self._drop()
        self._task = self._bars.add_task(name, total=None, detail="")

    def _drop(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None

    def _update(self, name: str, detail: str, done: int | None, total: int | None) -> None:
        if self._task is None:
            self._restart(name)
        assert self._task is not None
        self._bars.update(self._task, description=name, detail=detail, completed=done or 0, total=total)


@contextmanager
def watching(console: Console) -> Iterator[Listener]:
    """A listener that tells ``console`` in the way that suits it."""
    if not console.is_terminal:
        yield PlainReporter(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield LiveReporter(console, bars)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
