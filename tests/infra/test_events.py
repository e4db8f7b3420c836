"""Rules match what AWS really sends of this task and this cluster, and nothing of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from infra.conftest import Bench
from infra.parts import Parts, certificate
from moto.events.models import EventPattern

from daybreak.config import aws
from daybreak.infra.events import alarm_pattern, cluster_pattern, task_pattern, task_trouble_pattern
from daybreak.lab.aws import emulated_aws

_SAMPLES = Path(__file__).parent / "samples"
_TASK = "arn:aws:dms:eu-central-1:123456789012:task:payments-task-test"
_CLUSTER = "arn:aws:rds:eu-central-1:123456789012:cluster:daybreak-payments-aurora-test"
_PATTERNS = {
    "task": task_pattern(_TASK),
    "trouble": task_trouble_pattern(_TASK),
    "cluster": cluster_pattern(_CLUSTER),
    "alarm": alarm_pattern(["daybreak-payments-lag-test", "daybreak-payments-cpu-writer-test"]),
}


def _sample(name: str) -> Any:
    return json.loads((_SAMPLES / f"{name}.json").read_text())


def _matches(pattern: dict[str, object], event: Any) -> bool:
    return EventPattern.load(json.dumps(pattern)).matches_event(event)


def _compose(bench: Bench, tmp_path: Path, dms: bool = True, poll_minutes: int = 1) -> None:
    settings = aws.Dms(target_ca_file=certificate(tmp_path)) if dms else None
    package = tmp_path / "controller.zip"
    package.write_bytes(b"a package")
    Parts.on(bench, settings).events(package, poll_minutes)


def _rules(bench: Bench) -> Iterator[dict[str, Any]]:
    yield from bench.resources("aws_cloudwatch_event_rule")


_CONCERNED = {
    "dms_task_started": {"task"},
    "dms_task_stopped": {"task"},
    "dms_task_failed": {"task", "trouble"},
    "dms_task_reading_paused": {"task", "trouble"},
    "dms_task_started_documented": {"task"},
    "dms_task_failed_documented": {"task", "trouble"},
    "rds_failover_completed": {"cluster"},
    "rds_parameters_updated": set(),
    "cloudwatch_alarm_began_documented": {"alarm"},
}


@pytest.mark.parametrize(("sample", "matched"), _CONCERNED.items())
def test_samples_reach_whom_they_concern(sample: str, matched: set[str]) -> None:
    event = _sample(sample)
    assert {name for name, pattern in _PATTERNS.items() if _matches(pattern, event)} == matched


def test_an_emulated_eventbridge_says_the_same() -> None:
    with emulated_aws() as running:
        given = running.environment()
        events = boto3.client(
            "events",
            region_name="eu-central-1",
            endpoint_url=given["AWS_ENDPOINT_URL"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        )
        for sample, matched in _CONCERNED.items():
            event = json.dumps(_sample(sample))
            assert {
                name
                for name, pattern in _PATTERNS.items()
                if events.test_event_pattern(EventPattern=json.dumps(pattern), Event=event)["Result"]
            } == matched, sample


@pytest.mark.parametrize("value", ["OK", "INSUFFICIENT_DATA"])
def test_an_alarm_that_is_over_or_has_nothing_to_judge_wakes_nobody(value: str) -> None:
    event = _sample("cloudwatch_alarm_began_documented")
    event["detail"]["state"]["value"] = value
    assert not _matches(_PATTERNS["alarm"], event)


@pytest.mark.parametrize(
    "sample", sorted(path.stem for path in _SAMPLES.glob("*_*.json") if "settings" not in path.stem)
)
def test_events_of_others_match_nothing(sample: str) -> None:
    event = _sample(sample)
    event["resources"] = [f"{event['resources'][0]}-other"]
    if "alarmName" in event["detail"]:
        event["detail"]["alarmName"] += "-other"
    assert not any(_matches(pattern, event) for pattern in _PATTERNS.values())


def test_a_failure_shows_in_either_of_two_fields() -> None:
    event = _sample("dms_task_failed")
    for field in ("category", "eventType"):
        without = {**event, "detail": {key: value for key, value in event["detail"].items() if key != field}}
        assert _matches(_PATTERNS["trouble"], without)


def test_rules_speak_of_this_stack_s_task_and_cluster(bench: Bench, tmp_path: Path) -> None:
    _compose(bench, tmp_path)
    patterns = [json.loads(rule["event_pattern"]) for rule in _rules(bench) if "event_pattern" in rule]
    resources = {pattern["resources"][0] for pattern in patterns if "resources" in pattern}
    assert len(patterns) == 4
    assert {resource.partition(".")[0] for resource in resources} == {
        "${aws_dms_replication_task",
        "${aws_rds_cluster",
    }


def test_alarms_about_the_function_do_not_wake_it(bench: Bench, tmp_path: Path) -> None:
    """It could keep its own trouble going. All others do."""
    _compose(bench, tmp_path)
    (pattern,) = (
        json.loads(rule["event_pattern"]) for rule in _rules(bench) if "aws.cloudwatch" in rule.get("event_pattern", "")
    )
    waking = set(pattern["detail"]["alarmName"])
    named = {
        f"${{aws_cloudwatch_metric_alarm.{key}.alarm_name}}": one["alarm_name"]
        for key, one in bench.synth()["resource"]["aws_cloudwatch_metric_alarm"].items()
    }
    assert waking < set(named)
    assert {named[one] for one in set(named) - waking} == {
        f"daybreak-payments-{what}-test"
        for what in ("controller-silent", "controller-errors", "controller-throttles", "dead-letters")
    }


def test_the_longest_pattern_is_one_that_eventbridge_takes() -> None:
    """EventBridge user guide, quotas: 2,048 characters. Names of a migration are at most 63 long as a whole."""
    assert len(json.dumps(alarm_pattern(["x" * 80] * 16))) < 2048


def test_no_two_rules_are_alike(bench: Bench, tmp_path: Path) -> None:
    _compose(bench, tmp_path)
    patterns = [rule.get("event_pattern", rule.get("schedule_expression")) for rule in _rules(bench)]
    assert len(set(patterns)) == len(patterns) == 5
    assert len({rule["name"] for rule in _rules(bench)}) == 5
    assert all(rule["name"].endswith("-test") for rule in _rules(bench))


@pytest.mark.parametrize(("minutes", "rate"), [(1, "rate(1 minute)"), (5, "rate(5 minutes)")])
def test_schedule_is_made_disabled_and_is_the_controllers(
    bench: Bench, tmp_path: Path, minutes: int, rate: str
) -> None:
    _compose(bench, tmp_path, poll_minutes=minutes)
    (schedule,) = (rule for rule in _rules(bench) if "schedule_expression" in rule)
    assert schedule["schedule_expression"] == rate
    assert schedule["state"] == "DISABLED"
    assert "state" in schedule["lifecycle"]["ignore_changes"]


def test_every_target_is_tried_again_and_has_a_queue_for_what_fails(bench: Bench, tmp_path: Path) -> None:
    _compose(bench, tmp_path)
    targets = bench.resources("aws_cloudwatch_event_target")
    assert len(targets) == 5
    for target in targets:
        # EventBridge API, RetryPolicy: 60 to 86,400 s, 0 to 185 attempts.
        assert 60 <= target["retry_policy"]["maximum_event_age_in_seconds"] <= 86_400
        assert 0 < target["retry_policy"]["maximum_retry_attempts"] <= 185
        assert "dead-letters" in target["dead_letter_config"]["arn"]


def test_people_get_a_sentence(bench: Bench, tmp_path: Path) -> None:
    _compose(bench, tmp_path)
    told = [t for t in bench.resources("aws_cloudwatch_event_target") if "aws_sns_topic" in t["arn"]]
    assert len(told) == 2
    for target in told:
        transformer = target["input_transformer"]
        text = json.loads(transformer["input_template"])
        assert text.startswith("Daybreak payments (test), ")
        assert all(f"<{name}>" in text for name in transformer["input_paths"])
    ends = {json.loads(target["input_transformer"]["input_template"]).rpartition(", section ")[2] for target in told}
    assert ends == {"task-failed", "cluster-news"}


def test_only_these_rules_wake_the_controller(bench: Bench, tmp_path: Path) -> None:
    _compose(bench, tmp_path)
    permissions = bench.resources("aws_lambda_permission")
    assert len(permissions) == 3
    for permission in permissions:
        assert permission["principal"] == "events.amazonaws.com"
        assert permission["source_arn"].startswith("${aws_cloudwatch_event_rule.")
    assert len({permission["statement_id"] for permission in permissions}) == 3


def test_only_these_rules_leave_dead_letters_and_over_tls(bench: Bench, tmp_path: Path) -> None:
    _compose(bench, tmp_path)
    documents = bench.synth()["data"]["aws_iam_policy_document"]
    (policy,) = (d for key, d in documents.items() if key.startswith("events_dead-letters"))
    allow, deny = policy["statement"]
    assert len(allow["condition"][0]["values"]) == 5
    assert all(value.startswith("${aws_cloudwatch_event_rule.") for value in allow["condition"][0]["values"])
    assert (deny["effect"], deny["condition"][0]["variable"]) == ("Deny", "aws:SecureTransport")


def test_without_dms_there_are_no_rules_for_it(bench: Bench, tmp_path: Path) -> None:
    _compose(bench, tmp_path, dms=False)
    assert "aws.dms" not in json.dumps(list(_rules(bench)))
    assert len(bench.resources("aws_cloudwatch_event_rule")) == 3
