"""SQLite's own promises: processes that race, die or lack rights; damaged, foreign and newer files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daybreak.errors import DaybreakError, PermanentError, TransientError
from daybreak.model import MigrationRecord
from daybreak.store import sqlite
from daybreak.store.sqlite import SqliteStateStore

_AT = datetime(2026, 2, 3, tzinfo=UTC)
_RECORD = MigrationRecord("shop", owner="ana")
_PRELUDE = """
import os, resource, signal, sqlite3, sys
from datetime import UTC, datetime
from pathlib import Path
from daybreak.errors import DaybreakError, StateConflict
from daybreak.model import MigrationRecord
from daybreak.store.sqlite import SqliteStateStore
store = SqliteStateStore(Path(sys.argv[1]))
def swap(version, owner="child"):
    record = MigrationRecord("shop", owner=owner)
    store.compare_and_swap(record, version, "moved", None, datetime.now(UTC), "x" * 10_000)
"""
_DIE = """
left, connect = int(sys.argv[2]), sqlite3.connect
def trace(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
def traced(*args, **kwargs):
    connection = connect(*args, **kwargs)
    connection.set_trace_callback(trace)
    return connection
sqlite3.connect = traced
swap(int(sys.argv[3]))
"""
_RACE = """
sys.stdin.read()
for version in range(20):
    try:
        swap(version, sys.argv[2])
        print("won", version)
    except StateConflict:
        pass
"""
_REFUSED = """
if sys.argv[2] == "unprivileged" and os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
if sys.argv[2] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    for version in range(100):
        swap(version)
except DaybreakError as error:
    print(type(error).__name__, version, error)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "shop.db"


def _child(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PRELUDE + script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _swap(path: Path, version: int) -> None:
    SqliteStateStore(path).compare_and_swap(_RECORD, version, "moved", None, _AT, "")


def _whole(path: Path) -> int:
    """The version of the record, with the journal agreeing to it."""
    store = SqliteStateStore(path)
    record = store.load("shop")
    version = 0 if record is None else record.version
    assert [entry.version for entry in store.journal("shop")] == list(range(1, version + 1))
    return version


def test_of_two_processes_one_wins_every_version(path: Path) -> None:
    children = [_child(_RACE, path, f"racer {number}") for number in range(3)]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
    wins = [line for child in children if child.stdout is not None for line in child.stdout.read().splitlines()]
    assert [child.wait() for child in children] == [0, 0, 0]
    for child in children:
        assert child.stdout is not None
        child.stdout.close()
    assert sorted(int(line.split()[1]) for line in wins) == list(range(_whole(path)))
    assert len(wins) > 0


@pytest.mark.parametrize("before", [0, 1], ids=["new file", "existing file"])
def test_a_killed_process_leaves_all_or_nothing(path: Path, before: int) -> None:
    for statement in range(100):
        for leftover in path.parent.glob("*"):
            leftover.unlink()
        if before:
            _swap(path, 0)
        with _child(_DIE, path, statement, before) as child:
            child.communicate()
        found = _whole(path)
        assert found in (before, before + 1)
        _swap(path, found)
        assert _whole(path) == found + 1
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
    assert statement > 5
    assert found == before + 1


def test_only_the_owner_can_read_it(path: Path) -> None:
    old = os.umask(0)
    try:
        _swap(path, 0)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_looking_makes_no_file(path: Path) -> None:
    assert SqliteStateStore(path).load("shop") is None
    assert SqliteStateStore(path).journal("shop") == ()
    assert not path.parent.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET event = 'forged'",
        "DELETE FROM journal",
        "INSERT OR REPLACE INTO journal VALUES (1, 'shop', 9, '', 0, '', 'forged', NULL, '')",
        "INSERT OR REPLACE INTO journal VALUES (9, 'shop', 1, '', 0, '', 'forged', NULL, '')",
    ],
)
def test_the_journal_is_append_only(path: Path, statement: str) -> None:
    _swap(path, 0)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    assert _whole(path) == 1


@pytest.mark.parametrize("what", ["file", "directory", "missing directory"])
def test_missing_rights_are_named(tmp_path: Path, path: Path, what: str) -> None:
    _swap(path, 0)
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    path.parent.chmod(0o777 if what == "file" else 0o555)
    path.chmod(0o400)
    target = path if what != "missing directory" else path.parent / "deeper" / "shop.db"
    with _child(_REFUSED, target, "unprivileged") as child:
        out, _ = child.communicate()
    assert out.startswith(f"PermanentError 0 {target}: ")
    assert "state.url" in out


def test_a_write_that_fails_half_way_is_undone(path: Path) -> None:
    with _child(_REFUSED, path, "full") as child:
        out, _ = child.communicate()
    kind, version, *words = out.split()
    assert kind == "PermanentError"
    assert "Free disk space" in " ".join(words)
    assert _whole(path) == int(version)
    _swap(path, int(version))


def test_a_full_disk_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _swap(path, 0)
    connect = sqlite3.connect

    def small(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 1")  # no more than there are
        return connection  # type: ignore[no-any-return]

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(PermanentError, match=r"(?s)full.*Free disk space"):
        SqliteStateStore(path).compare_and_swap(_RECORD, 1, "moved", None, _AT, "x" * 100_000)
    monkeypatch.undo()
    assert _whole(path) == 1


def test_a_locked_file_is_worth_another_try(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.1)
    _swap(path, 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert _whole(path) == 1  # readers don't wait
        with pytest.raises(TransientError, match="locked by another process"):
            _swap(path, 1)
    _swap(path, 1)


def _scribble(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwrite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE record SET body = '{'")
        connection.commit()


@pytest.mark.parametrize("damage", [_scribble, _cut, _overwrite])
def test_a_damaged_file_names_the_way_out(path: Path, damage: object) -> None:
    _swap(path, 0)
    assert callable(damage)
    damage(path)
    with pytest.raises(PermanentError) as raised:
        SqliteStateStore(path).load("shop")
    assert str(path) in raised.value.message
    assert "daybreak adopt" in raised.value.hint


@pytest.mark.parametrize("statement", ["CREATE TABLE theirs (a)", "PRAGMA user_version = 5"])
def test_another_programs_file_is_left_alone(path: Path, statement: str) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(PermanentError, match="another program"):
        _swap(path, 0)
    assert path.read_bytes() == before


def test_a_newer_file_is_left_alone(path: Path) -> None:
    _swap(path, 0)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(DaybreakError, match="newer Daybreak"):
        SqliteStateStore(path).load("shop")
