"""``daybreak init``: a configuration to fill in, every key in it with its meaning and default.

Both the file and ``daybreak init --help`` are made from the settings' own fields, so none can be missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daybreak.config import Settings
from daybreak.entry.command import command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.errors import ConfigError

# What to write where there is no default: required keys as they could be, optional ones commented out.
_EXAMPLES = {
    "name": "payments",
    "source.dsn": "postgresql://daybreak@old.example.net:5432/payments?sslmode=verify-full",
    "source.password": "env:DAYBREAK_SOURCE_PASSWORD",
    "target.dsn": "postgresql://daybreak@new.example.net:5432/payments?sslmode=verify-full",
    "target.password": "env:DAYBREAK_TARGET_PASSWORD",
    "replication.client_bin": "/usr/lib/postgresql/18/bin",
    "traffic.pgbouncer.admin_dsn": "postgresql://daybreak@127.0.0.1:6432/pgbouncer",
    "traffic.pgbouncer.password": "env:PGBOUNCER_ADMIN_PASSWORD",
    "traffic.pgbouncer.databases_file": "/etc/pgbouncer/daybreak.ini",
    "traffic.pgbouncer.writer": "payments",
    "aws.environment": "prod",
    "aws.region": "eu-central-1",
    "aws.network.vpc_cidr": "10.60.0.0/16",
    "aws.network.source_cidrs": ["192.168.20.0/24"],
    "aws.aurora.engine_version": "17.5",
    "aws.aurora.deletion_protection": True,
    "aws.aurora.final_snapshot": True,
    "aws.routing.zone_name": "payments.internal",
}
_HEAD = """\
# A migration with Daybreak. Keys that are commented out show their defaults, or an example where there is none.
# Every key can also be given in the environment: DAYBREAK_SOURCE__DSN is dsn in [source].
# Secrets are best named rather than written here: "env:NAME", "file:PATH" or the ARN of a secret in
# AWS Secrets Manager.
"""


@dataclass(frozen=True, slots=True)
class InitReport:
    """The file that was written."""

    path: str


@dataclass(frozen=True, slots=True)
class _Key:
    """One key of the configuration."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def required(self) -> bool:
        return self.field.is_required()

    @property
    def default(self) -> object:
        """The default as it could stand in the file; None where there is none."""
        value = None if self.required else self.field.default
        return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the file; an ``optional`` one may be missing altogether."""

    path: tuple[str, ...]
    keys: tuple[_Key, ...]
    optional: bool


def init(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Write the configuration; see ``help_text``."""
    with command("init", config, as_json) as run:
        try:
            # Only for its owner, who may write a password into it.
            file = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigError(f"{config} exists and is left alone.", "Name another file with --config.") from None
        except OSError as error:
            raise ConfigError(f"{config} cannot be written: {error.strerror}.", "Name another with --config.") from None
        with os.fdopen(file, "w") as writing:
            writing.write(template())
        run.show(InitReport(str(config)), f"Wrote {config}. Fill in name and both servers, then run `daybreak check`.")


def help_text() -> str:
    """The help of the command: every key with its meaning."""
    lines = [f"  {'.'.join(key.path)}: {key.field.description}" for table in _sections() for key in table.keys]
    return "Write a commented configuration; never overwrites one.\n\n\b\nIts keys:\n" + "\n".join(lines)


def template() -> str:
    """The text of a new configuration."""
    return "\n".join([_HEAD, *map(_section, _sections())])


def keys() -> Iterator[str]:
    """Every key, dotted, in the order of the file."""
    for table in _sections():
        for key in table.keys:
            yield ".".join(key.path)


def _sections() -> Iterator[_Table]:
    yield from _walk((), Settings, optional=False)


def _walk(path: tuple[str, ...], model: type[BaseModel], optional: bool) -> Iterator[_Table]:
    nested = {name: inner for name, field in model.model_fields.items() if (inner := _model_of(field)) is not None}
    # What a section has of its own comes before what it shares with others.
    plain = sorted(model.model_fields.keys() - nested.keys(), key=list(model.model_fields).index)
    plain.sort(key=lambda name: name not in model.__annotations__)
    found = tuple(_Key((*path, name), model.model_fields[name]) for name in plain)
    yield _Table(path, found, optional)
    for name, inner in nested.items():
        yield from _walk((*path, name), inner, optional or model.model_fields[name].default is None)


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _section(table: _Table) -> str:
    # A section that may be missing altogether has required keys of its own: it is commented out whole.
    off = "# " if table.optional else ""
    lines = [f"{off}[{'.'.join(table.path)}]"] if table.path else []
    for key in table.keys:
        value = _EXAMPLES.get(".".join(key.path), "") if key.default in (None, "") else key.default
        hidden = table.optional or not key.required
        lines += [
            f"# {key.field.description}",
            f"{'# ' if hidden else ''}{key.path[-1]} = {json.dumps(value, ensure_ascii=False)}",
        ]
    return "\n".join(lines) + "\n"
