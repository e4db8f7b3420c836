"""One PostgreSQL server: how Daybreak connects to it, names its sessions and translates its errors.

Every session is named ``daybreak:MIGRATION:GENERATION:PURPOSE`` (``application_name``), so that a
DBA sees who it is and a newer generation can end those of an older one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import conninfo, errors

from daybreak.errors import DaybreakError, PermanentError, TransientError
from daybreak.model import Side

Connection = psycopg.Connection[tuple[object, ...]]

# Daybreak's own sessions must not inherit the application's limits, nor the read-only default that
# closes a side; search_path is pinned because names are always qualified.
_OPTIONS = {
    "default_transaction_read_only": "off",
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "timezone": "UTC",
    # Values have to read the same on both sides, and rows that a policy hides are an error, not absent.
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "row_security": "off",
}
_KEEPALIVE = {
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}

_TRANSIENT = (
    errors.OperationalError,
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.QueryCanceled,
    errors.InterfaceError,
)
# OperationalError covers too much: these classes of it need a person.
_PERMANENT_TEXT = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "certificate verify failed",
    "does not support SSL",
    "could not translate host name",
    "is not permitted to log in",
    "root certificate file",
)
_PERMANENT_STATES = ("28", "3D", "53100", "42", "0A", "55000")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn psycopg's errors into TransientError or PermanentError that say where they happened.

    The classes follow SQLSTATE (PostgreSQL docs, Appendix A): connection loss, lock and statement
    timeouts, shutdown and deadlock are transient; authentication, missing objects, permissions and
    a full disk need a person.
    """
    try:
        yield
    except DaybreakError:
        raise
    except psycopg.Error as error:
        text = str(error).strip() or type(error).__name__
        state = error.sqlstate or ""
        permanent = state.startswith(_PERMANENT_STATES) or any(t in text for t in _PERMANENT_TEXT)
        if isinstance(error, _TRANSIENT) and not permanent:
            raise TransientError(f"{where}: {text}", "Check that the server runs and can be reached.") from error
        raise PermanentError(f"{where}: {text}", _hint(state, text)) from error


def _hint(state: str, text: str) -> str:
    if state.startswith("28") or "password" in text or "pg_hba" in text:
        return "Check user and password in daybreak.toml and the server's pg_hba.conf."
    if state == "42501":
        return "Run the script that `daybreak grants` prints, as a superuser, on that server."
    if state == "53100":
        return "Free disk space on that server, then run the same command again: it goes on where it stopped."
    if "does not exist" in text and state in {"", "3D000"}:
        return "Check dbname in daybreak.toml."
    return "See `daybreak check`."


@dataclass(frozen=True)
class Server:
    """One side's address and credentials. ``parameters`` are libpq keywords and hold the password:
    they are kept out of ``repr`` and must never be printed."""

    side: Side
    migration: str
    parameters: dict[str, str] = field(repr=False)
    peer: dict[str, str] = field(repr=False)

    @property
    def user(self) -> str:
        """The migration role's name."""
        return self.parameters["user"]

    @property
    def database(self) -> str:
        """The database's name."""
        return self.parameters["dbname"]

    def application_name(self, generation: int, purpose: str) -> str:
        """The name under which a session shows in pg_stat_activity (63 bytes at most)."""
        return f"daybreak:{self.migration}:{generation}:{purpose}"[:63]

    def connect(self, purpose: str, generation: int = 0, replication: bool = False) -> Connection:
        """A new autocommit session. Raises TransientError or PermanentError."""
        extra = {**_KEEPALIVE, **self.parameters, "application_name": self.application_name(generation, purpose)}
        extra["options"] = " ".join(
            [self.parameters.get("options", ""), *(f"-c {name}={value}" for name, value in _OPTIONS.items())]
        ).strip()
        if replication:
            extra["replication"] = "database"
        with translated(f"{self.side}: connecting as {self.user}"):
            connection = psycopg.connect(**extra, autocommit=True)  # type: ignore[arg-type]
            if connection.info.server_version >= 140000:
                # A statement whose controller was killed ends within seconds instead of running on.
                connection.execute("SET client_connection_check_interval = '2s'")
                connection.execute("SET idle_session_timeout = 0")
            return connection

    @contextmanager
    def session(self, purpose: str, generation: int = 0) -> Iterator[Connection]:
        """A session for a few statements, closed at the end, its errors translated."""
        connection = self.connect(purpose, generation)
        try:
            with translated(f"{self.side}: {purpose}"):
                yield connection
        finally:
            connection.close()

    def tool_environment(self, generation: int, purpose: str) -> dict[str, str]:
        """libpq environment for psql, pg_dump and pg_restore, so that nothing secret is an argument.

        See PostgreSQL docs, "libpq: Environment Variables"."""
        names = {
            "host": "PGHOST",
            "hostaddr": "PGHOSTADDR",
            "port": "PGPORT",
            "user": "PGUSER",
            "dbname": "PGDATABASE",
            "password": "PGPASSWORD",
            "sslmode": "PGSSLMODE",
            "sslrootcert": "PGSSLROOTCERT",
            "sslcert": "PGSSLCERT",
            "sslkey": "PGSSLKEY",
            "channel_binding": "PGCHANNELBINDING",
            "passfile": "PGPASSFILE",
        }
        known = {names[key]: value for key, value in self.parameters.items() if key in names}
        options = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
        return {
            **known,
            "PGAPPNAME": self.application_name(generation, purpose),
            "PGOPTIONS": f"{self.parameters.get('options', '')} {options}".strip(),
            "PGCONNECT_TIMEOUT": "10",
        }

    def peer_conninfo(self, user: str, password: str, application_name: str) -> str:
        """The conninfo by which the other server's subscription connects here. Holds a password."""
        return conninfo.make_conninfo(
            "", **{**self.peer, "user": user, "password": password}, application_name=application_name
        )
