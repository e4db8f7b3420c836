"""The commands as an operator runs them: processes of their own, two real servers, ``daybreak.toml``."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from daybreak.entry.cli import app
from daybreak.lab import payments
from daybreak.lab.configuration import write_configuration
from daybreak.lab.pair import MIGRATION, OWNER, Pair
from daybreak.model import Side

PROGRAM = [sys.executable, "-c", "from daybreak.entry.cli import main; main()"]
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Operator:
    """Somebody in the directory of a ``daybreak.toml``."""

    pair: Pair
    directory: Path

    def run(self, *arguments: str) -> Result:
        """In this process: the test's own is as good as another one for most commands, and starts sooner."""
        given = () if "--config" in arguments else ("--config", str(self.directory / "daybreak.toml"))
        done = CliRunner().invoke(app, [*arguments, *given])
        assert self.pair.migration_password not in done.output
        return done

    def json(self, *arguments: str, code: int = 0) -> dict[str, object]:
        done = self.run(*arguments, "--json")
        assert done.exit_code == code, done.output
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def error(self, *arguments: str, code: int = 1) -> dict[str, str]:
        found = self.json(*arguments, code=code)["error"]
        assert isinstance(found, dict)
        assert found["message"]
        assert found["hint"]
        return found

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """In a process of its own."""
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def replace(self, old: str, new: str) -> None:
        path = self.directory / "daybreak.toml"
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture
def operator(pair: Pair, tmp_path: Path) -> Operator:
    """A filled source, an empty target, nothing started."""
    payments.create(pair, 0.01)
    write_configuration(pair, tmp_path, name="payments", cutover={"gate_patience_seconds": 5})
    return Operator(pair, tmp_path)


@contextmanager
def blocked_load(pair: Pair) -> Iterator[None]:
    """An open transaction that wrote: no slot can be created before it ends, so the load waits."""
    with psycopg.connect(pair.dsn(Side.SOURCE, OWNER)) as writer:
        writer.execute("CREATE TABLE payments.kept_open (id int PRIMARY KEY)")
        yield
        writer.rollback()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never printed; exit {process.wait()}")


def traces(pair: Pair) -> list[str]:
    """What is left of Daybreak in either database."""
    found = []
    for side in Side:
        with pair.connect(side) as here:
            rows = here.execute(
                "SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'daybreak'"
                " UNION ALL SELECT 'trigger on ' || tgrelid::regclass FROM pg_trigger WHERE tgname ~ '^daybreak'"
                " UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname ~ '^daybreak'"
                " UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()"
                " UNION ALL SELECT 'subscription ' || subname FROM pg_subscription s"
                "   JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()"
                " UNION ALL SELECT 'setting ' || array_to_string(setconfig, ',') FROM pg_db_role_setting s"
                "   JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = current_database()"
            )
            found += [f"{side}: {row[0]}" for row in rows]
    return found


def test_from_check_to_finish(operator: Operator) -> None:
    findings = operator.json("check")["findings"]
    assert isinstance(findings, list)
    assert [one for one in findings if one["severity"] == "blocker"] == []
    started = operator.json("start")
    assert (started["phase"], started["tables_copied"]) == ("streaming", started["tables_total"])
    assert operator.json("verify")["differences"] == []
    assert operator.json("shift", "25", "--yes")["read_weight"] == 25
    plan = operator.json("cutover", "--plan")
    assert plan["ready"] is True
    for verb, primary in (("cutover", "target"), ("rollback", "source"), ("cutover", "target")):
        moved = operator.json(verb, "--yes")
        assert moved["primary"] == primary
        switchover = moved["switchover"]
        assert isinstance(switchover, dict)
        assert switchover["write_pause_ms"] > 0
        assert switchover["certificate"]["outcome"] == "equal"
    finished = operator.json("finish", "--yes")
    assert (finished["phase"], finished["primary"]) == ("finished", "target")
    assert {line.partition(":")[0] for line in traces(operator.pair)} == {"source"}, "only the fence stays"
    operator.json("finish", "--unfence", "--yes")
    assert traces(operator.pair) == []
    assert operator.error("cutover", "--yes")["kind"] == "refused"


def test_abort_leaves_nothing(operator: Operator) -> None:
    operator.json("start")
    assert operator.json("abort")["phase"] == "aborted"
    assert traces(operator.pair) == []
    with operator.pair.connect(Side.TARGET) as target:
        assert target.execute("SELECT to_regnamespace('payments')").fetchone() == (None,)


def test_ctrl_c_says_how_to_go_on_and_going_on_works(operator: Operator) -> None:
    with blocked_load(operator.pair):
        process = operator.begin("start")
        read_until(process, "copy all rows")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130, err
    assert out == ""
    assert "daybreak start" in err
    assert operator.json("status")["phase"] == "loading"
    assert operator.json("start")["phase"] == "streaming"


