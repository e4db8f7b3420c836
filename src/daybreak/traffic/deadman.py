"""The dead-man's switch of a PgBouncer pause: a small process of its own that ends the pause if the
controller does not. PgBouncer itself keeps a database paused for ever when whoever paused it is gone.

It reads one JSON line (console, entries, seconds) from standard input, never from arguments or
environment, for it holds a password; answers ``ready`` once it has a console session; and resumes
the entries when its input ends without ``done`` (the controller died), after ``seconds`` (the
controller hangs or is stopped), or when it is told to end itself.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from typing import NoReturn

import tenacity

from daybreak.errors import AdapterError, TransientError
from daybreak.traffic.console import Console

_START_SECONDS = 15.0
_DONE = b"done\n"


@dataclass(frozen=True, slots=True)
class Deadman:
    """The controller's end: ``start`` it before pausing, ``dismiss`` it after resuming."""

    _process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, dsn: str, entries: Sequence[str], seconds: float) -> Deadman:
        """Start the process and wait until it is ready; its ``seconds`` count from then.

        Raises TransientError where it can't reach the console: then nothing may be paused."""
        process = subprocess.Popen(
            [sys.executable, "-m", "daybreak.traffic.deadman"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the controller's terminal must not reach it
        )
        assert process.stdin is not None
        assert process.stdout is not None
        deadman = cls(process)
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps({"dsn": dsn, "entries": list(entries), "seconds": seconds}).encode() + b"\n")
            process.stdin.flush()
        answer = b""
        if select.select([process.stdout], [], [], _START_SECONDS)[0]:
            answer = process.stdout.readline().strip()
        if answer != b"ready":
            deadman.dismiss()
            raise TransientError(
                f"The process that would end a PgBouncer pause did not start: {answer.decode() or 'no answer'}",
                "Nothing was paused. Check traffic.pgbouncer.admin_dsn and run the command again.",
            )
        return deadman

    def dismiss(self) -> None:
        """End it without effect. May be called again, and after it has acted."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            if not self._process.stdin.closed:
                self._process.stdin.write(_DONE)
                self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def main() -> None:
    """The process itself."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _end)
    with FileIO(0, closefd=False) as stdin:  # unbuffered, or select would not see what is read ahead
        order = json.loads(stdin.readline())
        try:
            console = Console(order["dsn"])
        except AdapterError as error:
            print(error.message.replace("\n", " "), flush=True)
            return
        print("ready", flush=True)
        dismissed = False
        try:
            if select.select([stdin], [], [], order["seconds"])[0]:
                dismissed = stdin.readline() == _DONE
        finally:
            if not dismissed:
                _resume(console, order["entries"])
            console.close()


def _end(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(1)


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(AdapterError),
    wait=tenacity.wait_fixed(0.5),
    stop=tenacity.stop_after_delay(60),
)
def _resume(console: Console, entries: Sequence[str]) -> None:
    console.resume(entries)


if __name__ == "__main__":
    main()
