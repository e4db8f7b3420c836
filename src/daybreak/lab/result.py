"""What a rehearsal found out, in the form that ``rehearse --json`` prints."""

from __future__ import annotations

from dataclasses import dataclass, field

from daybreak.model import Side


@dataclass(frozen=True, slots=True)
class FullLoad:
    """What was copied before the streams took over; sizes in bytes."""

    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Lag:
    """How long a token took from the primary to the standby while clients wrote, in milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class MeasuredSwitch:
    """One switchover as Daybreak and as the clients saw it, times in milliseconds.

    ``write_pause_ms`` is from the first wait for the hold to the opening, ``client_gap_ms`` the longest
    time in which no client's write was acknowledged, ``client_errors`` what writers and reader were
    told meanwhile; ``certified``: the comparison at the fence ran to its end and was clean."""

    to: Side
    write_pause_ms: float
    client_gap_ms: float
    client_errors: int
    certified: bool


@dataclass(frozen=True, slots=True)
class LedgerResult:
    """The clients' ledger held against the primary at the end; numbers of writes, ``ambiguous`` of attempts.

    ``lost`` and ``duplicated`` include what is there though nobody wrote it and accounts that don't add up."""

    acknowledged: int
    lost: int
    duplicated: int
    ambiguous: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The comparison of both sides while they streamed."""

    tables: int
    rows: int
    seconds: float
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasuredShare:
    """Of ``answers`` of the name server for the readers' name, ``percent`` led to the target; ``weight`` percent
    should. ``fits``: the difference is within what chance explains."""

    weight: int
    percent: float
    answers: int
    fits: bool


@dataclass(frozen=True, slots=True)
class RehearsalResult:
    """Everything that a rehearsal measured; ``seconds`` is all of it, servers and stack made and removed.

    ``events``: how often an event made the function on AWS look, by who sent it (``dms``, ``schedule``, ``alarm``)."""

    source_version: int
    target_version: int
    router: str
    engine: str
    seconds: float
    full_load: FullLoad
    lag_ms: Lag
    switchovers: tuple[MeasuredSwitch, ...]
    ledger: LedgerResult
    verify: Verified
    shares: tuple[MeasuredShare, ...] = ()
    events: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """No write was lost or doubled, every comparison was complete and clean, every share was kept."""
        if not all(share.fits for share in self.shares):
            return False
        compared = not self.verify.differences and all(switch.certified for switch in self.switchovers)
        return compared and not (self.ledger.lost or self.ledger.duplicated)
