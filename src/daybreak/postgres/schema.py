"""The schema's way from source to target, in the three parts that frame a load: tables before the
rows, indexes and all else after them, foreign keys once changes stream in.

Each part may be killed at any point and run again: the first starts over on what was an empty target,
the second passes over statements that are done, the third looks what is there. What patterns exclude
stays behind together with all that cannot be without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daybreak.errors import PermanentError
from daybreak.model import Progress
from daybreak.ports import Report
from daybreak.postgres.catalog import excluded_relations, user_tables
from daybreak.postgres.control import stale_is_conflict
from daybreak.postgres.dump import Dump, Entry, dump_schema, schema_text
from daybreak.postgres.foreign_keys import ForeignKeyBuilder, wanted_foreign_keys
from daybreak.postgres.indexes import KINDS, IndexBuilder
from daybreak.postgres.installations import Installation
from daybreak.postgres.objects import dependents
from daybreak.postgres.privileges import OPTIONAL_KINDS, apply_owners, missing_roles, run_optional
from daybreak.postgres.removal import drop_transferred, remember_baseline
from daybreak.postgres.server import Connection, Server, translated
from daybreak.postgres.statements import digest, done_digests, prepare_session, run_once

__all__ = [
    "SchemaJob",
    "SchemaReport",
    "add_foreign_keys",
    "build_indexes",
    "drop_transferred",
    "missing_roles",
    "schema_text",
    "transfer_pre_data",
]

_REPORT_EVERY = 50
_COMPRESSION = "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
_WORTH_TELLING = frozenset({"VIEW", "MATERIALIZED VIEW", "FUNCTION", "PROCEDURE", "AGGREGATE"})
# The fixed oid of pg_class in itself (docs, "System Catalog Initial Data").
_PG_CLASS = 1259


@dataclass(frozen=True)
class SchemaJob:
    """What the three parts have in common."""

    source: Server
    target: Server
    tools: Installation
    generation: int
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    jobs: int
    report: Report


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """What is not on the target as it was on the source: roles that it lacks, and for each object the
    ownership, grant or comment that could not be given or the excluded table that it needs."""

    missing_roles: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def transfer_pre_data(job: SchemaJob, snapshot: str = "", close: Callable[[], None] = lambda: None) -> SchemaReport:
    """Create on the target everything that comes before the rows, with owners and privileges.

    ``close`` is called when the tables are there and nobody but the migration role may use them yet: the
    application shall never find an open one. What an earlier run of this left is dropped first. Raises
    PermanentError with PostgreSQL's own message where a statement fails, TransientError where a server
    is gone or a lock is not to be had."""
    with (
        job.source.session("schema", job.generation) as source,
        job.target.session("schema", job.generation) as target,
        stale_is_conflict(),
    ):
        remember_baseline(target, job.target.migration, job.generation)
        drop_transferred(target, job.target.migration, job.generation)
        prepare_session(target)
        dump, behind = _wanted(job, source, target, snapshot)
        _run_all(job, target, [entry for entry in dump.pre_data if entry.kind not in OPTIONAL_KINDS])
        close()
        left_out = _finish(job, source, target, dump.pre_data)
        return SchemaReport(missing_roles(source, target), (*behind, *left_out))


def build_indexes(job: SchemaJob) -> SchemaReport:
    """Build indexes, constraints, triggers and whatever else comes after the rows, foreign keys apart;
    last, fill materialized views. Errors as in ``transfer_pre_data``."""
    with (
        job.source.session("schema", job.generation) as source,
        job.target.session("schema", job.generation) as target,
        stale_is_conflict(),
    ):
        prepare_session(target)
        dump, behind = _wanted(job, source, target, "")
        parallel, rest = _parallel_first(dump.post_data)
        IndexBuilder(job.target, job.generation, job.jobs, job.report).run(source, parallel)
        views = [entry for entry in rest if entry.kind == "MATERIALIZED VIEW DATA"]
        _run_all(job, target, [entry for entry in rest if entry not in views and entry.kind not in OPTIONAL_KINDS])
        left_out = _finish(job, source, target, dump.post_data)
        _run_all(job, target, views)
        return SchemaReport(missing_roles(source, target), (*behind, *left_out))


def add_foreign_keys(job: SchemaJob) -> SchemaReport:
    """Add and validate the foreign keys between transferred tables while changes stream in. Reports
    those left out because they refer to an excluded table."""
    with job.source.session("foreign keys", job.generation) as source:
        keys, cut = wanted_foreign_keys(source, excluded_relations(source, job.include, job.exclude))
    ForeignKeyBuilder(job.target, job.generation, job.jobs, job.report).run(keys)
    return SchemaReport(left_out=tuple(f"foreign key {k.name} of {k.table}: refers to an excluded table" for k in cut))


def _wanted(job: SchemaJob, source: Connection, target: Connection, snapshot: str) -> tuple[Dump, list[str]]:
    """The dump without what stays behind, and what that is apart from the excluded tables' own parts."""
    excluded = excluded_relations(source, job.include, job.exclude)
    gone = dependents(source, excluded)
    torn = [t for t in user_tables(source, job.include, job.exclude) if (_PG_CLASS, t.oid) in gone]
    if torn:
        raise PermanentError(
            f"source: {', '.join(str(t.name) for t in torn[:5])} cannot be without an excluded table"
            " (a parent, or the type of a column).",
            "Include that table too, or exclude these, in [replication] of daybreak.toml.",
        )
    row = target.execute(_COMPRESSION).fetchone()
    dump = dump_schema(job.source, job.tools, job.generation, keep_compression=bool(row and row[0]), snapshot=snapshot)
    here = {_on_one_line(str(name)) for (name,) in target.execute("SELECT nspname FROM pg_namespace")}
    omitted = _omitted(dump.pre_data + dump.post_data, gone)
    behind = [
        f"{entry}: needs an excluded table"
        for entry in dump.pre_data
        if entry.dump_id in omitted and entry.kind in _WORTH_TELLING
    ]

    def wanted(entry: Entry) -> bool:
        return entry.dump_id not in omitted and not (entry.kind == "SCHEMA" and entry.name in here)

    return Dump(tuple(filter(wanted, dump.pre_data)), tuple(filter(wanted, dump.post_data))), behind


