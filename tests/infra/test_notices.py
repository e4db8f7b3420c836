"""The topic is encrypted and takes messages from this account's alarms and rules, over TLS."""

from __future__ import annotations

from typing import Any

from infra.conftest import Bench

from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.notices import Notices, NoticesProps


def _notices(bench: Bench, email: str = "") -> Notices:
    keys = Keys(bench.stack, "keys", KeysProps(bench.site))
    return Notices(bench.stack, "notices", NoticesProps(bench.site, keys, email))


def _statements(bench: Bench) -> dict[str, dict[str, Any]]:
    documents = bench.synth()["data"]["aws_iam_policy_document"]
    (policy,) = (d for key, d in documents.items() if key.startswith("notices"))
    return {statement["sid"]: statement for statement in policy["statement"]}


def test_topic_is_encrypted_and_named(bench: Bench) -> None:
    _notices(bench)
    topic = bench.only("aws_sns_topic")
    assert "keys_operations" in topic["kms_master_key_id"]
    assert topic["name"].endswith("-test")


def test_alarms_and_rules_may_publish_and_nobody_without_tls(bench: Bench) -> None:
    _notices(bench)
    statements = _statements(bench)
    assert {s["principals"][0]["identifiers"][0] for s in statements.values() if s["effect"] == "Allow"} == {
        "cloudwatch.amazonaws.com",
        "events.amazonaws.com",
    }
    assert "123456789012" in str(statements["AlarmsPublish"]["condition"])
    deny = statements["OnlyOverTls"]
    assert (deny["effect"], deny["condition"][0]["variable"]) == ("Deny", "aws:SecureTransport")
    assert all("aws_sns_topic" in s["resources"][0] for s in statements.values())


def test_rules_publish_without_a_condition(bench: Bench) -> None:
    """EventBridge sends no context that a condition could match: nothing would arrive."""
    _notices(bench)
    assert "condition" not in _statements(bench)["RulesPublish"]


def test_email_is_an_option(bench: Bench) -> None:
    _notices(bench)
    assert not bench.resources("aws_sns_topic_subscription")


def test_email_is_subscribed(bench: Bench) -> None:
    _notices(bench, "oncall@example.net")
    subscription = bench.only("aws_sns_topic_subscription")
    assert (subscription["protocol"], subscription["endpoint"]) == ("email", "oncall@example.net")
