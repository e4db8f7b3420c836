"""Everything that users made in a database, whatever its kind, and what depends on what.

PostgreSQL names its objects itself (docs, pg_identify_object), in the words that ALTER and DROP take.
Members of extensions, parts of other objects and Daybreak's own schema are not listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daybreak.postgres.server import Connection

# Whose owner is not in pg_shdepend belongs to the role of initdb, which is pinned (docs, pg_shdepend).
_INVENTORY = """
WITH schemas AS (
    SELECT oid FROM pg_namespace WHERE nspname NOT IN ('information_schema', 'daybreak') AND nspname !~ '^pg_'
), objects AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN schemas s ON s.oid = d.refobjid
    WHERE d.refclassid = 'pg_namespace'::regclass AND d.deptype = 'n' AND d.objsubid = 0
    UNION SELECT 'pg_namespace'::regclass, oid FROM schemas WHERE oid >= 16384
    UNION SELECT 'pg_extension'::regclass, oid FROM pg_extension WHERE oid >= 16384
    UNION SELECT 'pg_language'::regclass, oid FROM pg_language WHERE oid >= 16384
    UNION SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
    UNION SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
    UNION SELECT 'pg_cast'::regclass, oid FROM pg_cast WHERE oid >= 16384
    UNION SELECT 'pg_am'::regclass, oid FROM pg_am WHERE oid >= 16384
    UNION SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
)
SELECT o.classid::int8, o.objid::int8, i.type, i.identity, coalesce(n.nspname, ''),
       coalesce(pg_get_userbyid(s.refobjid), (SELECT rolname FROM pg_roles WHERE oid = 10))
FROM objects o
CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) i
LEFT JOIN pg_depend p ON p.classid = o.classid AND p.objid = o.objid AND p.objsubid = 0
    AND p.refclassid = 'pg_namespace'::regclass AND p.deptype = 'n'
LEFT JOIN pg_namespace n ON n.oid = p.refobjid
LEFT JOIN pg_shdepend s ON s.classid = o.classid AND s.objid = o.objid AND s.objsubid = 0 AND s.deptype = 'o'
    AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
WHERE NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype IN ('e', 'i')
      AND (d.refclassid, d.refobjid) <> (d.classid, d.objid))
ORDER BY (i.type = 'table') DESC, o.classid = 'pg_namespace'::regclass, o.objid
"""

# Words of pg_identify_object for which ALTER and DROP have others. ROUTINE is any of the three.
_KEYWORDS = {
    "function": "ROUTINE",
    "procedure": "ROUTINE",
    "aggregate": "ROUTINE",
    "composite type": "TYPE",
    "statistics object": "STATISTICS",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
}
_WITHOUT_OWNER = frozenset({"extension", "cast", "access method", "text search parser", "text search template"})

# What depends on excluded relations or on Daybreak's own objects, to any depth, and what those are a
# part of (a rule is part of its view).
_DEPENDENTS = """
WITH RECURSIVE gone (classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, unnest(%s::oid[])
    UNION
    SELECT 'pg_namespace'::regclass::oid, oid FROM pg_namespace WHERE nspname = 'daybreak'
    UNION
    SELECT step.classid, step.objid FROM gone g, LATERAL (
        SELECT d.classid, d.objid FROM pg_depend d
        WHERE d.refclassid = g.classid AND d.refobjid = g.objid AND d.deptype <> 'e'
        UNION ALL
        SELECT d.refclassid, d.refobjid FROM pg_depend d
        WHERE d.classid = g.classid AND d.objid = g.objid AND d.deptype = 'i'
    ) step
)
SELECT classid::int8, objid::int8 FROM gone
"""


@dataclass(frozen=True, slots=True)
class DatabaseObject:
    """One object: where the catalogs keep it, what PostgreSQL calls it, the schema it is in
    (empty: none), and whose it is."""

    class_oid: int
    oid: int
    kind: str
    identity: str
    schema: str
    owner: str

    @property
    def keyword(self) -> str:
        """The word for it in ALTER and DROP."""
        return _KEYWORDS.get(self.kind, self.kind.upper())

    @property
    def key(self) -> tuple[str, str]:
        """What names it on any server."""
        return self.kind, self.identity

    @property
    def has_owner(self) -> bool:
        """Whether its owner can be changed."""
        return self.kind not in _WITHOUT_OWNER


def inventory(connection: Connection) -> tuple[DatabaseObject, ...]:
    """All objects of users, tables first and schemas last. One query."""
    return tuple(
        DatabaseObject(int(str(class_oid)), int(str(oid)), *(str(word) for word in words))
        for class_oid, oid, *words in connection.execute(_INVENTORY)
    )


def dependents(connection: Connection, relations: Sequence[int]) -> frozenset[tuple[int, int]]:
    """Catalog and oid of everything that cannot be without ``relations`` (their oids), those
    themselves included, and of all that belongs to or hangs on the schema ``daybreak``."""
    rows = connection.execute(_DEPENDENTS, [list(relations)])
    return frozenset((int(str(class_oid)), int(str(oid))) for class_oid, oid in rows)
