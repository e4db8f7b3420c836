"""PgBouncer's own promises, on a real one: clients under load see no error, nothing that happens to
the controller leaves them paused, and what stands in the way is named."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from pydantic import SecretStr
from support import server_of

from daybreak.config import PgBouncer
from daybreak.errors import ConfigError, PermanentError, StateConflict, TransientError
from daybreak.lab.bouncer import READER, WRITER, Bouncer
from daybreak.lab.pair import Pair
from daybreak.model import RoutingStatus, Side
from daybreak.traffic.console import Console
from daybreak.traffic.deadman import Deadman
from daybreak.traffic.pgbouncer import PgBouncerRouter

_PAUSING = """
import json, sys, time
from pydantic import SecretStr
from daybreak.config import PgBouncer
from daybreak.traffic.pgbouncer import PgBouncerRouter
order = json.loads(sys.stdin.readline())
router = PgBouncerRouter(PgBouncer(**order["settings"]), {}, lambda: None)
print("pausing", flush=True)
router.pause(order["seconds"])
print("paused", flush=True)
time.sleep(600)
"""


@pytest.fixture
def bouncer(pair: Pair) -> Iterator[Bouncer]:
    try:
        made = Bouncer(pair)
    except ConfigError as error:
        pytest.skip(str(error))
    with made:
        yield made


def _settings(bouncer: Bouncer) -> PgBouncer:
    dsn = SecretStr(bouncer.admin_dsn)
    return PgBouncer(admin_dsn=dsn, databases_file=bouncer.databases_file, writer=WRITER, reader=READER)


def _router(
    bouncer: Bouncer, pair: Pair, settings: PgBouncer | None = None, check: Callable[[], None] = lambda: None
) -> PgBouncerRouter:
    return PgBouncerRouter(settings or _settings(bouncer), {side: server_of(pair, side) for side in Side}, check)


@pytest.fixture
def router(bouncer: Bouncer, pair: Pair) -> PgBouncerRouter:
    return _router(bouncer, pair)


def _port(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("SELECT inet_server_port()").fetchone()
    assert row is not None
    return int(str(row[0]))


def _soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class _Clients:
    """Clients that run transactions of two statements without a pause and note where each ran."""

    def __init__(self, dsns: list[str]) -> None:
        self.ports: list[int] = []
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(dsn,)) for dsn in dsns]

    def _run(self, dsn: str) -> None:
        try:
            with psycopg.connect(dsn, prepare_threshold=None) as connection:
                while not self._stop.is_set():
                    with connection.transaction():
                        first, second = _port(connection), _port(connection)
                    assert first == second
                    self.ports.append(first)
        except Exception as error:
            self.errors.append(error)

    def wait_for_more(self, number: int = 50) -> None:
        wanted = len(self.ports) + number
        _soon(lambda: len(self.ports) >= wanted or bool(self.errors))

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            self.wait_for_more()
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        assert self.errors == []


def test_clients_move_there_and_back_without_an_error(router: PgBouncerRouter, bouncer: Bouncer, pair: Pair) -> None:
    clients = _Clients([bouncer.writer_dsn] * 4)
    with clients.running():
        for side in (Side.TARGET, Side.SOURCE, Side.TARGET):
            router.pause(20)
            before = len(clients.ports)
            router.point_writer(side)
            clients.wait_for_more()
            # Four transactions may have ended before the pause and not been noted yet.
            assert set(clients.ports[before + 4 :]) == {pair.cluster(side).port}


def test_readers_do_not_notice_that_their_idle_sessions_end(
    router: PgBouncerRouter, bouncer: Bouncer, pair: Pair
) -> None:
    clients = _Clients([bouncer.writer_dsn, bouncer.reader_dsn])
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'payments_app'"
    with clients.running(), pair.connect(Side.SOURCE) as source:
        router.pause(20)
        source.execute(end)
        router.point_writer(Side.TARGET)
        clients.wait_for_more()
        assert router.observe() == RoutingStatus(Side.TARGET, 0)


def test_without_a_pause_new_transactions_move_and_open_ones_end_where_they_are(
    router: PgBouncerRouter, bouncer: Bouncer, pair: Pair
) -> None:
    with (
        psycopg.connect(bouncer.writer_dsn, prepare_threshold=None) as open_one,
        psycopg.connect(bouncer.writer_dsn, prepare_threshold=None, autocommit=True) as idle_one,
    ):
        assert _port(open_one) == _port(idle_one) == pair.source.port
        router.point_writer(Side.TARGET)
        assert _port(open_one) == pair.source.port
        assert _port(idle_one) == pair.target.port
        open_one.commit()
        assert _port(open_one) == pair.target.port


def test_reads_move_to_the_target(router: PgBouncerRouter, bouncer: Bouncer, pair: Pair) -> None:
    with psycopg.connect(bouncer.reader_dsn, prepare_threshold=None, autocommit=True) as reader:
        for percent, side in ((100, Side.TARGET), (0, Side.SOURCE)):
            router.shift_reads(percent)
            assert _port(reader) == pair.cluster(side).port


def test_a_long_transaction_keeps_the_pause_from_being_taken(
    router: PgBouncerRouter, bouncer: Bouncer, pair: Pair
) -> None:
    with psycopg.connect(bouncer.writer_dsn, prepare_threshold=None) as long_one:
        assert _port(long_one) == pair.source.port
        with pytest.raises(TransientError, match=r"(?s)could not pause payments within .* pool_mode=session"):
            router.pause(1)
        assert router.observe() == RoutingStatus(Side.SOURCE, 0, paused=False)
        with psycopg.connect(bouncer.writer_dsn, prepare_threshold=None) as other:
            assert _port(other) == pair.source.port
        assert _port(long_one) == pair.source.port
    router.pause(10)
    router.resume()


def test_a_long_report_does_not(router: PgBouncerRouter, bouncer: Bouncer) -> None:
    with psycopg.connect(bouncer.reader_dsn, prepare_threshold=None) as report:
        _port(report)
        router.pause(2)
        assert router.observe().paused
        router.point_writer(Side.TARGET)
        _port(report)


@pytest.mark.parametrize("when", ["pausing", "paused"])
@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
def test_no_death_of_the_controller_leaves_clients_paused(
    router: PgBouncerRouter, bouncer: Bouncer, when: str, what: signal.Signals
) -> None:
    settings = _settings(bouncer)
    order = {"settings": {**settings.model_dump(mode="json"), "admin_dsn": bouncer.admin_dsn}, "seconds": 4}
    # With an open transaction the PAUSE is given and waits.
    with psycopg.connect(bouncer.writer_dsn, prepare_threshold=None) as client:
        if when == "pausing":
            _port(client)
        with subprocess.Popen(
            [sys.executable, "-c", _PAUSING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as controller:
            assert controller.stdin is not None
            assert controller.stdout is not None
            try:
                controller.stdin.write(json.dumps(order) + "\n")
                controller.stdin.flush()
                while controller.stdout.readline().strip() != when:
                    pass
                _soon(lambda: router.observe().paused)
                controller.send_signal(what)
                _soon(lambda: not router.observe().paused)
            finally:
                controller.kill()
        client.rollback()
        _port(client)


def _deadman() -> psutil.Process:
    """The one that runs. Children of other tests may have ended and not been reaped yet."""
    alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    (process,) = [one for one in alive if "daybreak.traffic.deadman" in one.cmdline()]
    return process


def test_the_deadman_acts_before_it_lets_itself_be_ended(router: PgBouncerRouter) -> None:
    router.pause(60)
    process = _deadman()
    process.terminate()
    _soon(lambda: not router.observe().paused)
    router.resume()


def test_the_deadman_keeps_its_secrets(bouncer: Bouncer) -> None:
    password = psycopg.conninfo.conninfo_to_dict(bouncer.admin_dsn)["password"]
    deadman = Deadman.start(bouncer.admin_dsn, [WRITER], 60)
    try:
        process = _deadman()
        assert str(password) not in repr((process.cmdline(), process.environ(), deadman))
    finally:
        deadman.dismiss()


def test_a_deadman_that_cannot_connect_keeps_everything_running(bouncer: Bouncer, pair: Pair) -> None:
    settings = _settings(bouncer).model_copy(update={"password": SecretStr("wrong")})
    with pytest.raises((TransientError, PermanentError), match="PgBouncer's console"):
        _router(bouncer, pair, settings).pause(5)
    with pytest.raises(TransientError, match="Nothing was paused"):
        Deadman.start(bouncer.admin_dsn.replace("password=", "password=x"), [WRITER], 60)
    assert _router(bouncer, pair).observe() == RoutingStatus(Side.SOURCE, 0)


def test_a_file_that_is_not_included_is_noticed(bouncer: Bouncer, pair: Pair, tmp_path: Path) -> None:
    settings = _settings(bouncer).model_copy(update={"databases_file": tmp_path / "elsewhere.ini"})
    router = _router(bouncer, pair, settings)
    router.pause(20)
    with pytest.raises(PermanentError, match=r"(?s)After RELOAD, .*payments leads to .*%include"):
        router.point_writer(Side.TARGET)
    assert router.observe() == RoutingStatus(Side.SOURCE, 0, paused=True)
    router.resume()


def test_an_entry_that_is_missing_is_named(bouncer: Bouncer, pair: Pair) -> None:
    settings = _settings(bouncer).model_copy(update={"writer": "nobody", "reader": ""})
    router = _router(bouncer, pair, settings)
    assert router.observe() == RoutingStatus(problem="PgBouncer has no database entry nobody.")
    assert "no read-only entry" in router.refuse_shift(100)
    with pytest.raises(PermanentError, match=r"(?s)refused: .*nobody.*\n.*entries exist"):
        router.pause(5)


def test_a_place_that_is_neither_side_is_named(router: PgBouncerRouter, bouncer: Bouncer) -> None:
    bouncer.databases_file.write_text(f"[databases]\n{WRITER} = host=127.0.0.9 port=7 dbname=theirs\n")
    console = Console(bouncer.admin_dsn)
    console.reload()
    console.close()
    status = router.observe()
    assert status.writer is None
    assert status.problem == "PgBouncer's entry payments leads to 127.0.0.9:7/theirs, not where it should."
    router.point_writer(Side.TARGET)
    assert router.observe() == RoutingStatus(Side.TARGET, 0)


def test_pgbouncer_that_is_down_is_a_problem_and_comes_back(router: PgBouncerRouter, bouncer: Bouncer) -> None:
    router.pause(60)
    bouncer.stop()
    assert "PgBouncer's console" in router.observe().problem
    with pytest.raises(TransientError, match="PgBouncer's console"):
        router.point_writer(Side.TARGET)
    bouncer.start()
    router.point_writer(Side.TARGET)
    assert router.observe() == RoutingStatus(Side.TARGET, 0)


def test_somebody_elses_pause_is_not_ours(router: PgBouncerRouter, bouncer: Bouncer) -> None:
    with psycopg.connect(bouncer.admin_dsn, autocommit=True) as console:
        console.execute("PAUSE")
        with pytest.raises(PermanentError, match=r"(?s)already .*paused.*\n.*nobody else has paused"):
            router.pause(5)
        console.execute("RESUME")


def test_an_older_generation_changes_nothing(bouncer: Bouncer, pair: Pair) -> None:
    def stale() -> None:
        raise StateConflict("A newer Daybreak took charge.")

    before = bouncer.databases_file.read_bytes()
    router = _router(bouncer, pair, check=stale)
    with pytest.raises(StateConflict):
        router.point_writer(Side.TARGET)
    with pytest.raises(StateConflict):
        router.shift_reads(100)
    assert bouncer.databases_file.read_bytes() == before
    assert router.observe() == RoutingStatus(Side.SOURCE, 0)


def test_the_file_stays_readable_for_pgbouncer(router: PgBouncerRouter, bouncer: Bouncer) -> None:
    before = bouncer.databases_file.stat()
    router.point_writer(Side.TARGET)
    after = bouncer.databases_file.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert "password" not in bouncer.databases_file.read_text()
    assert [path.name for path in bouncer.directory.iterdir() if path.name.startswith(".")] == []


def test_a_directory_that_is_missing_is_named(bouncer: Bouncer, pair: Pair, tmp_path: Path) -> None:
    settings = _settings(bouncer).model_copy(update={"databases_file": tmp_path / "none" / "x.ini"})
    with pytest.raises(PermanentError, match=r"(?s)none/x\.ini could not be replaced: .*write its directory"):
        _router(bouncer, pair, settings).point_writer(Side.TARGET)