def test_a_second_controller_is_refused_and_adopt_takes_over(operator: Operator) -> None:
    with blocked_load(operator.pair):
        first = operator.begin("start")
        read_until(first, "copy all rows")
        assert operator.error("start")["kind"] == "controller-at-work"
        assert operator.json("status")["generation"] == 1, "looking and being refused claims nothing"
        assert operator.json("adopt")["generation"] == 2
        _, err = first.communicate(timeout=TIMEOUT_SECONDS)
        assert first.returncode == 1
        assert "daybreak status" in err
    assert operator.json("start")["phase"] == "streaming"


def test_an_old_or_lost_record_moves_nothing_until_it_is_rebuilt(operator: Operator) -> None:
    operator.json("start")
    state = operator.directory / ".daybreak"
    old = {path: path.read_bytes() for path in state.iterdir()}
    operator.json("verify")
    operator.json("cutover", "--yes")
    _remove_files(state)
    for path, content in old.items():
        path.write_bytes(content)
    assert operator.error("abort")["kind"] == "state-conflict"
    assert operator.json("adopt")["primary"] == "target"
    operator.json("verify")
    assert operator.json("rollback", "--yes")["primary"] == "source"
    _remove_files(state)
    assert "adopt" in json.dumps(operator.json("status")["blockers"])
    found = operator.json("adopt")
    assert (found["phase"], found["primary"]) == ("streaming", "source")
    operator.json("verify")
    assert operator.json("cutover", "--yes")["primary"] == "target"


def _remove_files(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def test_the_name_is_asked_for_on_a_terminal(operator: Operator) -> None:
    operator.json("start")
    operator.json("verify")
    for typed, code, primary in ((b"paymets\n", 1, "source"), (b"payments\n", 0, "target")):
        assert _on_terminal(operator, typed, "cutover") == code
        assert operator.json("status")["primary"] == primary


def _on_terminal(operator: Operator, typed: bytes, *arguments: str) -> int:
    controlling, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *arguments], cwd=operator.directory, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    os.write(controlling, typed)
    with os.fdopen(controlling, "rb", buffering=0) as screen:
        try:
            while screen.read(4096):
                pass
        except OSError:  # what Linux says once the other end is closed
            pass
    return process.wait(TIMEOUT_SECONDS)


def test_grants_need_nothing_but_login(operator: Operator) -> None:
    with operator.pair.cluster(Side.SOURCE).connect() as postgres:
        postgres.execute("DROP ROLE IF EXISTS newcomer")
        postgres.execute("CREATE ROLE newcomer LOGIN PASSWORD 'newcomer'")
    operator.replace(f"user={MIGRATION}", "user=newcomer")
    (operator.directory / "source.password").write_text("newcomer")
    try:
        found = operator.json("grants", "--side", "source")["scripts"]
        assert isinstance(found, list)
        assert [(one["side"], one["role"], one["kind"]) for one in found] == [("source", "newcomer", "postgres")]
        assert OWNER in found[0]["script"]
        assert "rds_replication" in operator.run("grants", "--side", "source", "--kind", "rds").stdout
        # On the target there is no such role yet: say so, and what to do.
        assert "createuser" in operator.error("grants")["hint"]
    finally:
        with operator.pair.cluster(Side.SOURCE).connect() as postgres:
            postgres.execute("DROP ROLE newcomer")


def test_wrong_password_and_wrong_database(operator: Operator) -> None:
    (operator.directory / "target.password").write_text("wrong")
    findings = operator.json("check", code=1)["findings"]
    assert "password authentication failed" in json.dumps(findings)
    assert operator.error("start")["kind"] == "preflight-failed"
    servers = operator.json("status")["servers"]
    assert isinstance(servers, list)
    assert [bool(one["problem"]) for one in servers] == [False, True]
    operator.replace(f"dbname={operator.pair.database}", "dbname=nowhere")
    assert "does not exist" in json.dumps(operator.json("check", code=1))


def test_mistakes_in_the_configuration(operator: Operator) -> None:
    operator.replace('name = "payments"', 'name = "payments"\nnaem = "x"')
    assert "naem" in operator.error("status", code=2)["message"]
    assert operator.error("status", "--config", "nowhere.toml", code=2)["hint"]
    for mistake in (["shift", "many"], ["explode"]):
        process = operator.begin(*mistake, "--json")
        out, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 2
        assert json.loads(out)["error"]["kind"] == "usage"


def test_status_while_the_target_is_down(own_pair: Pair, tmp_path: Path) -> None:
    payments.create(own_pair, 0.01)
    write_configuration(own_pair, tmp_path, name="payments", cutover={"gate_patience_seconds": 2})
    operator = Operator(own_pair, tmp_path)
    operator.json("start")
    operator.json("verify")
    own_pair.target.stop("immediate")
    found = operator.json("status")
    assert "target" in json.dumps(found["blockers"])
    assert found["phase"] == "streaming"
    assert operator.error("cutover", "--yes")["kind"] in {"refused", "transient"}
    own_pair.target.start()
    assert operator.json("cutover", "--yes")["primary"] == "target"
