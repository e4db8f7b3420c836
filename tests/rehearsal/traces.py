"""What a migration must leave as it was: structure, privileges, settings (I4); and what it must not leave
at all (I6)."""

from __future__ import annotations

import os
import subprocess

from daybreak.lab.pair import Pair
from daybreak.model import Side

_PRIVILEGES = """
SELECT format('%s %s.%s', relacl, relnamespace::regnamespace, relname) FROM pg_class
WHERE relnamespace::regnamespace::text NOT IN ('daybreak', 'pg_toast') ORDER BY 1
"""
_SETTINGS = """
SELECT format('%s %s %s', coalesce(d.datname, '-'), coalesce(r.rolname, '-'), s.setconfig)
FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY 1
"""
_LEFT = """
SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin
UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE 'daybreak\\_%'
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'daybreak'
UNION ALL SELECT 'trigger on ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'daybreak%'
UNION ALL SELECT 'setting ' || s.setconfig::text FROM pg_db_role_setting s
    JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()
UNION ALL SELECT 'session ' || application_name FROM pg_stat_activity
    WHERE application_name LIKE 'daybreak:%' AND datname = current_database()
ORDER BY 1
"""


def left_on(pair: Pair, side: Side) -> list[str]:
    """Everything of a migration that is on ``side``."""
    with pair.connect(side) as connection:
        return [str(row[0]) for row in connection.execute(_LEFT).fetchall()]


def portrait(pair: Pair, side: Side) -> list[str]:
    """The application's structure, privileges and settings on ``side``, Daybreak's own schema apart."""
    with pair.connect(side) as connection:
        privileges = [str(row[0]) for row in connection.execute(_PRIVILEGES).fetchall()]
        settings = [str(row[0]) for row in connection.execute(_SETTINGS).fetchall()]
    return [*_dump(pair, side), *privileges, *settings]


def guarded(pair: Pair, side: Side) -> list[str]:
    """The tables that carry the guard on ``side``."""
    return [line.removeprefix("trigger on ") for line in left_on(pair, side) if line.startswith("trigger on ")]


def _dump(pair: Pair, side: Side) -> list[str]:
    cluster = pair.cluster(side)
    parameters = cluster.parameters(dbname=pair.database)
    command = [cluster.installation.program("pg_dump"), "--schema-only", "--exclude-schema=daybreak"]
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    names |= {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}
    environment = {**os.environ, **{names[key]: value for key, value in parameters.items()}}
    command += ["--no-publications", "--no-subscriptions"]
    text = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    # Newer releases fence a dump with a random word.
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
