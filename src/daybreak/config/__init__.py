"""``daybreak.toml`` and the environment, validated once into frozen settings.

Environment variables override the file: ``DAYBREAK_SOURCE__DSN`` is ``[source] dsn``. Unknown keys
are errors. Secrets are named (``env:NAME``, ``file:PATH``, the ARN of a Secrets Manager secret) rather
than written; a password inside a DSN works and is warned about by ``daybreak check``.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daybreak.config.aws import Aws
from daybreak.config.sections import Cutover, Peer, PgBouncer, Replication, Server, State, Traffic
from daybreak.errors import ConfigError
from daybreak.model import Policy, Schedule, Side

__all__ = [
    "Aws",
    "Cutover",
    "InfraSettings",
    "Peer",
    "PgBouncer",
    "Replication",
    "Server",
    "Settings",
    "State",
    "Traffic",
    "load_infra_settings",
    "load_settings",
    "state_url",
]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_FILE = "sqlite:///"


class _File(BaseSettings):
    """What both kinds of settings have."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="DAYBREAK_", env_nested_delimiter="__", hide_input_in_errors=True
    )

    name: str = Field(description="name of the migration: a-z, 0-9 and _, at most 31 characters")
    source: Server
    target: Peer | None = None
    replication: Replication = Replication()
    cutover: Cutover = Cutover()
    traffic: Traffic = Traffic()
    state: State = State()
    aws: Aws | None = Field(None, description="the AWS side, for `daybreak infra`")

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


class Settings(_File):
    """Everything in ``daybreak.toml`` that moving a database takes."""

    target: Server

    def server(self, side: Side) -> Server:
        """The settings of ``side``."""
        return self.source if side is Side.SOURCE else self.target

    def policy(self) -> Policy:
        """The limits in the form that decisions take."""
        limits = self.cutover.model_dump(include={field.name for field in dataclasses.fields(Policy)})
        return Policy(**limits)

    def schedule(self) -> Schedule:
        """How traffic moves by itself."""
        rules = self.cutover
        return Schedule(
            rules.mode == "automatic", rules.read_schedule, rules.soak_seconds, rules.max_read_errors_per_minute
        )


class InfraSettings(_File):
    """The same file as the infrastructure reads it: AWS is needed, and the target need not exist yet."""

    target: Peer = Peer()
    aws: Aws

    @model_validator(mode="before")
    @classmethod
    def _only_the_peer(cls, values: dict[str, Any]) -> dict[str, Any]:
        # The target's password may name a secret that the stack has yet to make, or has just destroyed.
        target = values.get("target", {})
        return {**values, "target": {key: value for key, value in target.items() if key in Peer.model_fields}}


_Kind = TypeVar("_Kind", bound=_File)


def load_settings(path: Path) -> Settings:
    """Read and validate ``path``; raises ConfigError naming every key that is wrong."""
    return _with_defaults(_load(path, Settings), path)


def load_infra_settings(path: Path) -> InfraSettings:
    """Read and validate ``path`` for ``daybreak infra``; raises ConfigError naming every key that is wrong."""
    return _load(path, InfraSettings)


def _load(path: Path, kind: type[_Kind]) -> _Kind:
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
        settings = kind(**raw)
    except ValidationError as error:
        lines = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigError(
            f"{path} is not usable:\n{lines}", "Mend these keys; `daybreak init --help` lists all."
        ) from None
    rules = settings.cutover
    if settings.state.on_aws and rules.certificate_seconds > (most := rules.comparable_seconds):
        raise ConfigError(
            f"{path}: cutover.certificate_seconds is {rules.certificate_seconds:g}, but the function on AWS can compare"
            f" for {max(most, 0):g} s only: an invocation ends after 900 s, and the rest of it is for"
            " cutover.gate_patience_seconds, cutover.max_write_pause_seconds and 120 s of other work.",
            "Lower them. If that is too short for this database: more replication.jobs, or state in SQLite"
            " (docs/configuration.md, State).",
        )
    return settings


def _with_defaults(settings: Settings, path: Path) -> Settings:
    if settings.traffic.router == "pgbouncer" and settings.traffic.pgbouncer is None:
        raise ConfigError(
            f"{path}: traffic.router is pgbouncer, but [traffic.pgbouncer] is missing.", "Add the section."
        )
    if settings.traffic.router == "route53" and settings.aws is None:
        raise ConfigError(f"{path}: traffic.router is route53, but the section [aws] is missing.", "Add the section.")
    if settings.state.url:
        if not settings.state.url.startswith((_FILE, "dynamodb://")):
            raise ConfigError(
                f"{path}: state.url must begin with sqlite:/// or dynamodb://.", "Use sqlite:///PATH or leave it out."
            )
        if settings.state.on_aws and settings.aws is None:
            raise ConfigError(f"{path}: state.url is on AWS, but the section [aws] is missing.", "Add the section.")
    state = settings.state.model_copy(update={"url": state_url(settings, path)})
    return settings.model_copy(update={"state": state})


def state_url(settings: Settings | InfraSettings, path: Path) -> str:
    """Where record and journal are, whatever the working directory is: a file is named from the directory of the
    configuration ``path``, and is ``.daybreak/NAME.db`` there unless ``settings`` say otherwise."""
    url = settings.state.url or f"sqlite:///.daybreak/{settings.name}.db"
    if not url.startswith(_FILE):
        return url
    return f"{_FILE}{path.resolve().parent / url.removeprefix(_FILE)}"
