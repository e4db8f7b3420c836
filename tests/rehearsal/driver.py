"""One verb of a migration in a process of its own, which ends or stops itself at a named point."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from rehearsal.points import Points

from daybreak.config import load_settings
from daybreak.controller import Event
from daybreak.entry.interrupts import Interrupts
from daybreak.errors import DaybreakError
from daybreak.model import Verb
from daybreak.switchover.adopt import rebuild_record
from daybreak.wiring import build

Said = dict[str, str]


def main(config: Path, verb: str, point: str, action: str, answer: Connection) -> None:
    """Run ``verb`` (``shift 30`` and ``adopt`` too), and at ``point`` (see ``points``) send the signal
    ``action`` to this process. Sends phase and primary, or the error, through ``answer``."""
    points, interrupts = Points(), Interrupts()
    waiting = [point]

    def listen(event: Event) -> None:
        if waiting[0] in points.of(event):
            waiting[0] = "never again"
            os.kill(os.getpid(), signal.Signals[f"SIG{action}"])
        interrupts.heed(event)

    settings = load_settings(config)
    with interrupts.caught(), build(settings, listen) as runtime:
        try:
            if verb == "adopt":
                record = runtime.controller.adopt(lambda seen: rebuild_record(settings.name, seen))
            else:
                name, _, percent = verb.partition(" ")
                record = runtime.controller.run(Verb(name), int(percent) if percent else None)
        except (DaybreakError, KeyboardInterrupt) as error:
            answer.send({"error": type(error).__name__, "message": str(error)})
            return
        answer.send({"phase": record.phase, "primary": record.primary})
