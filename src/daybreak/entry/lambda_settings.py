"""The function's settings: what ``daybreak infra deploy`` published of daybreak.toml, and both servers' secrets.

Nothing of it lies in the package or in the environment but names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg.conninfo
from pydantic import BaseModel, ConfigDict, ValidationError

import daybreak
from daybreak.aws.errors import translated
from daybreak.config import Settings
from daybreak.errors import PermanentError

if TYPE_CHECKING:
    from boto3.session import Session

_Kind = TypeVar("_Kind", bound=BaseModel)
_AUTHORITIES = Path(daybreak.__file__).parents[1] / "ca"
_AGAIN = "Run `daybreak infra deploy`, which writes it."


@dataclass(frozen=True, slots=True)
class Names:
    """What the environment names: parameters, secrets, table, key, topic and the rule of the schedule."""

    config_parameter: str
    source_secret: str
    target_secret: str
    state_table: str
    state_key: str
    notices_topic: str
    schedule: str

    @classmethod
    def of(cls, environment: dict[str, str]) -> Names:
        """From the function's ``environment``; raises PermanentError naming what is missing."""
        keys = {name: name.upper() for name in cls.__slots__}
        missing = [key for key in keys.values() if not environment.get(key)]
        if missing:
            raise PermanentError(f"The function's environment lacks {', '.join(missing)}.", _AGAIN)
        return cls(**{name: environment[key] for name, key in keys.items()})


@dataclass(frozen=True, slots=True)
class Configured:
    """What the function works with. ``task_arn`` is empty without DMS."""

    settings: Settings
    task_arn: str


class _Secret(BaseModel):
    """The form that RDS and DMS use too (Secrets Manager user guide, "JSON structure of secrets")."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str
    port: int
    dbname: str
    username: str
    password: str


class _Published(BaseModel):
    """Of the parameter only what the function needs; the rest is for people."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    task_arn: str | None = None
    settings: dict[str, Any]
    tls: dict[str, dict[str, str]]
    peers: dict[str, dict[str, str | int]] = {}


def load(session: Session, names: Names) -> Configured:
    """Read parameter and secrets. Raises TransientError or PermanentError; neither holds a password."""
    with translated(f"reading {names.config_parameter}"):
        text = session.client("ssm").get_parameter(Name=names.config_parameter, WithDecryption=True)
    published = _valid(_Published, text["Parameter"].get("Value", ""), names.config_parameter)
    servers = {
        side: {**_server(session, arn, published.tls.get(side, {})), **published.peers.get(side, {})}
        for side, arn in (("source", names.source_secret), ("target", names.target_secret))
    }
    state = {"url": f"dynamodb://{names.state_table}", "key": names.state_key}
    try:
        settings = Settings.model_validate({**published.settings, **servers, "state": state})
    except ValidationError as error:
        found = error.errors(include_input=False)
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
        raise PermanentError(f"The settings in {names.config_parameter} are not usable: {wrong}.", _AGAIN) from None
    return Configured(settings, published.task_arn or "")


def _server(session: Session, arn: str, tls: dict[str, str]) -> dict[str, object]:
    with translated(f"reading secret {arn}"):
        text = session.client("secretsmanager").get_secret_value(SecretId=arn).get("SecretString", "")
    found = _valid(_Secret, text, f"secret {arn}")
    root = tls.get("sslrootcert", "")
    if root.endswith(".pem"):  # the package has it
        tls = {**tls, "sslrootcert": str(_AUTHORITIES / root)}
    dsn = psycopg.conninfo.make_conninfo(
        host=found.host, port=found.port, dbname=found.dbname, user=found.username, **tls
    )
    return {"dsn": dsn, "password": found.password}


def _valid(kind: type[_Kind], text: str, where: str) -> _Kind:
    try:
        return kind.model_validate(json.loads(text))
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, one["loc"])) or "the whole" for one in error.errors(include_input=False))
        raise PermanentError(f"{where} is not in the form that is expected: {wrong}.", _AGAIN) from None
    except ValueError:
        raise PermanentError(f"{where} holds no JSON.", _AGAIN) from None
