"""The sections of ``daybreak.toml`` that every migration has."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import psycopg.conninfo
from psycopg import ProgrammingError
from pydantic import Field, SecretStr, field_validator

from daybreak.config.section import Secret, Section

# The longest that AWS lets a function run (Lambda quotas, "Function timeout"), and what signing in, guarding every
# table and telling take of it.
_INVOCATION_SECONDS, _OTHER_SECONDS = 900.0, 120.0


class Peer(Section):
    """How the *other server* connects to one side, where that differs from how Daybreak does."""

    peer_host: str = Field("", description="host under which the *other server* reaches this one, where it differs")
    peer_port: int = Field(0, ge=0, le=65535, description="port for peer_host; 0 = the port in the DSN")
    peer_sslmode: Literal["", "require", "verify-ca", "verify-full"] = Field(
        "", description="sslmode with which the *other server* connects; default: that in the DSN"
    )
    peer_sslrootcert: str = Field(
        "", description="file of the CA *on the other server*; default: that in the DSN, without peer_sslmode"
    )


class Server(Peer):
    """How to reach one side."""

    dsn: Secret = Field(description="libpq URI or key=value string of the migration role")
    password: Secret | None = Field(None, description="that role's password, where the DSN has none")

    @field_validator("dsn")
    @classmethod
    def _parses(cls, value: SecretStr) -> SecretStr:
        try:
            parts = psycopg.conninfo.conninfo_to_dict(value.get_secret_value())
        except ProgrammingError:
            raise ValueError("not a libpq connection string (postgresql://user@host:port/dbname)") from None
        missing = [key for key in ("host", "user", "dbname") if not parts.get(key)]
        if missing:
            raise ValueError(f"must name {', '.join(missing)}")
        if "," in str(parts["host"]):
            raise ValueError("must name exactly one host: this is one side of the migration")
        return value

    def parameters(self) -> dict[str, str]:
        """The connection's libpq keywords, password included. Never print these."""
        parts = {k: str(v) for k, v in psycopg.conninfo.conninfo_to_dict(self.dsn.get_secret_value()).items()}
        if self.password is not None:
            parts["password"] = self.password.get_secret_value()
        return parts

    def peer_parameters(self) -> dict[str, str]:
        """Host, port, dbname and TLS keywords by which the other server connects to this one."""
        parts = self.parameters()
        keep = {k: v for k, v in parts.items() if k in {"host", "port", "dbname", "hostaddr"} or k.startswith("ssl")}
        if self.peer_host:
            keep["host"] = self.peer_host
            keep.pop("hostaddr", None)
        if self.peer_port:
            keep["port"] = str(self.peer_port)
        if self.peer_sslmode:
            keep["sslmode"] = self.peer_sslmode
            keep.pop("sslrootcert", None)
        if self.peer_sslrootcert:
            keep["sslrootcert"] = self.peer_sslrootcert
        return keep

    @property
    def has_inline_password(self) -> bool:
        """Whether the DSN itself carries a password."""
        return "password" in psycopg.conninfo.conninfo_to_dict(self.dsn.get_secret_value())


class Replication(Section):
    """What is copied and streamed, and how."""

    engine: Literal["native", "dms"] = Field("native", description="PostgreSQL's own logical replication, or AWS DMS")
    include: tuple[str, ...] = Field(("*.*",), description="schema.table patterns to migrate (* matches anything)")
    exclude: tuple[str, ...] = Field((), description="patterns to leave out")
    jobs: int = Field(4, ge=1, le=64, description="parallel table copies, index builds, and a comparison's sessions")
    client_bin: Path | None = Field(None, description="directory with psql, pg_dump, pg_restore; default: found")

    @field_validator("include", "exclude")
    @classmethod
    def _qualified(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if pattern.count(".") != 1:
                raise ValueError(f"{pattern!r} must be schema.table, for example public.*")
        return value


class Cutover(Section):
    """Limits of a switchover."""

    max_lag_seconds: float = Field(1.0, gt=0, description="lag above which a switchover does not begin")
    max_write_pause_seconds: float = Field(10.0, gt=0, le=300, description="writers are never held longer")
    max_transaction_seconds: float = Field(30.0, gt=0, description="an open transaction older than this blocks")
    gate_patience_seconds: float = Field(30.0, ge=0, description="how long transient gates are waited for")
    max_verification_age_seconds: float = Field(86_400.0, gt=0, description="a verification older than this is stale")
    sequence_margin: int = Field(1_000, ge=0, description="values skipped on every sequence at a switchover")
    certificate_seconds: float = Field(600.0, ge=0, description="time limit of a comparison of both sides")
    mode: Literal["manual", "automatic"] = Field(
        "manual", description="automatic: the controller on AWS moves reads by the schedule, then writes"
    )
    read_schedule: tuple[int, ...] = Field(
        (20, 50, 80, 100), description="shares of reads, percent, one after the other"
    )
    soak_seconds: float = Field(600.0, ge=0, description="how long each share is kept before the next step")
    max_read_errors_per_minute: float = Field(
        30.0, gt=0, description="above this many failed transactions on the standby reads go back to the primary"
    )

    @property
    def comparable_seconds(self) -> float:
        """What an invocation of the function on AWS has for a comparison, which can't go on in the next one."""
        return _INVOCATION_SECONDS - _OTHER_SECONDS - self.gate_patience_seconds - self.max_write_pause_seconds

    @field_validator("read_schedule")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(not 1 <= share <= 100 for share in value) or sorted(set(value)) != list(value):
            raise ValueError("must be rising percentages, for example [20, 50, 80, 100]")
        return value


class PgBouncer(Section):
    """The PgBouncer router's console and the file of database entries that Daybreak owns."""

    admin_dsn: Secret = Field(description="connection to the admin console (dbname=pgbouncer)")
    password: Secret | None = Field(None, description="the admin user's password, where the DSN has none")
    databases_file: Path = Field(description="file that Daybreak writes and pgbouncer.ini includes (%include)")
    writer: str = Field(description="database entry that applications write through")
    reader: str = Field("", description="read-only database entry, or empty")
    options: str = Field("", description="further keywords for both entries, e.g. pool_size=20")


class Traffic(Section):
    """How applications find the primary."""

    router: Literal["multihost", "pgbouncer", "route53"] = Field("multihost", description="who routes applications")
    pgbouncer: PgBouncer | None = Field(None, description="needed where router is pgbouncer")


class State(Section):
    """Where record and journal are kept."""

    url: str = Field(
        "",
        description="sqlite:///PATH from the configuration's directory (default .daybreak/NAME.db), or"
        " dynamodb://TABLE for a controller on AWS",
    )

    key: str = Field("", description="on AWS: ARN of the KMS key of the published state; default: found by its alias")

    @property
    def on_aws(self) -> bool:
        """Whether the migration is led by the function on AWS."""
        return self.url.startswith("dynamodb://")
