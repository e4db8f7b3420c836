"""Questions to one database's catalogs that more than one part asks: whose it is and what kind of
server it runs on. Every answer is one query, whatever the number of tables."""

from __future__ import annotations

from daybreak.postgres.grants import Kind
from daybreak.postgres.server import Connection

# Objects of initdb have an oid below 16384 (PostgreSQL docs, "System Catalog Initial Data: OID
# Assignment"); members of extensions come with CREATE EXTENSION and belong to whoever runs it.
_OWNERS = """
SELECT rolname FROM pg_roles
WHERE rolname NOT IN ('pg_database_owner', 'rdsadmin') AND oid IN (
  SELECT datdba FROM pg_database WHERE datname = current_database()
  UNION
  SELECT o.owner FROM (
    SELECT 'pg_class'::regclass AS class, oid, relowner AS owner FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'
    UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type WHERE typrelid = 0 AND typelem = 0
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
    UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner FROM pg_conversion
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner FROM pg_foreign_server
  ) o
  WHERE o.oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
)
ORDER BY rolname
"""


def owners(connection: Connection) -> tuple[str, ...]:
    """The roles that own the database or anything in it, what came with initdb or in an extension
    apart: those of which the migration role has to be a member."""
    return tuple(str(name) for (name,) in connection.execute(_OWNERS))


def grant_kind(connection: Connection) -> Kind:
    """``rds`` for Amazon RDS and Aurora, told by the role that only they have."""
    row = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'rds_superuser'").fetchone()
    return "rds" if row else "postgres"
