"""Client programs of PostgreSQL as child processes: ended with us, their errors told in PostgreSQL's words.

On Linux a child also dies when its parent is killed (``PR_SET_PDEATHSIG``; prctl(2): when the *thread*
that started it ends, so the thread that starts one must wait for it). Elsewhere the next generation's
claim ends what was left. Secrets reach a child through its environment only.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from daybreak.errors import AdapterError, PermanentError, TransientError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
# psql and pg_restore print SQLSTATE where VERBOSITY is verbose: "ERROR:  53100: could not extend file".
_MESSAGE = re.compile(r"(?:ERROR|FATAL|PANIC):\s+(?:(?P<state>[0-9A-Z]{5}): )?(?P<text>.+)")
_LOST = (
    "server closed the connection",
    "could not connect",
    "connection to server",
    "terminating connection",
    "the database system is",
    "connection not open",
)
_TRANSIENT_STATES = ("08", "40", "53300", "55P03", "57P")


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start ``command`` with ``environment`` added to ours; standard error is captured."""
    return subprocess.Popen(
        list(command),
        env={**os.environ, **environment},
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=_die_with_parent,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End ``process`` and wait until it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def failure(where: str, stderr: bytes) -> AdapterError:
    """The error behind a failed program: TransientError where the connection was lost or a lock was not
    to be had, PermanentError with PostgreSQL's own message otherwise."""
    text = stderr.decode(errors="replace").strip()
    match = _MESSAGE.search(text)
    state = (match["state"] or "") if match else ""
    told = match["text"].strip() if match else (text.splitlines() or ["it ended without a message"])[-1]
    if state.startswith(_TRANSIENT_STATES) or (not state and any(lost in text for lost in _LOST)):
        return TransientError(f"{where}: {told}", "Run the same command again: it goes on where it stopped.")
    hint = "Free disk space there, then run the same command again." if state == "53100" else "See that server's log."
    return PermanentError(f"{where}: {told}", hint)
