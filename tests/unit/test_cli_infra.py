"""``daybreak infra`` over an imaginary Terraform: what is asked, refused, printed, and never done unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from infra_world import CONFIG, LOST, MADE, OUTPUTS, Imaginary, imaginary

from daybreak.entry import command, infra
from daybreak.errors import Finding
from daybreak.infra.plan import Change, Plan


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imaginary:
    """See ``imaginary``."""
    return imaginary(tmp_path, monkeypatch)


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
    run.plan = Plan((MADE, LOST), outputs=False)
    run.untouched()
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
    run.untouched()
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
