"""``daybreak rehearse`` itself: what it prints, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from daybreak.entry import rehearse
from daybreak.entry.cli import app
from daybreak.errors import ConfigError
from daybreak.lab.bouncer import find_pgbouncer
from daybreak.lab.rehearsal import Options, Rehearsal

NEEDS_TERRAFORM = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
ROUTERS = [
    "multihost",
    pytest.param(
        "pgbouncer",
        marks=[
            pytest.mark.full,
            pytest.mark.skipif(find_pgbouncer() is None, reason="pgbouncer is not installed"),
        ],
    ),
]


def command(*arguments: str) -> list[str]:
    script = Path(sys.executable).with_name("daybreak")
    return [str(script), "rehearse", "--scale", "0.05", "--clients", "2", *arguments]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory for temporary files that the servers' account can reach too, so that nothing lands elsewhere."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("router", ROUTERS)
def test_a_rehearsal_passes(router: str) -> None:
    done = subprocess.run(command("--router", router, "--json"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [switch["to"] for switch in result["switchovers"]] == ["target", "source", "target"]
    assert (result["ledger"]["lost"], result["ledger"]["duplicated"]) == (0, 0)
    assert result["ledger"]["acknowledged"] >= 1000
    assert result["verify"]["differences"] == []
    assert result["full_load"]["rows"] > 1000
    if router == "pgbouncer":
        assert [switch["client_errors"] for switch in result["switchovers"]] == [0, 0, 0]


@pytest.mark.full
@pytest.mark.timeout(900)
@NEEDS_TERRAFORM
@pytest.mark.parametrize("engine", ["dms", "native"])
def test_a_rehearsal_with_its_aws_side_passes(engine: str) -> None:
    done = subprocess.run(command("--aws", "--engine", engine, "--json"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["engine"], result["router"]) == (engine, "route53")
    assert result["seconds"] > 0
    assert result["events"]["schedule"] >= 1
    assert engine == "native" or result["events"]["dms"] >= 1
    assert [switch["to"] for switch in result["switchovers"]] == ["target", "source", "target"]
    assert (result["ledger"]["lost"], result["ledger"]["duplicated"]) == (0, 0)
    assert result["ledger"]["acknowledged"] >= 1000
    assert [share["weight"] for share in result["shares"]] == [20, 50, 80, 100]
    assert all(share["fits"] for share in result["shares"])


@pytest.mark.parametrize(
    ("arguments", "engine", "scale", "clients"),
    [
        ([], "native", 1.0, 8),
        (["--aws"], "dms", 0.05, 4),
        (["--aws", "--engine", "native"], "native", 0.1, 4),
        (["--aws", "--engine", "dms", "--scale", "0.2", "--clients", "3"], "dms", 0.2, 3),
    ],
)
def test_what_is_rehearsed_by_default(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], engine: str, scale: float, clients: int
) -> None:
    asked = []

    def stop(options: Options) -> Rehearsal:
        asked.append(options)
        raise ConfigError("Enough.")

    monkeypatch.setattr(rehearse, "_on_aws", stop)
    monkeypatch.setattr(rehearse, "Rehearsal", stop)
    assert CliRunner().invoke(app, ["rehearse", *arguments]).exit_code == 2
    assert [(one.engine, one.scale, one.clients) for one in asked] == [(engine, scale, clients)]


def test_without_terraform_there_is_no_aws_side() -> None:
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    done = subprocess.run(command("--aws", "--json"), capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "terraform is not installed" in json.loads(done.stdout)["error"]["message"]


def test_a_version_that_is_not_there() -> None:
    done = subprocess.run(command("--source-version", "9"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "No PostgreSQL 9 server" in done.stderr


def test_ctrl_c_takes_the_servers_along(open_place: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(open_place)}
    process = subprocess.Popen(command(), stderr=subprocess.PIPE, text=True, env=environment)
    with process:
        assert process.stderr is not None
        assert "start both servers" in process.stderr.readline()
        wait_until(lambda: any(open_place.glob("daybreak-*")))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    wait_until(lambda: not any(open_place.glob("daybreak-*")))


@pytest.mark.full
@pytest.mark.timeout(900)
@NEEDS_TERRAFORM
def test_ctrl_c_takes_terraform_and_the_emulators_along(open_place: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(open_place)}
    process = subprocess.Popen(command("--aws"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    with process:
        here = psutil.Process(process.pid)
        try:
            wait_until(lambda: any(is_applying(one) for one in here.children(recursive=True)), 300)
            children = here.children(recursive=True)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 130
    wait_until(lambda: not any(open_place.iterdir()))
    wait_until(lambda: not any(map(lives, children)))


def is_applying(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.name() == "terraform" and "apply" in process.cmdline()
    return False


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
