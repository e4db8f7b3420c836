"""``daybreak.toml`` completed with what a stack made: comments, order and everything else stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg.conninfo
import tomlkit
from psycopg import ProgrammingError
from tomlkit.items import Table

from daybreak.errors import ConfigError

_SECTION = "target"
_IDENTITY = ("host", "port", "dbname", "user")
_DEFAULTS = {"port": "5432"}


@dataclass(frozen=True, slots=True)
class Completion:
    """The new text, the keys of ``[target]`` that were written, and those that say otherwise and were left."""

    text: str
    written: tuple[str, ...]
    differing: tuple[str, ...]


def completed(text: str, outputs: Mapping[str, Any], replace: bool) -> Completion:
    """``text`` with the target's DSN, and its password by reference to its secret.

    A key that is there and means the same stays as it is; one that differs is written only with ``replace``.
    Raises ConfigError where the outputs are not those of an applied stack."""
    document = tomlkit.parse(text)
    section = document.get(_SECTION)
    if not isinstance(section, Table):
        section = tomlkit.table()
        document[_SECTION] = section
    written, differing = [], []
    for key, value in _wanted(outputs).items():
        there = section.get(key)
        if there is not None and _same(key, str(there), value):
            continue
        if there is not None and not replace:
            differing.append(key)
            continue
        section[key] = value
        written.append(f"{_SECTION}.{key}")
    return Completion(tomlkit.dumps(document), tuple(written), tuple(f"{_SECTION}.{key}" for key in differing))


def _wanted(outputs: Mapping[str, Any]) -> dict[str, str]:
    try:
        user, host, port = outputs["target_user"], outputs["target_host"], outputs["target_port"]
        database, secret = outputs["target_database"], outputs["target_secret_arn"]
    except KeyError as error:
        raise ConfigError(f"The stack has no output {error}.", "Run `daybreak infra deploy` first.") from None
    # Aurora's certificate speaks for its own names only, so this is one of those.
    return {"dsn": f"postgresql://{user}@{host}:{port}/{database}?sslmode=verify-full", "password": secret}


def _same(key: str, there: str, wanted: str) -> bool:
    """Whether two values mean the same: of a DSN what it leads to, not what else is said in it."""
    if key != "dsn":
        return there == wanted
    try:
        found, made = (psycopg.conninfo.conninfo_to_dict(dsn) for dsn in (there, wanted))
    except ProgrammingError:
        return False
    return all(str(found.get(part, _DEFAULTS.get(part))) == str(made.get(part)) for part in _IDENTITY)
