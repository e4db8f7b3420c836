"""Terraform as a program: found, run in a directory of its own, followed line by line, interrupted with care.

Terraform must never be killed in the middle: what it made since would be missing from its state. So its
output goes to a file (a broken pipe would end it), it is its own process group (Ctrl-C reaches this process
alone, which passes on exactly one signal; a second would make Terraform drop everything), and where
Daybreak is killed Terraform goes on to the end of what was approved."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import IO, Any

from daybreak.errors import ConfigError, PermanentError
from daybreak.infra.complaints import Complaint, raise_complaints
from daybreak.infra.plan import Plan

# Write-only arguments keep passwords out of plan and state; they came with 1.11.
MINIMUM = (1, 11)
INSTALL = "Install Terraform 1.11 or newer: https://developer.hashicorp.com/terraform/install"
_PLAN = "daybreak.tfplan"
_POLL_SECONDS = 0.1
_DOING = {"create": ("creating", "created"), "update": ("changing", "changed"), "delete": ("destroying", "destroyed")}


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that Terraform said. ``total`` is 0 where it is not known beforehand."""

    done: int
    total: int
    text: str


Listener = Callable[[Progress], None]


def find_terraform() -> Path:
    """The ``terraform`` in PATH; raises ConfigError where there is none or it is too old."""
    found = shutil.which("terraform")
    if found is None:
        raise ConfigError("terraform is not installed (not found in PATH).", INSTALL)
    shown = subprocess.run([found, "version", "-json"], env=_environment({}), capture_output=True, text=True)
    try:
        version = str(json.loads(shown.stdout)["terraform_version"])
        major, minor = map(int, version.split(".")[:2])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{found} does not tell its version: {shown.stderr.strip()}", INSTALL) from None
    if (major, minor) < MINIMUM:
        raise ConfigError(f"{found} is Terraform {version}, which is too old.", INSTALL)
    return Path(found)


