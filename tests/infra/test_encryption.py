"""Keys rotate, and their policies give services no more than they need."""

from __future__ import annotations

from pathlib import Path

from infra.conftest import Bench
from infra.whole import settings, synthesised

from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.plan import DATA_KEY


def test_every_key_rotates_and_has_a_name(bench: Bench) -> None:
    Keys(bench.stack, "keys", KeysProps(bench.site))
    keys = bench.resources("aws_kms_key")
    assert len(keys) == 3
    assert all(key["enable_key_rotation"] for key in keys)
    assert {alias["name"] for alias in bench.resources("aws_kms_alias")} == {
        f"alias/daybreak-payments-{what}-test" for what in ("data", "secrets", "operations")
    }


def test_the_plan_knows_the_key_of_data_by_its_address(tmp_path: Path) -> None:
    keys = synthesised(tmp_path, settings(tmp_path, "native"))["resource"]["aws_kms_key"]
    assert [one["description"] for name, one in keys.items() if f"aws_kms_key.{name}".startswith(DATA_KEY)] == [
        "Daybreak payments test: data"
    ]


def test_services_use_a_key_only_for_this_account(bench: Bench) -> None:
    Keys(bench.stack, "keys", KeysProps(bench.site))
    documents = bench.synth()["data"]["aws_iam_policy_document"].values()
    statements = [statement for document in documents for statement in document["statement"]]
    of_services = [s for s in statements if s["principals"][0]["type"] == "Service"]
    assert {s["sid"] for s in of_services} == {"ServicesPublish", "RulesPublish", "RulesQueue", "LogsEncrypt"}
    assert all("123456789012" in str(s["condition"]) for s in of_services)
    assert all("kms:*" not in s["actions"] for s in of_services)


def test_rules_are_bound_by_what_they_encrypt_because_they_name_no_account(bench: Bench) -> None:
    """SNS developer guide: EventBridge's messages do not arrive under aws:SourceAccount or aws:SourceArn."""
    Keys(bench.stack, "keys", KeysProps(bench.site))
    documents = bench.synth()["data"]["aws_iam_policy_document"].values()
    of_rules = [s for d in documents for s in d["statement"] if "events.amazonaws.com" in str(s["principals"])]
    assert {condition["variable"] for s in of_rules for condition in s["condition"]} == {
        "kms:EncryptionContext:aws:sns:topicArn",
        "kms:EncryptionContext:aws:sqs:arn",
    }
