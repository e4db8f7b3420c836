"""Checks of what AWS DMS needs, where it is the engine: its role, its large objects, limits that it can keep."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from daybreak.config.aws import Dms
from daybreak.postgres.catalog import selected
from daybreak.postgres.grants import dms_items, missing_items
from daybreak.postgres.inspect import grant_kind, owners
from daybreak.preflight.context import Context, Found

# DMS reads and applies in batches of about a second; a limit below that is never kept for long.
_USUAL_LATENCY_SECONDS = 5.0
# What DMS carries as large objects (DMS user guide, "Source data types for PostgreSQL").
_LARGE_TYPES = ("bytea", "text", "json", "jsonb", "xml", "hstore")


def _settings(context: Context) -> Dms | None:
    """What is set for DMS, where it is the engine."""
    aws = context.settings.aws
    return aws.dms if aws is not None and context.settings.replication.engine == "dms" else None


def dms_role(context: Context) -> Iterator[Found]:
    """With AWS DMS: its role is on both servers with every right that `daybreak grants` prints, and Daybreak's
    may shut it out."""
    if (dms := _settings(context)) is None:
        return
    for side, connection in context.each():
        if context.begun(side):
            continue  # it may have been shut out since
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [dms.user]).fetchone() is None:
            message = "AWS DMS's role does not exist there."
            fix = f"Run what `daybreak grants --side {side}` prints, then set its password."
            yield Found("blocker", f"{side} role {dms.user}", message, fix)
            continue
        kind, role, version = grant_kind(connection), context.servers[side].user, connection.info.server_version
        for item in missing_items(connection, dms_items(kind, side, dms.user, role, owners(connection), version)):
            message = f"A right is missing on the {side}. {item.why}"
            yield Found("blocker", f"{side} role {item.object}", message, item.statement)


def dms_limits(context: Context) -> Iterator[Found]:
    """With AWS DMS: the limits of a cutover leave room for its latency, which is seconds rather than milliseconds."""
    if _settings(context) is None:
        return
    rules = context.settings.cutover
    for name, seconds in (
        ("max_lag_seconds", rules.max_lag_seconds),
        ("max_write_pause_seconds", rules.max_write_pause_seconds),
    ):
        if seconds < _USUAL_LATENCY_SECONDS:
            message = f"{seconds:g} s is less than DMS usually lags; until it has handed over, gates may stay red."
            fix = f"Set cutover.{name} to {_USUAL_LATENCY_SECONDS:g} or more until the first cutover is done."
            yield Found("warning", f"cutover.{name}", message, fix)


def dms_large_objects(context: Context) -> Iterator[Found]:
    """With AWS DMS in limited LOB mode: no value is larger than `aws.dms.max_lob_kb`, which would stop its task.
    Reads every table that has such columns."""
    dms = _settings(context)
    if dms is None or not dms.max_lob_kb:
        return
    columns = sql.SQL("""
        WITH {selected}
        SELECT s.nspname, s.relname, a.attname, t.typname = 'bytea'
        FROM selected s JOIN pg_attribute a ON a.attrelid = s.oid JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attnum > 0 AND NOT a.attisdropped
          AND (t.typname = ANY({types}) OR (t.typname = 'varchar' AND a.atttypmod = -1))
        ORDER BY 1, 2, 3""").format(
        selected=selected("r", context.include, context.exclude), types=sql.Literal(list(_LARGE_TYPES))
    )
    for schema, table, column, binary in context.source.execute(columns).fetchall():
        form = sql.SQL("octet_length({})" if binary else "octet_length({}::text)")
        size = form.format(sql.Identifier(str(column)))
        query = sql.SQL("SELECT coalesce(max({}), 0) FROM {}").format(size, sql.Identifier(str(schema), str(table)))
        row = context.source.execute(query).fetchone()
        kilobytes = 0 if row is None else -(-int(str(row[0])) // 1024)
        if kilobytes > dms.max_lob_kb:
            message = f"It has a value of {kilobytes} KB; DMS carries up to {dms.max_lob_kb} KB and stops there."
            fix = f"Set aws.dms.max_lob_kb to {kilobytes} or more, or to 0 (any size, slower)."
            yield Found("blocker", f"{schema}.{table}.{column}", message, fix)
