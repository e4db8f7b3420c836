"""One verb of a migration in a process of its own, which ends or stops itself at a named point.

    python -m rehearsal.driver daybreak.toml VERB [POINT SIGNAL]

POINT is a name of ``rehearsal.points``, SIGNAL what the process sends to itself there
(KILL, STOP, INT). Prints one JSON line: the phase and primary at the end, or the error."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from rehearsal.points import Points

from daybreak.config import load_settings
from daybreak.controller import Event
from daybreak.entry.interrupts import Interrupts
from daybreak.errors import DaybreakError
from daybreak.model import Verb
from daybreak.switchover.adopt import rebuild_record
from daybreak.wiring import build


def main(config: str, verb: str, point: str = "", action: str = "KILL") -> int:
    """Run ``verb`` (or ``adopt``); returns the exit code."""
    points, interrupts = Points(), Interrupts()
    waiting = [point]

    def listen(event: Event) -> None:
        if waiting[0] in points.of(event):
            waiting[0] = "never again"
            os.kill(os.getpid(), signal.Signals[f"SIG{action}"])
        interrupts.heed(event)

    settings = load_settings(Path(config))
    with interrupts.caught(), build(settings, listen) as runtime:
        try:
            if verb == "adopt":
                record = runtime.controller.adopt(lambda seen: rebuild_record(settings.name, seen))
            else:
                name, _, percent = verb.partition(" ")
                record = runtime.controller.run(Verb(name), int(percent) if percent else None)
        except DaybreakError as error:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
            return 1
        except KeyboardInterrupt:
            print(json.dumps({"error": "KeyboardInterrupt", "message": ""}))
            return 130
        print(json.dumps({"phase": record.phase, "primary": record.primary}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
