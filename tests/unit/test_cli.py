"""Every verb against two imaginary servers: exit codes, what goes to which stream, the JSON objects."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result
from world import AT, TABLES, AsReplicator, World

from daybreak.config import Server, Settings, State
from daybreak.controller import Controller
from daybreak.entry import cli, command
from daybreak.entry.cli import app
from daybreak.errors import ConfigError, Finding, PermanentError
from daybreak.events import Listener
from daybreak.memory import MemoryRouter, MemoryStateStore
from daybreak.model import GuardState, Phase, Side, Step
from daybreak.postgres.sessions import Sessions
from daybreak.remote import Remote
from daybreak.wiring import Runtime, server

PASSWORD = "tell-nobody"
BLOCKER = Finding("wal-level", "blocker", "source", "wal_level is replica.", "ALTER SYSTEM SET wal_level = logical")


@dataclass
class Cli:
    """The command line over a ``World``; state is kept from call to call."""

    world: World
    store: MemoryStateStore
    router: MemoryRouter
    findings: tuple[Finding, ...] = ()
    led_elsewhere: bool = False
    act: Callable[[], None] = lambda: None

    def settings(self, _path: Path | None = None) -> Settings:
        dsn = SecretStr(f"postgresql://daybreak:{PASSWORD}@127.0.0.1:1/payments")
        servers = {str(side): Server(dsn=dsn, password=None, peer_host="", peer_port=0) for side in Side}
        return Settings(name="payments", state=State(url="dynamodb://table" if self.led_elsewhere else ""), **servers)  # type: ignore[arg-type]

    def build(self, settings: Settings, listener: Listener) -> Runtime:
        sessions = Sessions(server(settings, Side.SOURCE), server(settings, Side.TARGET))
        replicator = AsReplicator(self.world)
        controller = Controller(
            settings.name, self.store, replicator, self.router, self.world, settings.policy(), "test", listener,
            lambda: self.findings, sleep=lambda _seconds: None,
        )  # fmt: skip
        remote = Remote(
            settings.name, self.store, listener, self.router.refuse_shift, sleep=lambda _seconds: self.act()
        )
        return Runtime(
            settings, self.store, sessions, replicator, self.router, self.world, lambda: self.findings, controller,
            remote,
        )  # fmt: skip

    def __call__(self, *arguments: str, typed: str | None = None) -> Result:
        result = CliRunner().invoke(app, arguments, input=typed)
        assert PASSWORD not in result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> dict[str, object]:
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found

    def ready(self) -> None:
        """Up to the point where a cutover may be asked for."""
        self.json("start")
        self.json("verify")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A fresh world."""
    made = Cli(World(), MemoryStateStore(), MemoryRouter())
    monkeypatch.setattr(command, "load_settings", made.settings)
    monkeypatch.setattr(command, "build", made.build)
    return made


def test_a_whole_migration(run: Cli) -> None:
    assert run.json("start")["phase"] == "streaming"
    assert run.json("verify")["clean"] is True
    assert run.json("shift", "40", "--yes")["read_weight"] == 40
    for verb, primary in (("cutover", "target"), ("rollback", "source"), ("cutover", "target")):
        assert run.json(verb, "--yes")["primary"] == primary
    assert run.json("finish", "--yes")["phase"] == "finished"
    assert run.world.sides[Side.SOURCE].guard is GuardState.CLOSED
    run.json("finish", "--unfence", "--yes")
    assert run.world.sides[Side.SOURCE].guard is GuardState.ABSENT


def test_status_has_the_fields_of_the_contract(run: Cli) -> None:
    run.ready()
    run.json("cutover", "--yes")
    found = run.json("status")
    assert {
        "name", "phase", "primary", "read_weight", "tables_total", "tables_copied", "bytes_total", "bytes_copied",
        "eta_seconds", "lag_seconds", "lag_bytes", "retained_wal_bytes", "last_switchover", "blockers",
    } <= set(found)  # fmt: skip
    last = found["last_switchover"]
    assert isinstance(last, dict)
    assert {"to", "started_at", "write_pause_ms", "outcome", "certificate"} <= set(last)
    assert (last["to"], last["write_pause_ms"], last["outcome"]) == ("target", 24.0, "switched")
    assert last["step_ms"] == {"hold": 2, "drain": 7, "snapshot": 2, "sequences": 3, "commit": 5, "open": 5}
    assert last["certificate"]["outcome"] == "equal"


