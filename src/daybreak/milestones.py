"""What people are told about a migration's way, in words for somebody who was just woken. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from daybreak.model import MigrationRecord, Phase, Side, Switchover, Told, Verification


@dataclass(frozen=True, slots=True)
class Milestone:
    """One message: ``subject`` (at most 100 characters, as SNS allows) and ``text``.

    ``metric`` is the custom metric that counts it, or empty."""

    subject: str
    text: str
    metric: str = ""


def milestones(record: MigrationRecord) -> tuple[Milestone, ...]:
    """What happened since people were told last (``record.told``) that is worth telling."""
    name, told, found = record.name, record.told, []
    if record.phase in _PHASES and record.phase is not told.phase and told.phase in _BEFORE[record.phase]:
        found.append(Milestone(f"{name}: {_PHASES[record.phase]}", _where(record)))
    last = record.last_switchover
    if last is not None and last.number > told.switchover:
        found.append(_switchover(name, last, record))
    if record.read_weight != told.read_weight:
        text = f"They were {told.read_weight}%. {record.last_error} {_where(record)}".replace("  ", " ")
        found.append(Milestone(f"{name}: {record.read_weight}% of reads go to the target", text))
    checked = record.verification
    if checked is not None and not checked.clean and checked.at != told.verified_at:
        found.append(_unequal(name, checked))
    said = last is not None and record.last_error == last.backed_out
    if record.last_error and record.last_error != told.error and not said and record.read_weight == told.read_weight:
        what = "something was refused"
        if record.intent is not None:
            what = f"{record.intent.verb} fails and is tried again"
        found.append(Milestone(f"{name}: {what}", f"{record.last_error}\n{_where(record)}"))
    return tuple(found)


def told(record: MigrationRecord) -> Told:
    """What people know once they were told ``milestones(record)``."""
    last, checked = record.last_switchover, record.verification
    return Told(
        # A switchover under way is no news; its outcome is.
        phase=Phase.STREAMING if record.phase is Phase.SWITCHING else record.phase,
        read_weight=record.read_weight,
        switchover=0 if last is None else last.number,
        error=record.last_error,
        verified_at=None if checked is None or checked.clean else checked.at,
    )


def _unequal(name: str, found: Verification) -> Milestone:
    if found.differences:
        text = f"{len(found.differences)} differences, the first of them: {found.differences[0]}."
        return Milestone(f"{name}: BOTH SIDES DIFFER", f"{text} No traffic moves by itself. See `daybreak verify`.")
    return Milestone(
        f"{name}: a comparison did not get to its end",
        f"{found.tables} tables, {found.rows:,} rows were compared in {found.seconds:.0f} s, none different. No traffic"
        " moves by itself. Raise cutover.certificate_seconds or replication.jobs.",
    )


_PHASES = {
    Phase.STREAMING: "source and target are in step",
    Phase.FINISHED: "finished",
    Phase.ABORTED: "aborted, every trace removed",
}
_BEFORE = {
    Phase.STREAMING: {Phase.PLANNED, Phase.LOADING},
    Phase.FINISHED: {Phase.STREAMING},
    Phase.ABORTED: {Phase.PLANNED, Phase.LOADING, Phase.STREAMING},
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
