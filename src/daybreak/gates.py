"""The gates of a switchover: every condition with its value now and what would make it green.

Pure, like ``machine``, which asks ``judge``; ``gates`` is also what a plan prints. A gate that may turn
green by itself is transient and is waited for, within the operator's patience; any other one refuses.
"""

from __future__ import annotations

from daybreak.model import (
    Gate,
    GuardState,
    MigrationRecord,
    Observation,
    Policy,
    Refuse,
    ReplicationStatus,
    Side,
    SideStatus,
    Wait,
)


def gates(record: MigrationRecord, seen: Observation, policy: Policy) -> tuple[Gate, ...]:
    """Every condition of a switchover away from ``record.primary``, in the order a person would ask."""
    primary, standby = seen.side(record.primary), seen.side(record.primary.other)
    return (
        Gate(
            "servers reachable",
            primary.reachable and standby.reachable,
            primary.problem or standby.problem or "both",
            "Start the server or mend the network.",
            transient=True,
        ),
        *_of_the_streams(seen.replication, record.primary, policy),
        *_of_the_data(record, seen, policy),
        *_of_the_primary(primary, policy),
        Gate(
            "router",
            not seen.routing.problem,
            seen.routing.problem or "answers",
            "See the [traffic] section and the router's log.",
            transient=True,
        ),
        Gate(
            "standby closed",
            fully_closed(standby),
            f"{standby.guard}, {standby.guarded_tables} of {standby.tables} tables guarded",
            "Run `daybreak start` again: it closes new tables.",
        ),
    )


def fully_closed(status: SideStatus) -> bool:
    """Whether no application can write anywhere on that side."""
    return status.guard is GuardState.CLOSED and status.guarded_tables >= status.tables


def feeding(streams: ReplicationStatus, primary: Side) -> bool:
    """Whether the stream from the primary to the standby runs."""
    return streams.forward if primary is Side.SOURCE else streams.reverse


def _of_the_streams(streams: ReplicationStatus, primary: Side, policy: Policy) -> tuple[Gate, ...]:
    lag = streams.lag_seconds
    both = streams.forward and streams.reverse
    directions = ((streams.forward, "forward"), (streams.reverse, "reverse"))
    states = ", ".join(f"{name} {'up' if there else 'down'}" for there, name in directions)
    return (
        Gate(
            "replication healthy",
            not streams.problem,
            streams.problem or "yes",
            "See `daybreak status`; the server's log names the row that could not be applied.",
            transient=True,
        ),
        Gate(
            "slot kept",
            not streams.slot_lost,
            "lost" if streams.slot_lost else "yes",
            "The standby can't catch up any more: `daybreak abort`, raise max_slot_wal_keep_size, start again.",
        ),
        Gate(
            "streams ready",
            both if streams.bidirectional else feeding(streams, primary),
            f"{states}: {streams.apply_error}" if streams.apply_error else states,
            "See pg_stat_subscription on both servers."
            if streams.handed_over
            else "See the task in AWS DMS; `daybreak start` resumes it.",
            transient=True,
        ),
        *_of_the_engine(streams),
        Gate(
            "lag",
            lag is not None and lag <= policy.max_lag_seconds,
            "not measurable" if lag is None else f"{lag:.3f} s (limit {policy.max_lag_seconds:g} s)",
            "Wait, or raise cutover.max_lag_seconds.",
            transient=True,
        ),
    )


def _of_the_engine(streams: ReplicationStatus) -> tuple[Gate, ...]:
    """What only an engine that applies in its own way can lack."""
    if streams.handed_over:
        return ()
    return (
        Gate(
            "validated by DMS",
            not streams.unvalidated,
            ", ".join(streams.unvalidated[:5]) or "all tables",
            "Wait until DMS's own validation has caught up (`aws dms describe-table-statistics`).",
            transient=True,
        ),
    )


def _of_the_data(record: MigrationRecord, seen: Observation, policy: Policy) -> tuple[Gate, ...]:
    streams, checked = seen.replication, record.verification
    limit = policy.max_verification_age_seconds
    age = 0.0 if checked is None else (seen.at - checked.at).total_seconds()
    fresh = checked is not None and (streams.handed_over_at is None or checked.at >= streams.handed_over_at)
    equal = bool(seen.source.fingerprint) and seen.source.fingerprint == seen.target.fingerprint
    return (
        Gate(
            "tables in step",
            not streams.tables_unready,
            ", ".join(streams.tables_unready[:5]) or "all ready",
            "Wait until their initial copy is done.",
            transient=True,
        ),
        Gate(
            "tables replicated",
            # Those that another engine does not take in can be joined once PostgreSQL's streams run.
            not streams.tables_unreplicated or not streams.handed_over,
            ", ".join(streams.tables_unreplicated[:5]) or "all replicated",
            "Create them on the other side too, then run `daybreak start` again: it joins new tables.",
        ),
        Gate(
            "same structure",
            equal,
            "equal" if equal else "different",
            "Apply the same DDL on both sides (compare `pg_dump --schema-only`).",
        ),
        Gate(
            "verified",
            checked is not None and checked.clean and fresh and age <= limit,
            "never"
            if checked is None
            else "not since the stream was handed over"
            if not fresh
            else f"{age:.0f} s ago (limit {limit:g} s), {'clean' if checked.clean else 'not clean'}",
            "Run `daybreak verify`.",
        ),
    )


def _of_the_primary(primary: SideStatus, policy: Policy) -> tuple[Gate, ...]:
    age = primary.longest_transaction_seconds
    return (
        Gate(
            "no prepared transactions",
            primary.prepared_transactions == 0,
            str(primary.prepared_transactions),
            "COMMIT PREPARED or ROLLBACK PREPARED them (pg_prepared_xacts).",
            transient=True,
        ),
        Gate(
            "no long transaction",
            age <= policy.max_transaction_seconds,
            f"{age:.1f} s {primary.longest_transaction}".rstrip(),
            "End that session, or raise cutover.max_transaction_seconds.",
            transient=True,
        ),
    )


def judge(record: MigrationRecord, seen: Observation, policy: Policy) -> Wait | Refuse | None:
    """None where every gate is green; Wait while only transient ones are red and patience lasts.

    Patience is counted from what came last: asking, handing over, the end of an old TTL, or entering the
    switchover."""
    red = [gate for gate in gates(record, seen, policy) if not gate.ok]
    if not red:
        return None
    text = "; ".join(f"{gate.name}: {gate.value}" for gate in red)
    began = [record.intent.asked_at] if record.intent is not None else []
    began += [record.switchover.started_at] if record.switchover is not None else []
    began += [record.old_ttl_until] if record.old_ttl_until is not None else []
    began += [seen.replication.handed_over_at] if seen.replication.handed_over_at is not None else []
    waited = (seen.at - max(began, default=seen.at)).total_seconds()
    if all(gate.transient for gate in red) and waited < policy.gate_patience_seconds:
        return Wait(f"waiting for gates: {text}")
    return Refuse(f"Not switched, nothing was changed. {text}.", " ".join(gate.fix for gate in red))
