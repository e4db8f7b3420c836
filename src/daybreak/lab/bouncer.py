"""A real PgBouncer in front of a pair, with transaction pooling and the file of database entries that
Daybreak's router owns."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import psycopg
from psycopg import conninfo

from daybreak.errors import ConfigError, PermanentError
from daybreak.lab.cluster import HOST, free_port
from daybreak.lab.pair import APPLICATION, Pair
from daybreak.lab.unprivileged import Account, Nursery
from daybreak.model import Side

WRITER, READER = "payments", "payments_ro"
_ADMIN = "daybreak_admin"
_START_SECONDS = 20.0
# server_login_retry: after a failed login PgBouncer refuses clients for that long, 15 s by default.
_CONFIG = """\
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users.txt
admin_users = {admin}
pool_mode = transaction
max_client_conn = 200
default_pool_size = 20
server_login_retry = 1
logfile = {directory}/pgbouncer.log
{tls}
%include {directory}/databases.ini
"""


def find_pgbouncer() -> Path | None:
    """The installed ``pgbouncer``, also where ``/usr/sbin`` is not in PATH."""
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    return Path(found) if found else None


class Bouncer:
    """A running PgBouncer whose entries ``payments`` (writers) and ``payments_ro`` (readers) lead to
    the source at first. ``databases_file`` is included by its configuration and read on RELOAD."""

    def __init__(self, pair: Pair) -> None:
        program = find_pgbouncer()
        if program is None:
            raise ConfigError("pgbouncer is not installed.", "Install the system's pgbouncer package.")
        self._program = program
        self._nursery = Nursery(Account.current(), "daybreak-bouncer-", end_signal="KILL")
        atexit.register(self.close)
        self.directory = self._nursery.directory
        self.databases_file = self.directory / "databases.ini"
        self.port = free_port()
        self._passwords = {_ADMIN: secrets.token_urlsafe(18), APPLICATION: pair.application_password}
        self._process: subprocess.Popen[bytes] | None = None
        self._configure(pair)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def admin_dsn(self) -> str:
        """Connection string of the admin console. Holds a password."""
        return self._dsn(_ADMIN, "pgbouncer")

    @property
    def writer_dsn(self) -> str:
        """By which applications write. Holds a password."""
        return self._dsn(APPLICATION, WRITER)

    @property
    def reader_dsn(self) -> str:
        """By which applications read. Holds a password."""
        return self._dsn(APPLICATION, READER)

    def start(self) -> None:
        """Start and wait until the admin console answers; raises PermanentError with its log."""
        self._process = self._nursery.spawn([str(self._program), str(self.directory / "pgbouncer.ini")], self._output)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.admin_dsn, autocommit=True).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = self._output.read_text(errors="replace")
                    raise PermanentError(f"PgBouncer did not start:\n{log}", "See the log lines above.") from error
                time.sleep(0.02)

    def stop(self) -> None:
        """Kill it; ``start`` starts it again. Does nothing where it doesn't run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._nursery.forget()
            self._process = None

    def close(self) -> None:
        """End it and remove its directory. May be called again."""
        atexit.unregister(self.close)
        self.stop()
        self._nursery.close()

    @property
    def _output(self) -> Path:
        return self.directory / "start.log"

    def _dsn(self, user: str, dbname: str) -> str:
        return conninfo.make_conninfo(
            "", host=HOST, port=self.port, user=user, password=self._passwords[user], dbname=dbname
        )

    def _configure(self, pair: Pair) -> None:
        ca_file = pair.source.ca_file
        tls = f"server_tls_sslmode = verify-full\nserver_tls_ca_file = {ca_file}" if ca_file else ""
        config = _CONFIG.format(host=HOST, port=self.port, directory=self.directory, admin=_ADMIN, tls=tls)
        server = pair.cluster(Side.SOURCE)
        address = f"host={HOST} port={server.port} dbname={pair.database}"
        self._write("databases.ini", f"[databases]\n{WRITER} = {address}\n{READER} = {address}\n")
        # In clear text: it is from these that PgBouncer logs in to the servers by SCRAM.
        users = "".join(f'"{user}" "{password}"\n' for user, password in self._passwords.items())
        self._write("users.txt", users)
        self._write("pgbouncer.ini", config)

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.touch(0o600)
        path.write_text(text)
        os.chown(path, self._nursery.account.uid, self._nursery.account.gid)
