"""Running the checks: each is a function whose name is the id of its findings and whose docstring says
what holds where it finds nothing. ``docs/checks.md`` is made from this list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator

from daybreak.config import Settings
from daybreak.errors import AdapterError, Finding
from daybreak.model import Side
from daybreak.postgres.grants import GrantItem, grant_items
from daybreak.postgres.server import Connection, translated
from daybreak.postgres.sessions import Sessions
from daybreak.preflight import capacity, connection, dms, objects, privileges, settings, tables
from daybreak.preflight.connection import MINIMUM_VERSION, connect_fix
from daybreak.preflight.context import Context, Found

Check = Callable[[Context], Iterable[Found]]

# Ask each server that answers, by itself.
OF_EACH: tuple[Check, ...] = (
    connection.standby,
    settings.wal_level,
    settings.read_only_default,
    capacity.replication_slots,
    capacity.replication_origins,
    capacity.wal_senders,
    capacity.replication_workers,
    capacity.worker_processes,
    capacity.connection_room,
    capacity.slot_retention,
    privileges.privileges,
    privileges.superuser_sessions,
    objects.event_triggers,
    objects.other_migration,
    objects.name_taken,
    objects.prepared_transactions,
    objects.long_transactions,
    objects.other_subscriptions,
    objects.replication_origin_users,
    dms.dms_role,
)
OF_THE_SOURCE: tuple[Check, ...] = (
    privileges.superuser_owners,
    privileges.table_rights,
    privileges.schema_rights,
    privileges.row_security,
    tables.replica_identity,
    tables.replica_identity_full,
    tables.unlogged_tables,
    tables.materialized_views,
    tables.foreign_tables,
    tables.large_objects,
    tables.inherited_tables,
    tables.oid_columns,
    tables.generated_columns,
    tables.special_constraints,
    tables.always_triggers,
    tables.sequence_room,
    objects.other_publications,
    objects.tablespaces,
    dms.dms_large_objects,
)
OF_BOTH: tuple[Check, ...] = (
    connection.same_server,
    connection.client_programs,
    connection.peer_reachable,
    settings.encoding,
    settings.locale,
    settings.database_settings,
    privileges.missing_roles,
    privileges.needs_superuser,
    objects.extensions,
    objects.target_empty,
)
# Of any version, even one that Daybreak does not know.
OF_ANY: tuple[Check, ...] = (connection.server_version, connection.password_in_dsn, dms.dms_limits)
CHECKS = OF_ANY + OF_EACH + OF_THE_SOURCE + OF_BOTH
CONNECT = "connect"
_CONNECT_MEANING = "Daybreak can connect to both servers with the DSNs of daybreak.toml."
_ORDER = {"blocker": 0, "warning": 1, "info": 2}


def run_checks(settings: Settings, sessions: Sessions) -> tuple[Finding, ...]:
    """Everything that stands in the way (blockers), should be known (warnings) or helps (info), in this
    order. Changes nothing on either server. Never raises for what is wrong with a server, its
    reachability included: that is a blocker ``connect``, and only what can still be checked is."""
    servers = {side: sessions.server(side) for side in Side}
    connections: dict[Side, Connection] = {}
    findings: list[Finding] = []
    try:
        for side, server in servers.items():
            try:
                connections[side] = sessions.connect(side, "check")
            except AdapterError as error:
                fix = connect_fix(error.message, side, server.parameters)
                findings.append(Finding(CONNECT, "blocker", str(side), error.message, fix))
        context = Context(settings, servers, connections)
        for check in _possible(connections):
            findings.extend(_findings(check, context))
    finally:
        for open_connection in connections.values():
            open_connection.close()
    return tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity]))


def _possible(connections: dict[Side, Connection]) -> tuple[Check, ...]:
    if any(one.info.server_version < MINIMUM_VERSION for one in connections.values()) or not connections:
        return OF_ANY
    of_source = OF_THE_SOURCE if Side.SOURCE in connections else ()
    return OF_ANY + OF_EACH + of_source + (OF_BOTH if len(connections) == len(Side) else ())


def _findings(check: Check, context: Context) -> Iterator[Finding]:
    name = check_id(check)
    try:
        with translated(name):
            for found in check(context):
                yield Finding(found.id or name, found.severity, found.object, found.message, found.fix)
    except AdapterError as error:
        yield Finding(name, "blocker", name, f"This could not be checked: {error.message}", error.hint)


def check_id(check: Check) -> str:
    """The id of a check's findings."""
    return check.__name__.replace("_", "-")


def catalogue() -> str:
    """All ids with what holds where there is no finding, as the table of docs/checks.md."""
    rows = [(CONNECT, _CONNECT_MEANING)]
    rows += [(check_id(check), " ".join((inspect.getdoc(check) or "").split())) for check in CHECKS]
    rows += sorted({(item.id, f"Right of Daybreak's role: {item.why}") for item in _all_grants()})
    lines = [f"| `{name}` | {meaning} |" for name, meaning in rows]
    return "\n".join(["| id | what holds where nothing is found |", "| --- | --- |", *lines, ""])


def _all_grants() -> Iterator[GrantItem]:
    for version in (MINIMUM_VERSION, 160000):
        yield from grant_items("postgres", "daybreak", ("owner",), version)
        yield from grant_items("rds", "daybreak", ("owner",), version)
