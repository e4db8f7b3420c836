"""Servers that restart, crash or fill up while clients write: nothing is lost, and the same command run
again goes on."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from psycopg import sql
from rehearsal.points import at
from rehearsal.world import World

from daybreak.errors import DaybreakError
from daybreak.lab.pair import Pair
from daybreak.lab.unprivileged import Account
from daybreak.model import Side, Verb

LIMITS = {"max_write_pause_seconds": 3.0, "gate_patience_seconds": 3.0}


def test_the_source_restarts_while_streaming(own_pair: Pair, tmp_path: Path) -> None:
    with World(own_pair, tmp_path) as world:
        world.must("start", "verify")
        own_pair.source.restart()
        world.writes_go_on()
        own_pair.source.kill()
        own_pair.source.start()
        world.writes_go_on()
        world.must("cutover", "rollback")
        world.writes_go_on()
        world.books_are_clean(Side.SOURCE)


@pytest.mark.parametrize("point", ["table of load", pytest.param("during build_indexes", marks=pytest.mark.full)])
def test_the_target_crashes_during_the_load(own_pair: Pair, tmp_path: Path, point: str) -> None:
    with World(own_pair, tmp_path, LIMITS, replication={"jobs": 1}) as world:
        with world.runtime(at(point, own_pair.target.kill)) as runtime, pytest.raises(DaybreakError) as error:
            runtime.controller.run(Verb.START)
        assert error.value.hint
        world.writes_go_on()
        assert world.workload.ledger.failures() == ()
        own_pair.target.start()
        world.must("start", "verify", "cutover")
        world.writes_go_on()
        world.books_are_clean(Side.TARGET)


@pytest.mark.parametrize(
    "point",
    [*(pytest.param(point, marks=pytest.mark.full) for point in ("intend switch", "mark held")), "mark drained"],
)
def test_the_target_crashes_before_the_commit_point(own_pair: Pair, tmp_path: Path, point: str) -> None:
    with World(own_pair, tmp_path, LIMITS) as world:
        world.must("start", "verify")
        with world.runtime(at(point, own_pair.target.kill)) as runtime, pytest.raises(DaybreakError):
            runtime.controller.run(Verb.CUTOVER)
        world.writes_go_on()
        assert world.probes.primaries() == [Side.SOURCE]
        own_pair.target.start()
        world.must("cutover")
        world.writes_go_on()
        world.books_are_clean(Side.TARGET)


@pytest.mark.parametrize(
    ("point", "side"),
    [
        pytest.param("mark sequences", Side.TARGET, marks=pytest.mark.full),
        ("mark committed", Side.TARGET),
        pytest.param("mark held", Side.SOURCE, marks=pytest.mark.full),
    ],
)
def test_a_server_crashes_in_the_hot_part_and_comes_back(
    own_pair: Pair, tmp_path: Path, point: str, side: Side
) -> None:
    cluster = own_pair.cluster(side)

    def crash() -> None:
        cluster.kill()
        threading.Timer(1.0, cluster.start).start()

    with World(own_pair, tmp_path) as world:
        world.must("start", "verify")
        with world.runtime(at(point, crash)) as runtime:
            try:
                runtime.controller.run(Verb.CUTOVER)
            except DaybreakError:
                while not cluster.running:
                    time.sleep(0.05)
                cluster.start()
                runtime.controller.run(Verb.CUTOVER)
        world.writes_go_on()
        world.books_are_clean(Side.TARGET)
        assert world.probes.primaries() == [Side.SOURCE, Side.TARGET]


@pytest.mark.full
def test_the_target_freezes_in_the_hot_part(own_pair: Pair, tmp_path: Path) -> None:
    """It neither answers nor hangs up: the hold must end all the same (I7)."""
    with World(own_pair, tmp_path, LIMITS) as world:
        world.must("start", "verify")
        controller = world.drive("cutover", "mark held", "STOP")
        controller.wait_until_stopped()
        postmaster = psutil.Process(own_pair.target.pid)
        frozen = [postmaster, *postmaster.children(recursive=True)]
        for process in frozen:
            process.suspend()
        controller.wake()
        world.writes_go_on()
        world.writes_go_on()
        assert world.workload.ledger.failures() == ()
        for process in frozen:
            process.resume()
        assert controller.end().error == "Refused"
        assert world.probes.primaries() == [Side.SOURCE]
        world.must("cutover")
        world.writes_go_on()
        world.books_are_clean(Side.TARGET)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 25 MB that the servers may use."""
    place = Path(tempfile.mkdtemp(prefix="daybreak-small-", dir="/tmp"))
    account = Account.current()
    options = f"size=25m,uid={account.uid},gid={account.gid},mode=700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        place.rmdir()
        pytest.skip("a small file system can't be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
    place.rmdir()


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_the_disk_of_the_target_is_full(small_disk: Path, own_pair: Pair, tmp_path: Path) -> None:
    with own_pair.target.connect() as postgres:
        # Its data only: without room for its write-ahead log a server goes down altogether.
        postgres.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(small_disk)))
        move = sql.SQL("ALTER DATABASE {} SET TABLESPACE small")
        postgres.execute(move.format(sql.Identifier(own_pair.database)))
    with World(own_pair, tmp_path, LIMITS, scale=0.3) as world:
        found = world.run("start")
        assert found.error == "PermanentError", found.said
        assert "No space left" in found.said["message"]
        assert "Free disk space" in found.said["message"]
        world.writes_go_on()
        assert world.workload.ledger.failures() == ()
        subprocess.run(["mount", "-o", "remount,size=1g", str(small_disk)], check=True)
        world.must("start", "verify", "cutover")
        world.writes_go_on()
        world.books_are_clean(Side.TARGET)
    own_pair.target.stop("immediate")