def _omitted(entries: Sequence[Entry], gone: frozenset[tuple[int, int]]) -> set[int]:
    """Ids of entries that stay behind. What is no object itself (a comment, an ATTACH PARTITION) goes
    with what it needs; foreign keys are added from the catalog."""
    omitted: set[int] = set()
    for entry in entries:
        if entry.class_oid:
            absent = (entry.class_oid, entry.oid) in gone or entry.kind == "FK CONSTRAINT"
        else:
            absent = not omitted.isdisjoint(entry.needs)
        if absent:
            omitted.add(entry.dump_id)
    return omitted


def _parallel_first(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Index builds that several sessions can share, and the rest, among it indexes that need the rest
    (of a materialized view that needs a primary key)."""
    parallel: list[Entry] = []
    rest: dict[int, Entry] = {}
    for entry in entries:
        if entry.kind in KINDS and rest.keys().isdisjoint(entry.needs):
            parallel.append(entry)
        else:
            rest[entry.dump_id] = entry
    return parallel, list(rest.values())


def _run_all(job: SchemaJob, target: Connection, entries: Sequence[Entry]) -> None:
    done = done_digests(target)
    for number, entry in enumerate(entries, 1):
        if digest(entry) not in done:
            run_once(target, job.target.migration, job.generation, entry)
        if number % _REPORT_EVERY == 0 or number == len(entries):
            job.report(Progress("transferring the schema", tables_done=number, tables_total=len(entries)))


def _finish(job: SchemaJob, source: Connection, target: Connection, entries: Sequence[Entry]) -> list[str]:
    """Owners first: privileges name the owner, and grants are made in his name."""
    left_out = apply_owners(source, target, job.target.migration, job.generation)
    for entry in entries:
        if entry.kind in OPTIONAL_KINDS:
            with translated(f"target: {entry}"):
                left_out += run_optional(target, job.target.migration, job.generation, entry)
    return left_out


def _on_one_line(name: str) -> str:
    """As pg_restore prints names."""
    return name.replace("\n", " ").replace("\r", " ")