def test_status_before_anything_and_while_a_server_is_down(run: Cli) -> None:
    assert run.json("status")["phase"] == "planned"
    run.ready()
    run.world.down = Side.TARGET
    before = run.store.load("payments")
    found = run.json("status")
    assert found["tables_total"] is None
    assert "connection refused" in json.dumps(found["blockers"])
    assert run.store.load("payments") == before, "looking claims no generation"
    text = run("status")
    assert text.exit_code == 0
    assert "not reachable" in text.stdout


def test_check_prints_findings_and_blocks(run: Cli) -> None:
    assert run.json("check") == {"findings": []}
    run.findings = (BLOCKER, Finding("inline-password", "warning", "source", "w", "f"))
    found = run.json("check", code=1)
    first = found["findings"]
    assert isinstance(first, list)
    assert [set(one) for one in first] == [{"id", "severity", "object", "message", "fix"}] * 2
    assert first[0]["id"] == "wal-level"
    assert "wal_level is replica" in run("check").stdout
    refused = run.json("start", code=1)["error"]
    assert isinstance(refused, dict)
    assert refused["kind"] == "preflight-failed"
    assert [one["id"] for one in refused["findings"]] == ["wal-level"]
    assert run.json("status")["phase"] == "planned"


def test_verify_names_the_differences(run: Cli) -> None:
    run.json("start")
    run.world.differences = ("public.t: 120 rows on source, 119 on target", "public.u: missing on target")
    found = run.json("verify", code=1)
    assert {"tables", "rows", "seconds", "differences"} <= set(found)
    assert found["differences"] == [
        {"table": "public.t", "key": "", "kind": "changed"},
        {"table": "public.u", "key": "", "kind": "missing"},
    ]
    assert "120 rows on source" in run("verify").stdout


@pytest.mark.parametrize("verb", [("shift", "10"), ("cutover",), ("rollback",), ("finish",), ("finish", "--unfence")])
def test_traffic_is_not_moved_without_the_name_or_yes(run: Cli, verb: tuple[str, ...]) -> None:
    run.ready()
    before = run.store.load("payments")
    result = run(*verb, typed="payments\n")
    assert result.exit_code == 2, "no terminal to ask on"
    assert "--yes" in result.stderr
    assert run.store.load("payments") == before


@pytest.mark.parametrize(("answer", "code", "primary"), [("payments\n", 0, "target"), ("payment\n", 1, "source")])
def test_the_name_is_asked_for_on_a_terminal(
    run: Cli, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, primary: str
) -> None:
    run.ready()
    monkeypatch.setattr(command, "on_terminal", lambda: True)
    result = run("cutover", "--json", typed=answer)
    assert result.exit_code == code
    assert json.loads(result.stdout)
    assert run.json("status")["primary"] == primary


def test_a_plan_does_nothing_and_tells_by_its_exit_code(run: Cli) -> None:
    run.json("start")
    before = run.store.load("payments")
    found = run.json("cutover", "--plan", code=1)
    assert found["ready"] is False
    gates = {gate["name"]: gate for gate in found["gates"]}  # type: ignore[attr-defined]
    assert gates["verified"]["ok"] is False
    text = run("cutover", "--plan")
    assert "not measured yet" in text.stdout
    assert "daybreak verify" in text.stdout
    assert run.store.load("payments") == before
    run.json("verify")
    planned = run.json("cutover", "--plan")
    steps = [step["step"] for step in planned["steps"]]  # type: ignore[attr-defined]
    assert steps[:3] == ["enter_switching", "arm", "switch"]
    assert run.json("status")["primary"] == "source"


