"""What holds everywhere in the stack, with either engine: no secrets, no needless rights, no open doors, names
with the environment, alarms that lead somewhere; and what checkov and parliament say of it."""

from __future__ import annotations

import json
import re
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from infra import excused
from infra.excused import unexcused
from infra.whole import ACCOUNT, Engine, Json, policies, resources, settings, synthesised

_ROOT = Path(__file__).parents[2]
_CHECKOV = _ROOT / ".checkov" / "bin" / "checkov"

# Arguments by which a kind of resource is named, most of all where it isn't "name".
_NAMED_BY = {
    "aws_cloudwatch_metric_alarm": "alarm_name",
    "aws_cloudwatch_dashboard": "dashboard_name",
    "aws_lambda_function": "function_name",
    "aws_lambda_permission": "statement_id",
    "aws_rds_cluster": "cluster_identifier",
    "aws_rds_cluster_instance": "identifier",
    "aws_dms_replication_instance": "replication_instance_id",
    "aws_dms_replication_task": "replication_task_id",
    "aws_dms_replication_subnet_group": "replication_subnet_group_id",
    "aws_dms_endpoint": "endpoint_id",
    "aws_dms_certificate": "certificate_id",
}
# Parts of other resources, which AWS gives no name.
_NAMELESS = {
    "aws_cloudwatch_event_target",
    "aws_iam_role_policy_attachment",
    "aws_kms_key",
    "aws_lambda_function_event_invoke_config",
    "aws_route",
    "aws_route_table_association",
    "aws_secretsmanager_secret_version",
    "aws_sns_topic_policy",
    "aws_sqs_queue_policy",
    "aws_vpc_security_group_egress_rule",
    "aws_vpc_security_group_ingress_rule",
}
_SECRET = re.compile(r"password|secret|token|private_key|credential", re.IGNORECASE)
_NO_SECRET = re.compile(r"_arn$|_id$|^manage_|_version$|^(SOURCE|TARGET)_SECRET$")
_LEAKED = re.compile(r"postgres(ql)?://[^/\s:]+:[^@\s]+@|PRIVATE KEY|\b(AKIA|ASIA)[0-9A-Z]{16}\b")