@dataclass
class Terraform:
    """Terraform in the directory of a synthesised stack.

    ``variables`` are its input variables; they reach Terraform in its environment only and are taken out
    of everything that is shown. Every method raises PermanentError with the resource and AWS's message,
    StateConflict where somebody else holds the lock, and KeyboardInterrupt after Terraform has stopped
    cleanly because of a signal."""

    directory: Path
    variables: Mapping[str, str] = field(repr=False)
    listener: Listener = lambda _progress: None

    def init(self) -> None:
        """Fetch the provider and prepare the state's backend. May be repeated."""
        complaints = self._try("init", "-input=false", "-json")
        # The lock file names the provider that an older Daybreak used; the stack pins the one it needs.
        if any("-upgrade" in one.detail for one in complaints):
            complaints = self._try("init", "-input=false", "-json", "-upgrade")
        self._raise(complaints)

    def plan(self, destroy: bool = False) -> Plan:
        """Compare with AWS and keep the plan for ``apply``; with ``destroy`` the plan of removing everything."""
        kind = ["-destroy"] if destroy else []
        self._raise(self._try("plan", "-input=false", "-json", f"-out={_PLAN}", *kind))
        return Plan.parse(self._answer("show", "-json", _PLAN))

    def apply(self, plan: Plan) -> None:
        """Do what the last ``plan`` said, no more and no less."""
        self._raise(self._try("apply", "-input=false", "-json", _PLAN, total=plan.steps))
        (self.directory / _PLAN).unlink()

    def forget(self, address: str) -> None:
        """Take ``address`` out of the state and leave it in AWS as it is. Plans made before no longer apply."""
        self._raise(self._try("state", "rm", address))

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs; empty where nothing was applied."""
        return {name: one["value"] for name, one in json.loads(self._answer("output", "-json")).items()}

    @cached_property
    def _program(self) -> Path:
        return find_terraform()

    def _answer(self, *arguments: str) -> str:
        """What a command that only reads prints."""
        with self._started(arguments) as (process, output, complaints):
            process.wait()
            if process.returncode != 0:
                raise PermanentError(
                    f"terraform {arguments[0]} failed: {self._redacted(_all(complaints))}",
                    "Run the same command again; if it stays, see the message.",
                )
            return _all(output)

    def _try(self, *arguments: str, total: int = 0) -> list[Complaint]:
        """Run a command that prints JSON lines; what it complained about, empty where it ended well."""
        with _signals_passed_on(self._waiting) as passing, self._started(arguments) as (process, output, errors):
            passing.to(process)
            followed = _Followed(total)
            for line in _lines(process, output):
                heard = followed.hear(line)
                if heard is not None:
                    self.listener(heard)
            if process.returncode == 0:
                return []
            return followed.complaints or [Complaint("", f"terraform {arguments[0]} failed", _all(errors))]

    def _raise(self, complaints: list[Complaint]) -> None:
        if complaints:
            hidden = [Complaint(c.address, self._redacted(c.summary), self._redacted(c.detail)) for c in complaints]
            raise_complaints(hidden, self.directory)

    def _redacted(self, text: str) -> str:
        for secret in filter(None, self.variables.values()):
            text = text.replace(secret, "***")
        return text

    def _waiting(self) -> None:
        self.listener(Progress(0, 0, "Interrupted: waiting for Terraform to stop cleanly and keep its state ..."))

    @contextmanager
    def _started(self, arguments: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
        command = [str(self._program), f"-chdir={self.directory}", *arguments]
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            yield (
                subprocess.Popen(
                    command,
                    env=_environment(self.variables),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    process_group=0,
                    umask=0o077,  # state and plan are for their owner only
                ),
                output,
                errors,
            )


class _Followed:
    """Terraform's log, line by line (Terraform documentation, machine-readable UI)."""

    def __init__(self, total: int) -> None:
        self.complaints: list[Complaint] = []
        self._done, self._total = 0, total

    def hear(self, line: str) -> Progress | None:
        """Take one line; what there is to show for it."""
        try:
            said = json.loads(line)
        except ValueError:
            return None
        if said.get("type") == "diagnostic" and said["diagnostic"]["severity"] == "error":
            found = said["diagnostic"]
            self.complaints.append(Complaint(found.get("address", ""), found["summary"], found["detail"]))
        hook = said.get("hook", {})
        doing, did = _DOING.get(hook.get("action", ""), ("", ""))
        if not doing or not str(said["type"]).startswith("apply_"):
            return None
        address, seconds = hook["resource"]["addr"], hook.get("elapsed_seconds", 0)
        if said["type"] == "apply_errored":
            return Progress(self._done, self._total, f"{address} failed after {seconds} s")
        if said["type"] == "apply_complete":
            self._done += 1
            return Progress(self._done, self._total, f"{address} {did} in {seconds} s")
        return Progress(self._done, self._total, f"{address} {doing}" + (f" {seconds} s" if seconds else ""))


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    passed = {f"TF_VAR_{name}": value for name, value in variables.items()}
    return {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **passed}


class _Passing:
    """Hands on the first signal, as an interrupt, to a process that may not have been started yet."""

    def __init__(self, told: Callable[[], None]) -> None:
        self.received = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._told = told

    def to(self, process: subprocess.Popen[bytes]) -> None:
        """This is the process."""
        self._process = process
        if self.received:
            process.send_signal(signal.SIGINT)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.received:
            return
        self.received = number
        self._told()
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)


@contextmanager
def _signals_passed_on(told: Callable[[], None]) -> Iterator[_Passing]:
    """Pass on SIGINT and SIGTERM while the block runs; afterwards the first of them has its usual effect."""
    passing = _Passing(told)
    former = {number: signal.signal(number, passing) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield passing
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if passing.received:
            signal.raise_signal(passing.received)


def _lines(process: subprocess.Popen[bytes], output: IO[bytes]) -> Iterator[str]:
    """The lines that ``process`` writes, until it has ended."""
    position, rest = 0, b""
    while True:
        ended = process.poll() is not None
        # By descriptor and position: the child shares the file's offset.
        while chunk := os.pread(output.fileno(), 65536, position):
            position += len(chunk)
            *complete, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in complete)
        if ended:
            return
        time.sleep(_POLL_SECONDS)


def _all(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace").strip()
