"""What people are told about a migration's way, in words for somebody who was just woken. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from daybreak.model import MigrationRecord, Phase, Side, Switchover


@dataclass(frozen=True, slots=True)
class Milestone:
    """One message: ``subject`` (at most 100 characters, as SNS allows) and ``text``.

    ``metric`` is the custom metric that counts it, or empty."""

    subject: str
    text: str
    metric: str = ""


def milestones(before: MigrationRecord, after: MigrationRecord) -> tuple[Milestone, ...]:
    """What happened to the migration between two records, worth telling."""
    name, found = after.name, []
    if after.phase is not before.phase and after.phase in _PHASES:
        found.append(Milestone(f"{name}: {_PHASES[after.phase]}", _where(after)))
    last = after.last_switchover
    if last is not None and last != before.last_switchover:
        found.append(_switchover(name, last, after))
    if after.read_weight != before.read_weight:
        found.append(
            Milestone(
                f"{name}: {after.read_weight}% of reads go to the target",
                f"They were {before.read_weight}%. {_where(after)}",
            )
        )
    told = last is not None and after.last_error == last.backed_out
    if after.last_error and after.last_error != before.last_error and not told:
        found.append(Milestone(f"{name}: something was refused", f"{after.last_error}\n{_where(after)}"))
    return tuple(found)


_PHASES = {
    Phase.STREAMING: "source and target are in step",
    Phase.FINISHED: "finished",
    Phase.ABORTED: "aborted, every trace removed",
}


def _switchover(name: str, switch: Switchover, after: MigrationRecord) -> Milestone:
    going = "cutover" if switch.to is Side.TARGET else "rollback"
    if switch.backed_out:
        text = f"{switch.backed_out}\nWriters waited and then went on; nothing was changed. {_where(after)}"
        return Milestone(f"{name}: the {going} backed out", text, "CutoverFailure")
    pause = "" if switch.timings is None else f" Writes paused for {switch.timings.write_pause_ms:.0f} ms."
    found = switch.certificate
    if found is None:
        proof = " Both sides were not compared at the fence: run `daybreak verify`."
    elif found.differences:
        proof = f" {len(found.differences)} DIFFERENCES were found at the fence: {found.differences[0]}."
    else:
        proof = f" Both sides were equal at the fence: {found.tables} tables, {found.rows:,} rows."
        proof += "" if found.complete else " (The comparison ran out of time.)"
    metric = "CutoverSuccess" if switch.to is Side.TARGET else "Rollback"
    return Milestone(f"{name}: the {switch.to} is the primary now", f"The {going} is done.{pause}{proof}", metric)


def _where(record: MigrationRecord) -> str:
    return f"Phase {record.phase}; the {record.primary} takes writes, {record.read_weight}% of reads go to the target."
