"""What the loop tells whoever watches, and what they are told in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from daybreak.errors import Refused
from daybreak.model import MigrationRecord, Phase, Progress, Step, Verb
from daybreak.table import MOVE, destination


@dataclass(frozen=True, slots=True)
class Event:
    """What the loop tells whoever watches: ``kind`` is intend, done, wait, retry, mark or progress.

    ``mark`` events come from inside the hot part of a switchover, one after each of its steps. ``urgent`` waits
    are those during which perhaps nobody can write."""

    kind: str
    step: Step | None = None
    text: str = ""
    progress: Progress | None = None
    urgent: bool = False


Listener = Callable[[Event], None]


def utc_now() -> datetime:
    """The clock of a real run."""
    return datetime.now(UTC)


def outcome(record: MigrationRecord, verb: Verb) -> MigrationRecord:
    """``record`` after ``verb`` was acted on; raises Refused where it was not done."""
    if record.last_error:
        raise Refused(record.last_error, "See `daybreak status`; the same command may be run again.")
    overruled = "`daybreak abort` was asked for meanwhile: "
    if record.phase is Phase.ABORTED and verb is not Verb.ABORT:
        raise Refused(f"{overruled}the migration is ended.", "See `daybreak status`.")
    if verb in MOVE and record.primary is not destination(record, verb):
        raise Refused(f"{overruled}the {record.primary} stays the primary.", "See `daybreak status`.")
    return record