def test_a_switchover_that_backs_out_fails_and_says_why(run: Cli) -> None:
    run.ready()
    run.world.back_out = "a transaction kept its lock"
    error = run.json("cutover", "--yes", code=1)["error"]
    assert isinstance(error, dict)
    assert "a transaction kept its lock" in error["message"]
    status = run.json("status")
    assert (status["phase"], status["primary"]) == ("streaming", "source")


def test_cutover_prints_pause_steps_and_certificate(run: Cli) -> None:
    run.ready()
    result = run("cutover", "--yes")
    assert "24 ms (hold 2, drain 7, snapshot 2, sequences 3, commit 5, open 5)" in result.stdout
    assert "both sides held the same rows at the fence" in result.stdout
    again = run("cutover", "--yes")
    assert again.exit_code == 0
    assert "already" in again.stdout
    run.world.snapshots_lost = True
    assert "ended before it compared" in run("rollback", "--yes").stdout


@pytest.mark.parametrize(
    ("arguments", "step", "word"),
    [
        (("start",), Step.LOAD, "daybreak start"),
        (("start",), Step.BUILD_INDEXES, "daybreak start"),
        (("verify",), Step.VERIFY, "daybreak verify"),
        (("cutover", "--yes"), Step.ARM, "daybreak abort"),
        (("cutover", "--yes"), Step.SETTLE, "daybreak cutover"),
    ],
)
def test_after_ctrl_c_the_same_command_goes_on(run: Cli, arguments: tuple[str, ...], step: Step, word: str) -> None:
    if arguments != ("start",):
        run.ready()
    run.world.interrupt = step
    result = run(*arguments)
    assert result.exit_code == 130
    assert word in result.stderr
    assert run(*arguments).exit_code == 0


