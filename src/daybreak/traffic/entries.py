"""The file of PgBouncer's database entries (PgBouncer docs, "pgbouncer.ini", section [databases]):
what may stand in it, and how it is replaced.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path

from daybreak.errors import ConfigError, PermanentError

_HEADER = "; Written by Daybreak, which replaces this file whenever it moves traffic."
_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # without the "*" of the format, which stands for any database
_KEYWORD = re.compile(r"[a-z_]+")
_NOT_OPTIONS = frozenset({"host", "port", "dbname", "password"})


def checked_name(name: str) -> str:
    """``name`` where it can name an entry; raises ConfigError otherwise."""
    if not _NAME.fullmatch(name) or name == "pgbouncer":
        raise ConfigError(f"traffic.pgbouncer: {name!r} can't name a database entry.", "Use letters, digits and _.-")
    return name


def checked_options(text: str) -> dict[str, str]:
    """The keywords in ``text`` (``pool_size=20 pool_mode=transaction``); raises ConfigError for
    anything else, for addresses and for passwords."""
    try:
        pairs = [word.partition("=") for word in shlex.split(text)]
    except ValueError as error:
        raise ConfigError(f"traffic.pgbouncer.options: {error}.", "Write KEY=VALUE pairs.") from error
    for key, equals, _ in pairs:
        if not equals or not _KEYWORD.fullmatch(key) or key in _NOT_OPTIONS:
            raise ConfigError(
                f"traffic.pgbouncer.options: {key!r} can't be set there.",
                "Write KEY=VALUE pairs; the address is Daybreak's, and passwords belong in PgBouncer's auth_file.",
            )
    return {key: value for key, _, value in pairs}


def render(entries: Mapping[str, Mapping[str, str]]) -> str:
    """The file's text for ``entries``, each a name with its keywords; raises ConfigError for a value
    that the format can't hold."""
    lines = [
        f"{name} = " + " ".join(f"{key}={_quoted(value)}" for key, value in keywords.items())
        for name, keywords in entries.items()
    ]
    return "\n".join([_HEADER, "[databases]", *lines, ""])


def write_entries(path: Path, entries: Mapping[str, Mapping[str, str]]) -> None:
    """Make ``entries`` the content of ``path``, atomically and durably.

    Owner and mode stay as they were, so that PgBouncer can read it. Raises PermanentError where
    the file can't be replaced."""
    try:
        _replace(path.resolve(), render(entries))
    except OSError as error:
        raise PermanentError(
            f"{path} could not be replaced: {error.strerror}.",
            "The user who runs Daybreak must own that file and be able to write its directory.",
        ) from error


def _quoted(value: str) -> str:
    if any(character in value for character in "\r\n\0"):
        raise ConfigError("A value of a PgBouncer entry contains a line break.", "Mend host, dbname or options.")
    return "'" + value.replace("'", "''") + "'"


def _replace(path: Path, text: str) -> None:
    old = path.stat() if path.exists() else None
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            os.fchmod(handle, 0o644 if old is None else old.st_mode & 0o7777)
            if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, old.st_uid, old.st_gid)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
