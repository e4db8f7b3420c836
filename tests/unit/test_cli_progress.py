"""What a running command tells: plain lines without floods, a live line on a terminal, the rate."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.progress import Progress as Bars

from daybreak.entry import words
from daybreak.entry.progress import LiveReporter, Meter, PlainReporter
from daybreak.events import Event
from daybreak.model import Progress, Step


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _console(terminal: bool = False) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, width=200, color_system=None)


def _text(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _load(done: int) -> Event:
    return Event("progress", progress=Progress("copying", 1, 2, done, 1000, 10, 3.0))


def test_rate_counts_from_the_first_report() -> None:
    clock = Clock()
    meter = Meter(clock)
    assert meter.rate(Progress("copying", bytes_done=5000)) is None
    clock.now += 2
    assert meter.rate(Progress("copying", bytes_done=6000)) == 500
    assert meter.rate(Progress("indexes", bytes_done=0)) is None
    assert meter.rate(Progress("indexes")) is None


def test_plain_progress_is_a_line_every_five_seconds() -> None:
    console, clock = _console(), Clock()
    tell = PlainReporter(console, clock)
    tell(Event("intend", Step.LOAD))
    for _ in range(20):
        tell(_load(100))
        clock.now += 1
    tell(Event("done", Step.LOAD))
    lines = _text(console).splitlines()
    assert len([line for line in lines if "copying" in line]) == 4
    assert lines[-1].endswith("done in 20.0 s")


def test_waits_and_retries_say_why() -> None:
    console = _console()
    tell = PlainReporter(console, Clock())
    tell(Event("wait", text="catching up: lag 3.0 s"))
    tell(Event("wait", text="catching up: lag 2.9 s"))
    tell(Event("retry", text="target: connection refused\nCheck that it runs."))
    tell(Event("mark", Step.SWITCH, "held"))
    assert _text(console).splitlines() == [
        "catching up: lag 3.0 s", "trying again: target: connection refused", "  held"
    ]  # fmt: skip


def test_live_lines_take_nothing_for_markup() -> None:
    console = _console(terminal=True)
    with Bars(console=console, disable=True) as bars:
        tell = LiveReporter(console, bars, Clock())
        tell(Event("intend", Step.LOAD))
        tell(_load(500))
        tell(Event("wait", text="waiting for [red]"))
        tell(Event("retry", text="table [odd/name] failed"))
        tell(Event("mark", Step.SWITCH, "held"))
        tell(Event("done", Step.LOAD))
        tell(Event("wait", text="more"))
    text = _text(console)
    assert "trying again: table [odd/name] failed" in text
    assert "✓ copy all rows under one snapshot" in text


def test_every_step_has_words() -> None:
    assert all(words.what(step) for step in Step)


def test_durations_read_well() -> None:
    assert [words.duration(value) for value in (None, 0.0042, 4.24, 119, 3700)] == [
        "unknown", "4 ms", "4.2 s", "119.0 s", "1 hour and 2 minutes"
    ]  # fmt: skip
