"""Ctrl-C and SIGTERM, which end a command at any point but one: between the commit point and the opening
no side takes writes, so a first signal inside a switchover's hot part waits until that is over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from daybreak.events import Event
from daybreak.model import Step


class Interrupts:
    """Turns signals into KeyboardInterrupt, at once or after the hot part."""

    def __init__(self) -> None:
        self.received: int = 0
        self._hot = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Handle the signals inside; put the former handlers back at the end."""
        former = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def heed(self, event: Event) -> None:
        """Hear of every event of the controller. Raises KeyboardInterrupt for a signal that had to wait."""
        if event.kind in {"mark", "progress"}:
            return
        self._hot = event.kind == "intend" and event.step is Step.SWITCH
        if self.received:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        waiting = self._hot and not self.received
        self.received = number
        if not waiting:
            raise KeyboardInterrupt
