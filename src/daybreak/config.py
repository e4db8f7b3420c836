"""``daybreak.toml`` and the environment, validated once into frozen settings.

Environment variables override the file: ``DAYBREAK_SOURCE__DSN`` is ``[source] dsn``. Unknown keys
are errors. Secrets are named (``env:NAME``, ``file:PATH``) rather than written; a password inside
a DSN works and is warned about by ``daybreak check``.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import psycopg.conninfo
from psycopg import ProgrammingError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daybreak.errors import ConfigError
from daybreak.model import Policy, Side

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def _resolve(value: object) -> object:
    """Replace ``env:NAME`` and ``file:PATH`` by what they name; the value itself is never shown."""
    if not isinstance(value, str):
        return value
    kind, _, where = value.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise ValueError(f"environment variable {where} is not set")
        return os.environ[where]
    if kind == "file":
        try:
            return Path(where).expanduser().read_text().strip()
        except OSError as error:
            raise ValueError(f"{where} cannot be read: {error.strerror}") from error
    return value


Secret = Annotated[SecretStr, BeforeValidator(_resolve)]


class _Section(BaseModel):
    # hide_input_in_errors: a validation error must not print the DSN it rejects.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Server(_Section):
    """How to reach one side."""

    dsn: Secret = Field(description="libpq URI or key=value string of the migration role")
    password: Secret | None = Field(None, description="that role's password, where the DSN has none")
    peer_host: str = Field("", description="host under which the *other server* reaches this one, where it differs")
    peer_port: int = Field(0, ge=0, le=65535, description="port for peer_host; 0 = the port in the DSN")

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
        return keep

    @property
    def has_inline_password(self) -> bool:
        """Whether the DSN itself carries a password."""
        return "password" in psycopg.conninfo.conninfo_to_dict(self.dsn.get_secret_value())


class Replication(_Section):
    """What is copied and streamed, and how."""

    engine: Literal["native"] = Field("native", description="PostgreSQL's own logical replication")
    include: tuple[str, ...] = Field(("*.*",), description="schema.table patterns to migrate (* matches anything)")
    exclude: tuple[str, ...] = Field((), description="patterns to leave out")
    jobs: int = Field(4, ge=1, le=64, description="parallel table copies and index builds")
    client_bin: Path | None = Field(None, description="directory with psql, pg_dump, pg_restore; default: found")

    @field_validator("include", "exclude")
    @classmethod
    def _qualified(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if pattern.count(".") != 1:
                raise ValueError(f"{pattern!r} must be schema.table, for example public.*")
        return value


class Cutover(_Section):
    """Limits of a switchover."""

    max_lag_seconds: float = Field(1.0, gt=0, description="lag above which a switchover does not begin")
    max_write_pause_seconds: float = Field(10.0, gt=0, le=300, description="writers are never held longer")
    max_transaction_seconds: float = Field(30.0, gt=0, description="an open transaction older than this blocks")
    gate_patience_seconds: float = Field(30.0, ge=0, description="how long transient gates are waited for")
    max_verification_age_seconds: float = Field(86_400.0, gt=0, description="a verification older than this is stale")
    sequence_margin: int = Field(1_000, ge=0, description="values skipped on every sequence at a switchover")
    certificate_seconds: float = Field(600.0, ge=0, description="time limit of the comparison after opening")


class PgBouncer(_Section):
    """The PgBouncer router's console and the file of database entries that Daybreak owns."""

    admin_dsn: Secret = Field(description="connection to the admin console (dbname=pgbouncer)")
    password: Secret | None = Field(None, description="the admin user's password, where the DSN has none")
    databases_file: Path = Field(description="file that Daybreak writes and pgbouncer.ini includes (%include)")
    writer: str = Field(description="database entry that applications write through")
    reader: str = Field("", description="read-only database entry, or empty")
    options: str = Field("", description="further keywords for both entries, e.g. pool_size=20")


class Traffic(_Section):
    """How applications find the primary."""

    router: Literal["multihost", "pgbouncer"] = Field("multihost", description="who routes applications")
    pgbouncer: PgBouncer | None = Field(None, description="needed where router is pgbouncer")


class State(_Section):
    """Where record and journal are kept."""

    url: str = Field("", description="sqlite:///PATH; default sqlite:///.daybreak/NAME.db beside the configuration")


class Settings(BaseSettings):
    """Everything in ``daybreak.toml``, validated."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="DAYBREAK_", env_nested_delimiter="__", hide_input_in_errors=True
    )

    name: str = Field(description="name of the migration: a-z, 0-9 and _, at most 31 characters")
    source: Server
    target: Server
    replication: Replication = Replication()
    cutover: Cutover = Cutover()
    traffic: Traffic = Traffic()
    state: State = State()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the file."""
        return env_settings, init_settings

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        # It becomes part of slot names, which allow only these characters (PostgreSQL docs, 26.2.6).
        if not _NAME.fullmatch(value):
            raise ValueError("use a-z, 0-9 and _, beginning with a letter, at most 31 characters")
        return value

    def server(self, side: Side) -> Server:
        """The settings of ``side``."""
        return self.source if side is Side.SOURCE else self.target

    def policy(self) -> Policy:
        """The limits in the form that decisions take."""
        return Policy(**self.cutover.model_dump())


def load_settings(path: Path) -> Settings:
    """Read and validate ``path``; raises ConfigError naming every key that is wrong."""
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist.", "Run `daybreak init` to write one, or name it with --config."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "Name a readable file with --config.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.", "Mend that line.") from error
    try:
        settings = Settings(**raw)
    except ValidationError as error:
        lines = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigError(
            f"{path} is not usable:\n{lines}", "Mend these keys; `daybreak init --help` lists all."
        ) from None
    return _with_defaults(settings, path)


def _with_defaults(settings: Settings, path: Path) -> Settings:
    if settings.traffic.router == "pgbouncer" and settings.traffic.pgbouncer is None:
        raise ConfigError(
            f"{path}: traffic.router is pgbouncer, but [traffic.pgbouncer] is missing.", "Add the section."
        )
    if settings.state.url:
        if not settings.state.url.startswith("sqlite:///"):
            raise ConfigError(f"{path}: state.url must begin with sqlite:///.", "Use sqlite:///PATH or leave it out.")
        return settings
    url = f"sqlite:///{path.resolve().parent / '.daybreak' / (settings.name + '.db')}"
    return settings.model_copy(update={"state": State(url=url)})
