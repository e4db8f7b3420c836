"""Names for the moments of a run at which a test can step in."""

from __future__ import annotations

from collections.abc import Callable

from daybreak.events import Event, Listener
from daybreak.model import Step


class Points:
    """Names the events of one run."""

    def __init__(self) -> None:
        self._step: Step | None = None

    def of(self, event: Event) -> list[str]:
        """``intend load``, ``done load``, ``mark committed``; of progress ``during load`` and, when a
        table is finished, ``table of load``."""
        if event.kind in {"intend", "done"}:
            self._step = event.step
            return [f"{event.kind} {event.step}"]
        if event.kind == "mark":
            return [f"mark {event.text}"]
        if event.progress is not None:
            named = [f"during {self._step}"]
            return [*named, f"table of {self._step}"] if event.progress.tables_done else named
        return [event.kind]


def at(point: str, act: Callable[[], object]) -> Listener:
    """A listener that does ``act`` once, when the run comes to ``point``."""
    points, pending = Points(), [act]

    def listen(event: Event) -> None:
        if pending and point in points.of(event):
            pending.pop()()

    return listen
