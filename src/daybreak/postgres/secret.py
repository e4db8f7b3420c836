"""Statements that must hold a password, run so that it reaches no log of PostgreSQL's own, no process list
and no error message. Extensions that record nested statements (pgaudit, ``pg_stat_statements.track = all``)
still see it: docs/adr/0009.

The server logs statements (``log_statement``) and bind parameters (``log_parameter_max_length``), but
not what COPY carries; so the secret goes into a temporary table by COPY and a DO block, which shows only
itself, puts the statement together. Its handler passes on the message alone, for the context of an error
would quote the statement. Temporary tables are not written to the WAL.
"""

from __future__ import annotations

from psycopg import sql

from daybreak.postgres.server import Connection

_RUN = sql.SQL(
    """
DO $do$
DECLARE
    secret text := (SELECT s.secret FROM pg_temp.daybreak_secret s);
BEGIN
    DROP TABLE pg_temp.daybreak_secret;
    EXECUTE format({template}, secret);
EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM;
END
$do$
"""
)


def execute_with_secret(connection: Connection, template: sql.Composable, secret: str) -> None:
    """Run ``template`` with ``secret`` as the literal in the place of its one ``%L`` (``format()``).

    Any other percent sign in ``template`` must be doubled. Raises what the statement raises, without
    its context."""
    with connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE daybreak_secret (secret text) ON COMMIT DROP")
        with connection.cursor().copy("COPY pg_temp.daybreak_secret FROM STDIN") as copy:
            copy.write_row([secret])
        connection.execute(_RUN.format(template=sql.Literal(template.as_string(connection))))
