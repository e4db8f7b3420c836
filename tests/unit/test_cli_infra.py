"""``daybreak infra`` over an imaginary Terraform: what is asked, refused, printed, and never done unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from daybreak.entry import command, infra
from daybreak.entry.cli import app
from daybreak.errors import Finding, Refused
from daybreak.infra import app as synthesis
from daybreak.infra import checks, guard, passwords, terraform
from daybreak.infra.guard import Standing
from daybreak.infra.plan import Change, Plan
from daybreak.infra.terraform import Progress
from daybreak.model import MigrationRecord, Phase, Side
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
    done: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.directory / "daybreak.toml"

    def terraform(self, _directory: Path, variables: dict[str, str]) -> ImaginaryTerraform:
        return ImaginaryTerraform(self, variables)

    def __call__(self, *arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, ["infra", *arguments, "--config", str(self.config)], input=typed)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found


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

    def apply(self, plan: Plan) -> None:
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
    monkeypatch.setattr(infra, "open_session", lambda _region: None)
    monkeypatch.setattr(checks, "on_this_machine", lambda: ())
    monkeypatch.setattr(checks, "in_the_account", lambda _settings, _session: world.findings)
    monkeypatch.setattr(guard, "published", lambda _parameter, _session: world.published)
    monkeypatch.setattr(passwords, "variables", lambda _directory: ("target_password",))
    monkeypatch.setattr(passwords, "passwords", lambda names, _settings, _session: dict.fromkeys(names, "hush"))
    return world


def test_synth_says_where(run: Imaginary) -> None:
    assert run.json("synth")["directory"] == str(run.directory / ".daybreak" / "infra" / "stack")
    assert run.done == []


def test_a_plan_changes_nothing(run: Imaginary) -> None:
    found = run.json("plan")
    assert {"create", "update", "replace", "destroy", "changes"} == set(found)
    assert found["changes"] == [{"action": "create", "address": "aws_sns_topic.one", "why": "", "loses": False}]
    assert run.done == ["init", "plan"]
    assert "1 to make." in run("plan").stdout
    run.plan = Plan((), outputs=False)
    assert "Nothing to do" in run("plan").stdout


def test_a_loss_is_loud(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    run.plan = Plan((MADE, LOST), outputs=False)
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


@pytest.mark.parametrize("verb", ["deploy", "destroy"])
def test_after_ctrl_c_the_same_command_goes_on(run: Imaginary, verb: str) -> None:
    run.interrupt = True
    result = run(verb, "--yes")
    assert result.exit_code == 130
    assert f"run `daybreak infra {verb}` again" in result.stderr


def test_what_is_protected_is_not_begun(run: Imaginary) -> None:
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
    assert run.done == []
    assert run.json("destroy", "--yes", "--even-while-active", "payments") == {"destroyed": 1}
    assert run.done == ["init", "plan to destroy", "apply"]


def test_destroy_believes_the_record_beside_the_configuration(run: Imaginary) -> None:
    store = SqliteStateStore(run.directory / ".daybreak" / "payments.db")
    record = MigrationRecord(name="payments", phase=Phase.LOADING, primary=Side.SOURCE)
    store.compare_and_swap(record, 0, "test", None, datetime(2026, 1, 1, tzinfo=UTC), "")
    assert "payments.db" in run.json("destroy", "--yes", code=1)["error"]["message"]
    assert run.done == []


def test_destroy_where_nobody_knows(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_parameter: str, _session: object) -> None:
        raise Refused("Nobody can tell whether the stack is in use: denied", "Allow it.")

    monkeypatch.setattr(guard, "published", unknown)
    assert run.json("destroy", "--yes", code=1)["error"]["hint"] == "Allow it."
    assert run.done == []


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
