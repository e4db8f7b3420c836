"""Reports for people, as rich tables. Whatever comes from a server or a file goes in as ``Text``, so that
nothing in it is taken for markup."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from daybreak.entry import words
from daybreak.entry.reports import CertificateReport, SwitchoverReport, VerificationReport
from daybreak.entry.status_report import ServerReport, StatusReport
from daybreak.errors import Finding
from daybreak.model import Phase, Plan

_RUNNING = frozenset({Phase.LOADING, Phase.STREAMING, Phase.SWITCHING})
_SEVERITY = {"blocker": "bold red", "warning": "yellow", "info": "dim"}


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> Table:
    """A plain table; every cell wraps rather than being cut."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and values, one pair a line."""
    made = Table.grid(padding=(0, 2))
    for name, value in pairs:
        made.add_row(Text(name, "bold"), Text(value))
    return made


def status(report: StatusReport) -> RenderableType:
    """The whole status."""
    parts: list[RenderableType] = [facts(_facts(report)), Text(), _servers(report.servers)]
    for switch in (report.switchover, report.last_switchover):
        if switch is not None:
            parts += [Text(), switchover(switch)]
    if report.blockers:
        rows = [(Text(b.name, "red"), b.value, b.fix) for b in report.blockers]
        parts += [Text(), table("In the way", ("what", "now", "fix"), rows)]
    return Group(*parts)


def _facts(report: StatusReport) -> Iterable[tuple[str, str]]:
    yield "migration", report.name
    yield "phase", f"{report.phase}, asked to {report.asked}" if report.asked else str(report.phase)
    yield "primary", f"{report.primary}, {report.read_weight}% of reads on the target"
    if report.phase in _RUNNING:
        yield from _running_facts(report)
    if report.owner:
        yield "last run by", f"{report.owner}, generation {report.generation}"
    if report.postponed_until:
        yield "postponed", f"nothing begins by itself before {report.postponed_until.isoformat(timespec='seconds')}"
    if report.last_error:
        yield "last error", report.last_error


def _running_facts(report: StatusReport) -> Iterable[tuple[str, str]]:
    if report.tables_total is not None:
        sizes = f"{words.size(report.bytes_copied)} of {words.size(report.bytes_total)}"
        yield "copied", f"{report.tables_copied} of {report.tables_total} tables, {sizes}"
    if report.eta_seconds is not None:
        yield "left", words.duration(report.eta_seconds)
    yield "lag", f"{words.duration(report.lag_seconds)}, {words.size(report.lag_bytes)}"
    yield "WAL kept", words.size(report.retained_wal_bytes)
    yield "streams", _streams(report)
    router = report.router
    yield "router", router.problem or f"writers go to the {router.writer}{', paused' if router.paused else ''}"
    yield "verified", "never" if report.verification is None else _verified(report.verification)


def _streams(report: StatusReport) -> str:
    if report.streams.problem:
        return report.streams.problem
    up = {True: "up", False: "down", None: words.UNKNOWN}
    return f"forward {up[report.streams.forward]}, reverse {up[report.streams.reverse]}"


def _verified(found: VerificationReport) -> str:
    result = "both sides equal" if found.clean else f"{len(found.differences)} difference(s)"
    if not found.complete:
        result = f"not completed, {result} so far"
    return (
        f"{found.at:%Y-%m-%d %H:%M:%S} UTC: {result}; "
        f"{found.tables} tables, {words.count(found.rows)} rows in {words.duration(found.seconds)}"
    )


def _servers(servers: Iterable[ServerReport]) -> Table:
    rows: list[tuple[str | Text, ...]] = []
    for one in servers:
        if one.problem:
            rows.append((one.side, Text("not reachable", "red"), one.problem))
            continue
        guarded = f"guard {one.guard} on {one.guarded_tables} of {one.tables} tables"
        longest = words.duration(one.longest_transaction_seconds)
        rows.append((one.side, f"PostgreSQL {one.version}", f"{guarded}; oldest transaction {longest}"))
    return table("Servers", ("side", "version", "state"), rows)


def switchover(report: SwitchoverReport) -> RenderableType:
    """One switchover: what came of it, how long writers waited and for what, and the certificate."""
    pairs = [(f"switchover {report.number}", f"to the {report.to}: {report.outcome}")]
    if report.write_pause_ms is not None and report.step_ms is not None:
        steps = ", ".join(f"{name} {spent:.0f}" for name, spent in report.step_ms.items())
        pairs.append(("write pause", f"{report.write_pause_ms:.0f} ms ({steps})"))
    pairs.append(("certificate", _certificate(report.certificate)))
    return Group(facts(pairs), *([] if report.certificate.comparison is None else _details(report.certificate)))


def _certificate(report: CertificateReport) -> str:
    if report.comparison is None:
        return f"none: {report.reason}"
    return f"{report.outcome} ({report.reason}): {_verified(report.comparison)}"


def _details(report: CertificateReport) -> list[RenderableType]:
    return [] if report.comparison is None else [Text(f"  {line}", "red") for line in report.comparison.details]


def verification(report: VerificationReport) -> RenderableType:
    """One comparison with every difference."""
    style = "green" if report.clean else "bold red"
    return Group(Text(_verified(report), style), *(Text(f"  {line}") for line in report.details))


def plan(report: Plan) -> RenderableType:
    """The steps of a plan and its gates; a fix only where a gate is red."""
    steps = table(
        f"{report.verb}: steps",
        ("step", "what", "took before", ""),
        [
            (
                step.step,
                step.what,
                "not measured yet" if step.expected_seconds is None else words.duration(step.expected_seconds),
                Text("pauses writes", "yellow") if step.pauses_writes else "",
            )
            for step in report.steps
        ],
    )
    gates = table(
        "gates",
        ("gate", "", "value", "fix"),
        [
            (g.name, Text("ok", "green") if g.ok else Text("red", "bold red"), g.value, "" if g.ok else g.fix)
            for g in report.gates
        ],
    )
    ready = Text("ready", "green") if report.ready else Text("not ready: see the red gates", "bold red")
    return Group(steps, Text(), gates, Text(), ready)


def findings(found: Iterable[Finding]) -> RenderableType:
    """What ``check`` found."""
    rows = [(Text(f.severity, _SEVERITY[f.severity]), f.id, f.object, f.message, f.fix) for f in found]
    return table("", ("severity", "check", "object", "what", "fix"), rows)
