"""The error hierarchy. A leaf: imported by everything, imports nothing of Daybreak.

Every error says what happened (``message``) and what to do next (``hint``), because both are
read at 2 a.m. Neither ever holds a password or a DSN that contains one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["blocker", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a preflight check, as ``check --json`` prints it.

    ``id`` is stable and kebab-case (``wal-level``); ``object`` names the server, role, setting
    or table it speaks of; ``fix`` is a command or statement the reader can run.
    """

    id: str
    severity: Severity
    object: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One disagreement between source and target. ``key`` is empty where a whole table differs."""

    table: str
    key: str
    kind: Literal["missing", "extra", "changed"]


class DaybreakError(Exception):
    """Base of all errors that Daybreak raises on purpose.

    ``message`` says what happened and why, ``hint`` what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(DaybreakError):
    """The configuration is missing, malformed or contradicts itself. Exit code 2."""


class PreflightFailed(DaybreakError):
    """``check`` found blockers; ``findings`` lists all of them."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        lines = "\n".join(f"  {f.id} ({f.object}): {f.message}\n    fix: {f.fix}" for f in findings)
        super().__init__(
            f"{len(findings)} blocker(s) stand in the way:\n{lines}", "Mend them and run the command again."
        )
        self.findings = findings


class StateConflict(DaybreakError):
    """Somebody else moved the record or holds a higher generation; this process must stop acting."""


class ControllerAtWork(StateConflict):
    """Another controller of this migration is connected; nothing was done."""


class InvariantViolated(DaybreakError):
    """Something that Daybreak guarantees was observed not to hold; it stops rather than guess."""


class Refused(DaybreakError):
    """The operator's intent was refused or backed out; nothing has changed for the application."""


class VerificationFailed(DaybreakError):
    """Both sides were compared and do not agree."""

    def __init__(self, differences: tuple[Difference, ...]) -> None:
        lines = "\n".join(f"  {d.table}: {d.kind} {d.key}".rstrip() for d in differences[:20])
        super().__init__(
            f"{len(differences)} difference(s) between source and target:\n{lines}",
            "No traffic was moved by this. Look at the named tables on both sides before a cutover.",
        )
        self.differences = differences


class AdapterError(DaybreakError):
    """Something outside (PostgreSQL, PgBouncer, a tool) failed."""


class TransientError(AdapterError):
    """Worth trying again by itself: connection lost, lock timeout, server starting up."""


class PermanentError(AdapterError):
    """Will fail again until somebody changes something: permission, syntax, missing object."""
