"""PostgreSQL's client programs as children that never outlive this process and never tell a secret.

A child ends with its parent, even one that was killed: Linux signals it when the *thread* that started
it ends (prctl(2), PR_SET_PDEATHSIG), so a thread must reap its children before it ends, as ``started``
does. Elsewhere the sessions end when a newer generation claims the databases. Each child is its own
process group: Ctrl-C reaches this process alone, which then ends its children in order.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn

import psycopg
from psycopg import errors

from daybreak.errors import StateConflict
from daybreak.postgres.control import STALE_GENERATION
from daybreak.postgres.server import translated

# A fork with a hook (preexec_fn) is unsafe in a process with threads, so the child sets itself up and
# then becomes the program. If the parent died before prctl took effect, nobody would signal it.
# Python ignores SIGPIPE, programs expect that it ends them.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_TERMINATE_SECONDS = 5.0
_ERROR_BYTES = 8000
# psql with VERBOSITY=verbose: "ERROR:  42P01: relation .. does not exist".
_WITH_STATE = re.compile(r"(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5}): ")
_NOISE = re.compile(r"^LOCATION: .*\n?", re.MULTILINE)
# pg_dump reports no SQLSTATE. With LC_ALL=C libpq's own words are these; the server's may be translated.
_LOST = ("connection to server", "server closed the connection", "could not receive data", "could not send data")


@contextmanager
def started(
    arguments: Sequence[str], environment: Mapping[str, str], stdin: int | None = None, stdout: int | None = None
) -> Iterator[Child]:
    """Start a program that has ended, well or by force, when the block ends.

    ``environment`` is added to this process's own and may hold a password; it is never shown.
    ``stdin`` and ``stdout`` are file descriptors; without them there is no input, and the output is
    kept for ``Child.output``."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            _tied_to_this_process(arguments),
            env={**os.environ, **environment, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=output if stdout is None else stdout,
            stderr=complaints,
            process_group=0,
        )
        child = Child(Path(arguments[0]).name, process, output, complaints, environment.get("PGPASSWORD", ""))
        try:
            yield child
        finally:
            child.end()


@dataclass(frozen=True)
class Child:
    """A running program. Start, wait and end it in one thread."""

    name: str
    _process: subprocess.Popen[bytes] = field(repr=False)
    _output: IO[bytes] = field(repr=False)
    _complaints: IO[bytes] = field(repr=False)
    _secret: str = field(repr=False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def finished(self, timeout_seconds: float | None = None) -> bool:
        """Wait for its end, at most so long; whether it has ended."""
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Terminate and reap it, killing it where it does not go. Does nothing once it has ended.

        SIGTERM first: pg_dump cancels its query on the server on the way out."""
        if self._process.poll() is None:
            self._process.terminate()
            if not self.finished(_TERMINATE_SECONDS):
                self._process.kill()
                self._process.wait()

    @property
    def failed(self) -> bool:
        """Whether it has ended otherwise than well."""
        return self._process.poll() not in (None, 0)

    def output(self) -> bytes:
        """What it wrote so far."""
        return _content(self._output, None)

    def complaint(self) -> str:
        """The end of what it wrote to standard error, without the password."""
        text = _content(self._complaints, _ERROR_BYTES).decode(errors="replace").strip()
        return text.replace(self._secret, "***") if self._secret else text

    def raise_failure(self, where: str) -> None:
        """Raise what it said on standard error as TransientError, PermanentError or StateConflict;
        does nothing where it ended well."""
        if self.failed:
            raise_tool_error(where, self.complaint() or f"{self.name} ended with status {self._process.returncode}")


def run(where: str, arguments: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Run a program to its end and return what it wrote; raises like ``Child.raise_failure``."""
    with started(arguments, environment) as child:
        child.finished()
        child.raise_failure(where)
        return child.output()


def raise_tool_error(where: str, text: str) -> NoReturn:
    """Raise the DaybreakError that the same error in a session of our own would have become."""
    error = _as_psycopg_error(_NOISE.sub("", text).strip())
    if error.sqlstate == STALE_GENERATION:
        raise StateConflict(
            f"{where}: a newer Daybreak took charge.", "This one changed nothing more. See `daybreak status`."
        )
    with translated(where):
        raise error


def _as_psycopg_error(text: str) -> psycopg.Error:
    if state := _WITH_STATE.search(text):
        try:
            return errors.lookup(state.group(1))(text)
        except KeyError:
            unknown = psycopg.DatabaseError(text)
            unknown.sqlstate = state.group(1)
            return unknown
    if "No space left on device" in text:
        return errors.DiskFull(text)
    if any(words in text for words in _LOST):
        return psycopg.OperationalError(text)
    return psycopg.DatabaseError(text)


def _tied_to_this_process(arguments: Sequence[str]) -> list[str]:
    if sys.platform != "linux":
        return list(arguments)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *arguments]


def _content(file: IO[bytes], last: int | None) -> bytes:
    """By descriptor and position: the child shares the file's offset and may still write."""
    size = os.fstat(file.fileno()).st_size
    start = 0 if last is None else max(0, size - last)
    return os.pread(file.fileno(), size - start, start)
