"""``daybreak infra`` over an imaginary Terraform: what is asked, refused, printed, and never done unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner, Result

from daybreak.entry import command, infra, infra_site
from daybreak.entry.cli import app
from daybreak.errors import Finding, Refused, TransientError
from daybreak.infra import app as synthesis
from daybreak.infra import checks, guard, passwords, terraform
from daybreak.infra.guard import Standing
from daybreak.infra.plan import Change, Plan
from daybreak.infra.terraform import Progress
from daybreak.model import MigrationRecord, Phase, Side
from daybreak.postgres.server import Server
from daybreak.store.codec import encode
from daybreak.store.sqlite import SqliteStateStore

CONFIG = """\
name = "payments"
[source]
dsn = "postgresql://daybreak@old.example.net/payments"
[aws]
environment = "prod"
region = "eu-central-1"
network.vpc_cidr = "10.60.0.0/16"
aurora.engine_version = "17.5"
routing.zone_name = "payments.internal"
"""
MADE = Change("create", "aws_sns_topic.one", "aws_sns_topic", "", "", False)
LOST = Change("replace", "aws_rds_cluster.one", "aws_rds_cluster", "payments", "engine_mode can't be changed", False)
GONE = Change("destroy", "aws_rds_cluster.one", "aws_rds_cluster", "payments", "", False, snapshot=True)
TASK = Change("destroy", "aws_dms_replication_task.one", "aws_dms_replication_task", "task", "", False)
STOPPED = Change("update", "aws_dms_replication_task.one", "aws_dms_replication_task", "task", "", False, stops=True)
VAULT = Change("destroy", "aws_backup_vault.one", "aws_backup_vault", "backup", "", False, only_empty=True)
KEY = Change("destroy", "aws_kms_key.keys_data_0A1B", "aws_kms_key", "1234-abcd", "", False)
OTHER_KEY = Change("destroy", "aws_kms_key.keys_secrets_0A1B", "aws_kms_key", "5678-abcd", "", False)
OUTPUTS = {
    "target_user": "daybreak", "target_host": "new.example.net", "target_port": 5432, "target_database": "payments",
    "target_secret_arn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:target-AbCdEf",
}  # fmt: skip


@dataclass
class Imaginary:
    """Terraform and AWS as the commands see them."""

    directory: Path
    plan: Plan = field(default_factory=lambda: Plan((MADE,), outputs=True))
    findings: tuple[Finding, ...] = ()
    published: Standing | None = None
    interrupt: bool = False
    # By the side: the control row that a server that answers has; what else is in it.
    servers: dict[Side, tuple[object, ...] | None] = field(default_factory=dict)
    held: tuple[tuple[object, ...], ...] = ()
    table: Any = None
    backups: int = 0
    unwritten: tuple[Finding, ...] = ()
    applied: Plan | None = None
    done: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.directory / "daybreak.toml"

    def client(self, service: str) -> Any:
        """AWS as boto3 has it: only the table of the record answers."""
        assert service == "dynamodb"
        return self

    def get_item(self, **_asked: object) -> Any:
        if isinstance(self.table, Exception):
            raise self.table
        return {} if self.table is None else {"Item": {"body": {"S": encode(self.table)}}}

    @contextmanager
    def session(self, server: Server, _purpose: str) -> Iterator[Any]:
        if server.side not in self.servers:
            raise TransientError(f"{server.side}: connecting as daybreak: timed out", "Start it.")
        row, held = self.servers[server.side], self.held

        class Connection:
            def execute(self, query: str, *_parameters: object) -> Any:
                return Rows([] if row is None else [row]) if "daybreak.control" in query else Rows(list(held))

        yield Connection()

    def terraform(self, _directory: Path, variables: dict[str, str]) -> ImaginaryTerraform:
        return ImaginaryTerraform(self, variables)

    def __call__(self, *arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, ["infra", *arguments, "--config", str(self.config)], input=typed)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found


class Rows(list[tuple[object, ...]]):
    """A result."""

    def fetchone(self) -> tuple[object, ...] | None:
        return self[0] if self else None

    def fetchall(self) -> list[tuple[object, ...]]:
        return self


@dataclass
class ImaginaryTerraform:
    """Does nothing and remembers it."""

    world: Imaginary
    variables: dict[str, str]
    directory: Path = Path("/stack")
    listener: Any = None

    def init(self) -> None:
        self.world.done.append("init")

    def plan(self, destroy: bool = False) -> Plan:
        self.world.done.append("plan to destroy" if destroy else "plan")
        return self.world.plan

    def forget(self, address: str) -> None:
        self.world.done.append(f"forget {address}")
        self.world.plan = self.world.plan.without(address)

    def apply(self, plan: Plan) -> None:
        self.world.applied = plan
        self.listener(Progress(1, plan.steps, "aws_sns_topic.one created in 0 s"))
        if self.world.interrupt:
            raise KeyboardInterrupt
        self.world.done.append("apply")

    def outputs(self) -> dict[str, Any]:
        return OUTPUTS


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imaginary:
    """A configuration, and no AWS."""
    world = Imaginary(tmp_path)
    world.config.write_text(CONFIG)
    monkeypatch.setattr(terraform, "Terraform", world.terraform)
    monkeypatch.setattr(synthesis, "synthesise", lambda _settings, directory: directory / "stack")
    monkeypatch.setattr(infra_site, "open_session", lambda _region: world)
    monkeypatch.setattr(Server, "session", lambda server, purpose: world.session(server, purpose))
    monkeypatch.setattr(guard, "backups", lambda _vault, _session: world.backups)
    monkeypatch.setattr(checks, "on_this_machine", lambda: ())
    monkeypatch.setattr(checks, "in_the_account", lambda _settings, _session: world.findings)
    monkeypatch.setattr(guard, "published", lambda _parameter, _session: world.published)
    monkeypatch.setattr(passwords, "unwritten", lambda *_arguments: world.unwritten)
    monkeypatch.setattr(passwords, "variables", lambda _directory: ("target_password",))
    monkeypatch.setattr(passwords, "passwords", lambda names, _settings, _session: dict.fromkeys(names, "hush"))
    return world


def test_synth_says_where(run: Imaginary) -> None:
    assert run.json("synth")["directory"] == str(run.directory / ".daybreak" / "infra" / "stack")
    assert run.done == []


def test_a_plan_changes_nothing(run: Imaginary) -> None:
    found = run.json("plan")
    assert {"create", "update", "replace", "destroy", "changes"} == set(found)
    assert found["changes"] == [
        {"action": "create", "address": "aws_sns_topic.one", "why": "", "loses": False, "stops": False}
    ]
    assert run.done == ["init", "plan"]
    assert "1 to make." in run("plan").stdout
    run.plan = Plan((), outputs=False)
    assert "Nothing to do" in run("plan").stdout


def test_a_loss_is_loud(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    run.plan, run.servers = Plan((MADE, LOST), outputs=False), {Side.SOURCE: None}
    assert "aws_rds_cluster.one is deleted and made anew, empty" in run("plan").stdout
    monkeypatch.setattr(command, "on_terminal", lambda: True)
    result = run("deploy", typed="no\n")
    assert "GONE FOR GOOD: aws_rds_cluster.one" in result.stderr
    assert result.exit_code == 1
    assert "apply" not in run.done


def test_deploy_applies_after_the_name_or_yes_only(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("deploy", typed="payments\n")
    assert result.exit_code == 2, "no terminal to ask on"
    assert "--yes" in result.stderr
    assert "aws_sns_topic.one" in result.stderr, "the plan is shown first"
    assert "apply" not in run.done
    monkeypatch.setattr(command, "on_terminal", lambda: True)
    assert run("deploy", typed="payment\n").exit_code == 1
    assert "apply" not in run.done
    assert run("deploy", typed="payments\n").exit_code == 0
    assert run.done[-1] == "apply"


def test_deploy_prints_plan_and_outputs(run: Imaginary) -> None:
    found = run.json("deploy", "--yes")
    assert found["plan"]["create"] == 1
    assert found["outputs"] == OUTPUTS
    result = run("deploy", "--yes")
    assert "1/1 aws_sns_topic.one created" in result.stderr
    assert "new.example.net" in result.stdout
    assert "hush" not in result.output


def test_nothing_to_do_asks_nothing(run: Imaginary) -> None:
    run.plan = Plan((), outputs=False)
    assert run("deploy").exit_code == 0
    assert run("destroy").exit_code == 0
    assert "apply" not in run.done


def test_what_the_checks_find(run: Imaginary) -> None:
    run.findings = (Finding("zones", "warning", "eu-central-1", "may not look", "allow it"),)
    assert "may not look" in run("plan").stderr
    run.findings = (Finding("engine-version", "blocker", "aws.aurora", "not offered", "take 17.4"), *run.findings)
    error = run.json("deploy", "--yes", code=1)["error"]
    assert error["kind"] == "preflight-failed"
    assert [one["id"] for one in error["findings"]] == ["engine-version"]
    assert run.done == ["init", "plan"], "of the first command"


def test_a_password_that_is_not_written_is_told(run: Imaginary) -> None:
    run.unwritten = (Finding("secrets-version", "warning", "the-secret", "another password", "raise it"),)
    result = run("deploy", "--yes")
    assert "the-secret" in result.stderr
    assert run.done[-1] == "apply"


@pytest.mark.parametrize("verb", ["deploy", "destroy"])
def test_after_ctrl_c_the_same_command_goes_on(run: Imaginary, verb: str) -> None:
    run.interrupt = True
    result = run(verb, "--yes")
    assert result.exit_code == 130
    assert f"run `daybreak infra {verb}` again" in result.stderr


def test_what_is_protected_is_not_begun(run: Imaginary) -> None:
    run.servers = {Side.SOURCE: None}
    run.plan = Plan(
        (
            Change("destroy", "aws_rds_cluster.one", "aws_rds_cluster", "payments", "", True),
            Change("destroy", "aws_dynamodb_table.two", "aws_dynamodb_table", "state", "", True),
        ),
        outputs=False,
    )
    error = run.json("destroy", "--yes", code=1)["error"]
    assert "aws rds modify-db-cluster --db-cluster-identifier payments --no-deletion-protection" in error["hint"]
    assert "aws dynamodb update-table --table-name state --no-deletion-protection-enabled" in error["hint"]
    assert "untaint" not in error["hint"]
    half_made = "an interrupted or failed run left it half-made"
    run.plan = Plan((Change("replace", "aws_rds_cluster.one", "aws_rds_cluster", "p", half_made, True),), outputs=False)
    assert "untaint aws_rds_cluster.one" in run.json("deploy", "--yes", code=1)["error"]["hint"]
    assert "apply" not in run.done


def test_destroy_refuses_while_in_use_unless_told_by_name(run: Imaginary) -> None:
    run.published = Standing("SSM", "streaming", "source")
    assert "the migration is streaming" in run.json("destroy", "--yes", code=1)["error"]["message"]
    run.published = Standing("SSM", "finished", "target")
    assert "takes the application's writes" in run.json("destroy", "--yes", code=1)["error"]["message"]
    assert run.json("destroy", "--yes", "--even-while-active", "invoices", code=2)
    assert "apply" not in run.done
    run.done.clear()
    assert run.json("destroy", "--yes", "--even-while-active", "payments") == {"destroyed": 1, "kept_keys": []}
    assert run.done == ["init", "plan to destroy", "apply"]


def test_destroy_believes_the_record_beside_the_configuration(run: Imaginary) -> None:
    store = SqliteStateStore(run.directory / ".daybreak" / "payments.db")
    record = MigrationRecord(name="payments", phase=Phase.LOADING, primary=Side.SOURCE)
    store.compare_and_swap(record, 0, "test", None, datetime(2026, 1, 1, tzinfo=UTC), "")
    assert "payments.db" in run.json("destroy", "--yes", code=1)["error"]["message"]
    assert "apply" not in run.done


def test_a_record_is_found_from_the_configuration_wherever_one_is(
    run: Imaginary, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.config.write_text(CONFIG.replace("[aws]", '[state]\nurl = "sqlite:///records/mine.db"\n[aws]'))
    loading(run.directory / "records" / "mine.db")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert "mine.db" in run.json("destroy", "--yes", code=1)["error"]["message"]


def loading(path: Path) -> None:
    """A record of a migration that loads."""
    record = MigrationRecord(name="payments", phase=Phase.LOADING, primary=Side.SOURCE)
    SqliteStateStore(path).compare_and_swap(record, 0, "test", None, datetime(2026, 1, 1, tzinfo=UTC), "")


# side, owner, generation, closed_by, opened_by
@pytest.mark.parametrize(
    ("servers", "held", "said"),
    [
        ({Side.SOURCE: ("source", "ada", 3, 0, 0)}, (), "the migration is under way (control row on the source)"),
        ({Side.SOURCE: ("source", "", 0, 1, 0)}, (), "takes the application's writes (control row on the source)"),
        ({Side.TARGET: ("target", "ada", 3, 0, 0)}, (), "the migration is under way (control row on the target)"),
        ({Side.TARGET: ("target", "ada", 3, 0, 1)}, (), "takes the application's writes (control row on the target)"),
        (
            {Side.SOURCE: None, Side.TARGET: None},
            ((1, 2, "table", "public.t", "public", "o"),),
            "led from elsewhere (1 objects on the target)",
        ),
        ({}, (), "no server answers: source: connecting as daybreak: timed out"),
    ],
)
def test_from_another_checkout_the_servers_are_asked(
    run: Imaginary, servers: dict[Side, tuple[object, ...] | None], held: tuple[tuple[object, ...], ...], said: str
) -> None:
    target = 'dsn = "postgresql://daybreak@new.example.net/payments"'
    run.config.write_text(CONFIG.replace("[aws]", f"[target]\n{target}\n[aws]"))
    run.plan, run.servers, run.held = Plan((GONE,), outputs=False), servers, held
    run.published = Standing("SSM", "planned", "source")
    error = run.json("destroy", "--yes", code=1)["error"]
    assert said in error["message"]
    assert "--even-while-active payments" in error["hint"]
    assert "apply" not in run.done
    assert run("destroy", "--yes", "--even-while-active", "payments").exit_code == 0


def test_servers_without_a_trace_let_it_go(run: Imaginary) -> None:
    run.plan, run.servers = Plan((GONE,), outputs=False), {Side.SOURCE: None}
    assert run.json("destroy", "--yes")["destroyed"] == 1


def test_a_record_at_rest_is_enough_where_no_server_answers(run: Imaginary) -> None:
    record = MigrationRecord(name="payments", phase=Phase.ABORTED, primary=Side.SOURCE)
    store = SqliteStateStore(run.directory / ".daybreak" / "payments.db")
    store.compare_and_swap(record, 0, "test", None, datetime(2026, 1, 1, tzinfo=UTC), "")
    run.plan = Plan((GONE,), outputs=False)
    assert run.json("destroy", "--yes")["destroyed"] == 1


def test_the_record_in_the_table_is_read_itself(run: Imaginary) -> None:
    run.config.write_text(CONFIG.replace("[aws]", '[state]\nurl = "dynamodb://records"\n[aws]'))
    run.plan, run.published = Plan((GONE,), outputs=False), Standing("SSM", "planned", "source")
    run.table = MigrationRecord(name="payments", phase=Phase.STREAMING, primary=Side.SOURCE)
    assert "is streaming (dynamodb://records)" in run.json("destroy", "--yes", code=1)["error"]["message"]
    run.table = refused_by_aws("AccessDeniedException")
    assert "Nobody can tell" in run.json("destroy", "--yes", code=1)["error"]["message"]
    run.table = refused_by_aws("ResourceNotFoundException")
    assert "no server answers" in run.json("destroy", "--yes", code=1)["error"]["message"]
    assert "apply" not in run.done
    run.table = None
    assert run.json("destroy", "--yes")["destroyed"] == 1, "nobody began it: the table would say so"


def refused_by_aws(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetItem")


def test_deploy_does_not_lose_what_a_migration_needs(run: Imaginary) -> None:
    run.plan = Plan((MADE, LOST), outputs=False)
    assert "Nobody can tell" in run.json("deploy", "--yes", code=1)["error"]["message"]
    run.published = Standing("SSM", "finished", "target")
    assert "takes the application's writes" in run.json("deploy", "--yes", code=1)["error"]["message"]
    run.published = None
    loading(run.directory / ".daybreak" / "payments.db")
    assert "is loading" in run.json("deploy", "--yes", code=1)["error"]["message"]
    assert "apply" not in run.done
    assert run("deploy", "--yes", "--even-while-active", "payments").exit_code == 0
    run.plan = Plan((MADE,), outputs=False)
    assert run("deploy", "--yes").exit_code == 0, "what loses nothing may be applied in the middle"


def test_what_a_failed_run_left_half_made_holds_nothing(run: Imaginary) -> None:
    half_made = "an interrupted or failed run left it half-made"
    run.plan = Plan((replace(LOST, why=half_made),), outputs=False)
    assert run("deploy", "--yes").exit_code == 0


@pytest.mark.parametrize("change", [TASK, STOPPED])
def test_the_task_of_dms_is_not_lost_or_stopped_before_the_hand_over(run: Imaginary, change: Change) -> None:
    run.plan, run.published = Plan((change,), outputs=False), Standing("SSM", "streaming", "source")
    error = run.json("deploy", "--yes", code=1)["error"]
    assert "the migration is streaming (SSM)" in error["message"]
    assert "`daybreak start`" in error["hint"]
    assert "apply" not in run.done
    assert run("deploy", "--yes", "--even-while-active", "payments").exit_code == 0
    run.published = Standing("SSM", "streaming", "target")
    assert run("deploy", "--yes").exit_code == 0


def test_a_task_that_is_stopped_is_loud(run: Imaginary) -> None:
    run.plan = Plan((STOPPED,), outputs=False)
    assert "is stopped, and streams no more until `daybreak start`" in run("plan").stdout
    assert run.json("plan")["changes"][0]["stops"] is True


def test_the_key_of_what_is_left_stays(run: Imaginary) -> None:
    run.plan, run.servers = Plan((GONE, KEY, OTHER_KEY), outputs=False), {Side.SOURCE: None}
    result = run("destroy", "--yes")
    assert result.exit_code == 0, result.output
    assert "aws kms schedule-key-deletion --key-id 1234-abcd --region eu-central-1" in result.stdout
    assert run.done == ["init", "plan to destroy", f"forget {KEY.address}", "plan to destroy", "apply"]
    assert run.applied == Plan((GONE, OTHER_KEY), outputs=False)
    run.plan = Plan((GONE, KEY), outputs=False)
    assert run.json("destroy", "--yes")["kept_keys"] == ["1234-abcd"]


def test_without_a_snapshot_in_an_environment_for_trying_no_key_stays(run: Imaginary) -> None:
    run.config.write_text(CONFIG.replace('"prod"', '"test"'))
    run.plan, run.servers = Plan((replace(GONE, snapshot=False), KEY), outputs=False), {Side.SOURCE: None}
    assert run.json("destroy", "--yes") == {"destroyed": 2, "kept_keys": []}


def test_what_changes_between_question_and_answer_ends_it(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    run.plan, run.servers = Plan((GONE, KEY), outputs=False), {Side.SOURCE: None}
    monkeypatch.setattr(ImaginaryTerraform, "forget", lambda _self, _address: None)
    assert run.json("destroy", "--yes", code=1)["error"]["kind"] == "state-conflict"
    assert "apply" not in run.done


def test_a_vault_with_backups_is_refused_before_anything_goes(run: Imaginary) -> None:
    run.plan, run.servers, run.backups = Plan((GONE, VAULT, KEY), outputs=False), {Side.SOURCE: None}, 3
    error = run.json("destroy", "--yes", code=1)["error"]
    assert "holds 3 backups" in error["message"]
    assert "state rm aws_backup_vault.one" in error["hint"]
    assert "aws backup delete-recovery-point --backup-vault-name backup" in error["hint"]
    assert run.done == ["init", "plan to destroy"]
    run.backups = 0
    assert run.json("destroy", "--yes")["destroyed"] == 2


def test_destroy_where_nobody_knows(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_parameter: str, _session: object) -> None:
        raise Refused("Nobody can tell whether the stack is in use: denied", "Allow it.")

    monkeypatch.setattr(guard, "published", unknown)
    assert run.json("destroy", "--yes", code=1)["error"]["hint"] == "Allow it."
    assert "apply" not in run.done


def test_outputs_complete_the_configuration_once(run: Imaginary) -> None:
    assert run.json("outputs")["written"] == ["target.dsn", "target.password"]
    assert run.config.read_text().startswith(CONFIG)
    found = run.json("outputs")
    assert found["written"] == []
    assert found["outputs"] == OUTPUTS
    run.config.write_text(run.config.read_text().replace("new.example.net", "another"))
    assert "target.dsn" in run.json("outputs", code=2)["error"]["message"]
    assert run.json("outputs", "--replace")["written"] == ["target.dsn"]


def test_without_the_extra_it_says_so(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra, "find_spec", lambda _name: None)
    for verb in ("synth", "plan", "deploy", "destroy", "outputs"):
        assert "pip install 'daybreak[infra]'" in run.json(verb, code=2)["error"]["hint"]


def test_a_configuration_without_aws(run: Imaginary) -> None:
    run.config.write_text(CONFIG.partition("[aws]")[0])
    assert "aws" in run.json("plan", code=2)["error"]["message"]


def test_starting_up_imports_neither_the_cdk_nor_boto3() -> None:
    program = (
        "import sys, daybreak.entry.cli; print(*{'cdktn', 'boto3', 'tomlkit', 'daybreak.infra'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""
