"""Running programs that refuse root (PostgreSQL, PgBouncer) as an unprivileged user, and keeping
none of them alive longer than this process, not even when it is killed with SIGKILL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from daybreak.postgres.installations import Installation

# Reads process ids, one a line, the last one counts (empty: none runs). End of input means that the
# owner closed the pipe or died: end that process at once and remove the directory.
_WATCHER = """
PATH=/usr/bin:/bin:$PATH
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ] && kill -"$2" "$pid" 2>/dev/null; then
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1"
"""
# Tells the watcher its own process id before it becomes the server: no moment is left in which the
# owner can die and the server live on unknown.
_ANNOUNCE = 'echo $$; exec "$@" >>"$0" 2>&1'


@dataclass(frozen=True, slots=True)
class Account:
    """The user that lab servers run as: this process's own, or ``nobody`` when it is root."""

    uid: int
    gid: int
    dropped: bool

    @classmethod
    def current(cls) -> Account:
        """The account for this process."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), dropped=False)
        # initdb insists on a name in the passwd database, so any listed user but root will do.
        users = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
        entry = users.get("nobody") or next(iter(users.values()))
        return cls(entry.pw_uid, entry.pw_gid, dropped=True)

    def popen(self, command: list[str], stdout: int, cwd: Path) -> subprocess.Popen[bytes]:
        """Start ``command`` as this account in a session of its own: Ctrl-C in the terminal must
        reach the owner, which then decides, and not the servers."""
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            # A server that subscribes over TLS looks for client certificates in its home, and fails where
            # it may not look: root's home is closed to this account.
            env={**os.environ, "HOME": str(cwd)},
            start_new_session=True,
            user=self.uid if self.dropped else None,
            group=self.gid if self.dropped else None,
            extra_groups=[] if self.dropped else None,
        )

    def can_read(self, path: Path) -> bool:
        """Whether this account reaches ``path`` through all directories above it."""
        if not self.dropped:
            return os.access(path, os.R_OK)
        return self.popen(["/bin/sh", "-c", 'test -r "$1"', "sh", str(path)], subprocess.DEVNULL, Path("/")).wait() == 0

    def readable_copy(self, installation: Installation, directory: Path) -> Installation:
        """``installation`` itself, or a copy below ``directory`` where this account can't read it
        (a checkout under a home directory of mode 0700)."""
        if self.can_read(installation.bin_dir / "postgres"):
            return installation
        # Wheels keep their shared libraries in a sibling of the package and find them by relative path.
        package = installation.bin_dir.parent.parent
        for tree in (package, package.with_name(f"{package.name}.libs")):
            if tree.exists():
                shutil.copytree(tree, directory / tree.name, symlinks=True)
        return Installation(installation.major, directory / package.name / "pginstall" / "bin")


class Nursery:
    """A temporary directory owned by ``account`` and at most one server process in it.

    A small watcher process holds the other end of a pipe: when ``close`` is called or this process
    ends in whatever way, the server gets ``end_signal`` and the directory is removed."""

    def __init__(self, account: Account, prefix: str, end_signal: Literal["QUIT", "KILL"] = "QUIT") -> None:
        self.account = account
        # mkdtemp makes it 0700; below an unreachable TMPDIR it would be of no use to `account`.
        base = Path(tempfile.gettempdir())
        self.directory = Path(tempfile.mkdtemp(prefix=prefix, dir=base if account.can_read(base) else "/tmp"))
        os.chown(self.directory, account.uid, account.gid)
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", str(self.directory), end_signal],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def spawn(self, command: list[str], output: Path) -> subprocess.Popen[bytes]:
        """Start the server; what it prints is appended to ``output``."""
        assert self._watcher.stdin is not None
        announced = ["/bin/sh", "-c", _ANNOUNCE, str(output), *command]
        return self.account.popen(announced, self._watcher.stdin.fileno(), self.directory)

    def forget(self) -> None:
        """The server has ended and was waited for: its process id means nothing any more."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.write(b"\n")
        self._watcher.stdin.flush()

    def close(self) -> None:
        """End what runs and remove the directory. May be called again."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait()
