"""The objects that ``--json`` prints, as frozen types; docs/commands.md describes every field.

Sizes are in bytes and times in seconds unless a name says otherwise; moments are ISO 8601 in UTC. None
(``null``) means not known or not there, never zero."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from daybreak.errors import DaybreakError, Difference, Finding, PreflightFailed
from daybreak.model import (
    Gate,
    Phase,
    Plan,
    PlannedStep,
    Side,
    Switchover,
    SwitchTimings,
    Verb,
    Verification,
)


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Why a command failed. ``findings`` only where the preflight did."""

    kind: str
    message: str
    hint: str
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, error: DaybreakError) -> ErrorReport:
        """``error`` in this form; its kind is the public class in kebab-case without "error"."""
        name = next(kind.__name__ for kind in type(error).__mro__ if not kind.__name__.startswith("_"))
        name = name.removesuffix("Error")
        kind = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).strip("-")
        findings = error.findings if isinstance(error, PreflightFailed) else ()
        return cls(kind, error.message, error.hint, findings)


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """One comparison. ``complete`` is false where its time limit ended it."""

    at: datetime
    tables: int
    rows: int
    seconds: float
    complete: bool
    clean: bool
    differences: tuple[Difference, ...]
    details: tuple[str, ...]

    @classmethod
    def of(cls, found: Verification) -> VerificationReport:
        """``found`` in this form."""
        differences = tuple(_difference(line) for line in found.differences)
        return cls(
            found.at, found.tables, found.rows, found.seconds, found.complete, found.clean, differences,
            found.differences,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """The comparison of the fence-point snapshots, or why there is none."""

    outcome: Literal["equal", "different", "incomplete", "none"]
    reason: str
    comparison: VerificationReport | None

    @classmethod
    def of(cls, switch: Switchover) -> CertificateReport:
        """The certificate of ``switch``."""
        found = switch.certificate
        if found is not None:
            outcome: Literal["equal", "different", "incomplete"] = "equal"
            reason = "both sides held the same rows at the fence"
            if found.differences:
                outcome, reason = "different", "see differences"
            elif not found.complete:
                outcome, reason = "incomplete", "the comparison took longer than cutover.certificate_seconds"
            return cls(outcome, reason, VerificationReport.of(found))
        if switch.backed_out:
            return cls("none", "the switchover backed out", None)
        if not switch.certified:
            return cls("none", "not compared yet", None)
        return cls("none", "the controller that held the snapshots ended before it compared them", None)


@dataclass(frozen=True, slots=True)
class SwitchoverReport:
    """One switchover. ``step_ms`` has the milliseconds of each hot step in the order they were taken."""

    number: int
    to: Side
    started_at: datetime
    write_pause_ms: float | None
    step_ms: dict[str, float] | None
    routed: bool
    outcome: str
    certificate: CertificateReport

    @classmethod
    def of(cls, switch: Switchover) -> SwitchoverReport:
        """``switch`` in this form."""
        timings = switch.timings
        pause, steps = (None, None) if timings is None else (timings.write_pause_ms, _each(timings))
        outcome = switch.outcome or (f"backing out: {switch.backed_out}" if switch.backed_out else "under way")
        certificate = CertificateReport.of(switch)
        return cls(switch.number, switch.to, switch.started_at, pause, steps, switch.routed, outcome, certificate)


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What a verb would do now. ``ready`` where every gate is green."""

    verb: Verb
    ready: bool
    steps: tuple[PlannedStep, ...]
    gates: tuple[Gate, ...]

    @classmethod
    def of(cls, plan: Plan) -> PlanReport:
        """``plan`` in this form."""
        return cls(plan.verb, plan.ready, plan.steps, plan.gates)


@dataclass(frozen=True, slots=True)
class MoveReport:
    """The end of ``cutover`` and ``rollback``; ``switchover`` is null where nothing had to be done."""

    name: str
    phase: Phase
    primary: Side
    read_weight: int
    switchover: SwitchoverReport | None


def _difference(line: str) -> Difference:
    """A table that differs as a whole, from its line (``public.t: 120 rows on source, 119 on target``)."""
    table, _, text = line.rpartition(": ") if line.count(": ") == 1 else line.partition(": ")
    kind: Literal["missing", "extra", "changed"] = "changed"
    if text.startswith("missing on "):
        kind = "missing" if text.endswith(str(Side.TARGET)) else "extra"
    return Difference(table, "", kind)


def _each(timings: SwitchTimings) -> dict[str, float]:
    """The hot steps one by one; the timings count from the beginning."""
    ends = {
        "hold": timings.held_ms,
        "drain": timings.drained_ms,
        "snapshot": timings.snapshot_ms,
        "sequences": timings.sequences_ms,
        "commit": timings.committed_ms,
        "open": timings.opened_ms,
    }
    spent = [after - before for before, after in pairwise((0.0, *ends.values()))]
    return dict(zip(ends, spent, strict=True))