@pytest.fixture(scope="module", params=["native", "dms"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return cast(Engine, request.param)


@pytest.fixture(scope="module")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Json:
    work = tmp_path_factory.mktemp(engine)
    return synthesised(work, settings(work, engine))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, object]]:
    """Every value that is no container, with the key that it belongs to."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def test_no_secret_is_written_out(stack: Json) -> None:
    for key, value in _leaves(stack):
        if not isinstance(value, str):
            continue
        assert not _LEAKED.search(value), key
        if _SECRET.search(key) and not _NO_SECRET.search(key):
            assert value.startswith("${"), f"{key} is a literal"


def test_passwords_come_and_go_in_ephemeral_variables_and_write_only_arguments(stack: Json, engine: Engine) -> None:
    passwords = {name: one for name, one in stack["variable"].items() if name.endswith("_password")}
    assert len(passwords) == (4 if engine == "dms" else 2)
    assert all(one["ephemeral"] and one["sensitive"] and "default" not in one for one in passwords.values())
    for kind, one in resources(stack):
        for argument in ("password", "master_password", "secret_string", "secret_binary"):
            assert argument not in one, kind
    # Where a password is used at all, it is used in a write-only argument.
    used = [key for key, value in _leaves(stack["resource"]) if "_password" in str(value)]
    assert set(used) == {"secret_string_wo"}


def test_rights_name_their_resources(stack: Json, engine: Engine) -> None:
    found = [
        (str(one["sid"]), name)
        for name, document in stack["data"]["aws_iam_policy_document"].items()
        for one in document["statement"]
        if one["effect"] == "Allow"
        and ("*" in one.get("resources", ()) or any(action.endswith(":*") for action in one["actions"]))
    ]
    assert unexcused(found, _for(excused.STARS, engine)) == []


def _for(excuses: tuple[excused.Excuse, ...], engine: Engine) -> list[excused.Excuse]:
    """Those that the stack with ``engine`` can need."""
    return [one for one in excuses if engine == "dms" or one.what not in {"AnyMetricToRead", "AnyDescriptionOfDms"}]


def test_roles_are_for_services_of_this_account(stack: Json) -> None:
    trusts = [document for name, document in policies(stack) if "-trust" in name]
    assert trusts
    for document in trusts:
        for one in document["Statement"]:
            assert list(one["Principal"]) == ["Service"]
            # That there is a condition at all is asked below.
            if "Condition" in one:
                assert one["Condition"]["StringEquals"]["aws:SourceAccount"] == ACCOUNT


def test_whoever_else_is_admitted_is_bound_by_a_condition(stack: Json, engine: Engine) -> None:
    """A policy of a resource or a role that admits everybody, or a service, says on whose behalf."""
    ours = (None, {"AWS": f"arn:aws:iam::{ACCOUNT}:root"})
    found = [
        (one["Sid"], name)
        for name, document in policies(stack)
        for one in document["Statement"]
        if one["Effect"] == "Allow" and one.get("Principal") not in ours and "Condition" not in one
    ]
    excuses = [one for one in excused.ADMITTED if engine == "dms" or "dms" not in one.where]
    assert unexcused(found, excuses) == []


def test_no_rule_of_a_security_group_is_there_twice_or_open_to_the_world(stack: Json) -> None:
    """AWS refuses the second one, in the middle of an apply."""
    told = ("security_group_id", "referenced_security_group_id", "cidr_ipv4", "prefix_list_id", "ip_protocol")
    for direction in ("ingress", "egress"):
        rules = [one for kind, one in resources(stack) if kind == f"aws_vpc_security_group_{direction}_rule"]
        assert rules
        keys = [tuple(one.get(key) for key in (*told, "from_port", "to_port")) for one in rules]
        assert [key for key, count in Counter(keys).items() if count > 1] == []
    assert not [value for _, value in _leaves(stack) if value in ("0.0.0.0/0", "::/0")]
    for kind, one in resources(stack):
        if kind in ("aws_security_group", "aws_default_security_group"):
            assert not {"ingress", "egress"} & set(one), "rules inside a group undo the others"


def test_event_patterns_are_patterns(stack: Json) -> None:
    """An event pattern is an object whose values are lists, or objects of lists; anything else matches nothing."""
    rules = [one for kind, one in resources(stack) if kind == "aws_cloudwatch_event_rule"]
    assert sum("schedule_expression" in one for one in rules) == 1
    for one in rules:
        assert ("event_pattern" in one) != ("schedule_expression" in one)
        if "event_pattern" in one:
            pattern = json.loads(one["event_pattern"])
            assert set(pattern) <= {"source", "detail-type", "resources", "account", "region", "detail"}
            assert {"source", "detail-type"} <= set(pattern)
            assert "resources" in pattern or "alarmName" in pattern["detail"], "events of other resources match"
            _assert_pattern(pattern)


def _assert_pattern(pattern: Json) -> None:
    for key, value in pattern.items():
        if isinstance(value, dict):
            _assert_pattern(value)
            continue
        assert isinstance(value, list), key
        assert value, key
        if key == "$or":
            for branch in value:
                _assert_pattern(branch)


def test_every_event_is_tried_again_and_ends_in_the_queue(stack: Json) -> None:
    targets = [one for kind, one in resources(stack) if kind == "aws_cloudwatch_event_target"]
    assert targets
    for one in targets:
        assert one["retry_policy"]["maximum_retry_attempts"] > 0
        assert "aws_sqs_queue" in one["dead_letter_config"]["arn"]


def test_every_name_ends_with_the_environment(stack: Json, engine: Engine) -> None:
    found = []
    for kind, one in resources(stack):
        if kind in _NAMELESS:
            continue
        name = one.get(_NAMED_BY.get(kind, "name")) or one["tags"]["Name"]
        if not name.endswith("-test"):
            found.append((kind, name))
    excuses = [one for one in excused.NAMES if engine == "dms" or "dms" not in one.where]
    assert unexcused(found, excuses) == []


def test_every_alarm_tells_somebody_and_leads_to_its_section(stack: Json) -> None:
    page = (_ROOT / "docs" / "infrastructure" / "runbook.md").read_text()
    sections = re.findall(r"^## (\S+)$", page, re.MULTILINE)
    assert len(sections) == len(set(sections))
    alarms = [one for kind, one in resources(stack) if kind == "aws_cloudwatch_metric_alarm"]
    assert alarms
    for one in alarms:
        for actions in ("alarm_actions", "ok_actions"):
            (told,) = one[actions]
            assert re.fullmatch(r"\$\{aws_sns_topic\.\S+\.arn\}", told), one["alarm_name"]
        found = re.search(r"Runbook: docs/infrastructure/runbook\.md .*, section (\S+)$", one["alarm_description"])
        assert found, one["alarm_name"]
        assert found[1] in sections
    told = [one["input_transformer"] for kind, one in resources(stack) if one.get("input_transformer")]
    for one in told:
        assert json.loads(one["input_template"]).rpartition(", section ")[2] in sections


def test_parliament_finds_nothing_else(stack: Json) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources, which it imports
        import parliament  # type: ignore[import-untyped]
    found = []
    for name, document in policies(stack):
        # Trust policies have no resource, which parliament takes for a mistake; they have a test of their own.
        if "-trust" not in name:
            judged = parliament.analyze_policy_string(json.dumps(document))
            found += [(finding.issue, name) for finding in judged.findings]
    assert unexcused(found, excused.PARLIAMENT) == []


@pytest.mark.skipif(not _CHECKOV.exists(), reason="checkov is not installed: `make test` makes its environment")
def test_checkov_finds_nothing_else(tmp_path: Path) -> None:
    """The stack with DMS, which has all that the other has, as it is for production."""
    written = tmp_path / "cdk.tf.json"
    written.write_text(json.dumps(synthesised(tmp_path, settings(tmp_path, "dms", environment="prod"))))
    asked = ["--file", str(written), "--framework", "terraform_json", "--skip-download", "--output", "json"]
    answer = subprocess.run([_CHECKOV, *asked], capture_output=True, text=True, check=False)
    report = json.loads(answer.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 300
    found = [(one["check_id"], one["resource"]) for one in report["results"]["failed_checks"]]
    assert unexcused(found, excused.CHECKOV) == []
