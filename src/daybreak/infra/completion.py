"""``daybreak.toml`` completed with what a stack made: comments, order and everything else stay."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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


def complete(path: Path, outputs: Mapping[str, Any], replace: bool) -> tuple[str, ...]:
    """Put the target's DSN, and its password by reference to its secret, into the file; the keys written.

    A key that is there and means the same stays as it is. Raises ConfigError, and writes nothing, where one
    says otherwise (unless ``replace``) or the outputs are not those of an applied stack."""
    found = completed(path.read_text(), outputs, replace)
    if found.differing:
        raise ConfigError(
            f"{path} says otherwise in {', '.join(found.differing)}; nothing was written.",
            "Mend that, or run `daybreak infra outputs --replace`.",
        )
    if found.written:
        # In one step: whoever reads it meanwhile reads all of the old or all of the new.
        scratch = path.with_name(f".{path.name}.new")
        scratch.touch(0o600)
        scratch.write_text(found.text)
        shutil.copymode(path, scratch)
        scratch.replace(path)
    return found.written


def completed(text: str, outputs: Mapping[str, Any], replace: bool) -> Completion:
    """``text`` with what ``complete`` puts into it."""
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