def test_a_signal_inside_the_hot_part_waits_for_its_end(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    run.ready()
    switch = run.world.switch

    def interrupted(*arguments: object) -> object:
        signal.raise_signal(signal.SIGTERM)
        return switch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(run.world, "switch", interrupted)
    assert run("cutover", "--yes").exit_code == 128 + signal.SIGTERM
    assert run.world.sides[Side.TARGET].opened_by == 1
    monkeypatch.undo()


def test_an_unknown_exception_is_a_bug_with_a_traceback(run: Cli) -> None:
    run.world.fail[Step.LOAD] = ZeroDivisionError("oops")
    result = run("start", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["kind"] == "bug"
    assert "Traceback" in result.stderr
    assert run("start").exit_code == 0


def test_errors_have_reason_and_next_step(run: Cli) -> None:
    run.world.fail[Step.LOAD] = PermanentError("target: no space left on device", "Free disk space.")
    result = run("start")
    assert result.exit_code == 1
    assert "no space left on device" in result.stderr
    assert "next: Free disk space." in result.stderr
    assert result.stdout == ""


def test_a_rival_is_left_alone_until_it_is_adopted_from(run: Cli) -> None:
    run.json("start")
    run.world.rival = "daybreak:payments:1:controller"
    error = run.json("verify", code=1)["error"]
    assert isinstance(error, dict)
    assert error["kind"] == "controller-at-work"
    run.json("adopt")


def test_the_schedule_is_taken_step_by_step_and_postponed(run: Cli) -> None:
    run.ready()
    assert [run.json("shift", "--yes")["read_weight"] for _ in range(4)] == [20, 50, 80, 100]
    error = run.json("shift", "--yes", code=1)["error"]
    assert isinstance(error, dict)
    assert "read_schedule" in error["message"]
    assert run.json("postpone", "2099-05-01T06:00:00Z")["postponed_until"] == "2099-05-01T06:00:00+00:00"
    assert "nothing begins by itself before 2099" in run("status").stdout
    assert run.json("postpone", "off")["postponed_until"] is None
    assert run("postpone", "tomorrow").exit_code == 2


def test_abort_reaches_the_command_that_is_at_work(run: Cli) -> None:
    run.json("start")
    run.world.rival = "daybreak:payments:1:controller"

    def finish_it() -> None:
        record = run.store.load("payments")
        assert record is not None
        assert record.intent is not None
        done = replace(record, phase=Phase.ABORTED, intent=None)
        run.store.compare_and_swap(done, record.version, "done", Step.END, datetime.now(UTC), "")

    run.act = finish_it
    assert run.json("abort")["phase"] == "aborted"


def test_on_aws_commands_ask_and_the_function_acts(run: Cli) -> None:
    run.json("start")
    run.led_elsewhere = True

    def serve() -> None:
        run.build(run.settings(), lambda _event: None).controller.serve(take_over=False)

    run.act = serve
    result = run("verify", "--json")
    assert json.loads(result.stdout)["clean"] is True
    assert "hold writers for an instant, snapshot both sides, compare" in result.stderr
    assert run.json("cutover", "--yes")["primary"] == "target"
    owner = run.store.load("payments")
    assert owner is not None
    assert owner.owner == "test"


def test_progress_goes_to_standard_error_only(run: Cli) -> None:
    result = run("start", "--json")
    assert json.loads(result.stdout)["tables_copied"] == TABLES
    assert "copy all rows under one snapshot" in result.stderr
    assert "3 of 7 tables, 2.0 KiB of 4.0 KiB (50%), 600 rows" in result.stderr


def test_refusals_before_start_and_after_the_end(run: Cli) -> None:
    assert "daybreak start" in run("cutover", "--yes").stderr
    assert run.json("abort")["phase"] == "aborted"
    assert run.json("start", code=1)["error"]
    assert run.json("finish", "--unfence", "--yes", code=1)["error"]


def test_bad_configuration_is_exit_code_2(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path) -> Settings:
        raise ConfigError(f"{path} does not exist.", "Run `daybreak init`.")

    monkeypatch.setattr(command, "load_settings", missing)
    for verb in ("check", "start", "status", "verify", "abort", "adopt", "grants"):
        assert run(verb, "--config", "nowhere.toml").exit_code == 2
        error = run.json(verb, code=2)["error"]
        assert error == {
            "kind": "config", "message": "daybreak.toml does not exist.", "hint": "Run `daybreak init`.", "findings": []
        }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [["shift", "101", "--yes"], ["nonsense"], ["status", "--nonsense"], ["postpone"], ["grants", "--side", "x"]],
)
def test_wrong_usage_is_exit_code_2(
    run: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(*arguments).exit_code == 2
    monkeypatch.setattr(sys, "argv", ["daybreak", *arguments, "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "usage"


def test_watch_and_json_exclude_each_other(run: Cli) -> None:
    assert run("status", "--watch", "--json").exit_code == 2


def test_watch_ends_with_the_migration(run: Cli) -> None:
    run.json("abort")
    result = run("status", "--watch")
    assert result.exit_code == 0
    assert "aborted" in result.stdout


def test_every_verb_of_the_design_is_there() -> None:
    wanted = "init check start status verify shift cutover rollback abort finish postpone adopt grants rewind rehearse"
    found = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
    assert found == set(wanted.split(" "))


def test_an_old_state_file_moves_nothing_until_it_is_adopted(run: Cli) -> None:
    run.ready()
    old = run.store.load("payments")
    assert old is not None
    run.json("cutover", "--yes")
    run.store = MemoryStateStore()
    run.store.compare_and_swap(old, 0, "copied", None, AT, "")
    error = run.json("abort", code=1)["error"]
    assert isinstance(error, dict)
    assert (error["kind"], "daybreak adopt" in error["hint"]) == ("state-conflict", True)
    found = run.json("adopt")
    assert (found["phase"], found["primary"]) == ("streaming", "target")
    assert run.json("rollback", "--yes")["primary"] == "source"


def test_a_lost_record_is_rebuilt(run: Cli) -> None:
    assert run.json("adopt", code=1)["error"], "nothing was ever started"
    run.ready()
    run.json("cutover", "--yes")
    run.store = MemoryStateStore()
    assert run.json("adopt")["primary"] == "target"
    run.json("finish", "--yes")
    run.store = MemoryStateStore()
    assert run.json("adopt")["phase"] == "finished"
    run.json("finish", "--unfence", "--yes")
