"""Keys rotate, and their policies give services no more than they need."""

from __future__ import annotations

from infra.conftest import Bench

from daybreak.infra.encryption import Keys, KeysProps


def test_every_key_rotates_and_has_a_name(bench: Bench) -> None:
    Keys(bench.stack, "keys", KeysProps(bench.site))
    keys = bench.resources("aws_kms_key")
    assert len(keys) == 3
    assert all(key["enable_key_rotation"] for key in keys)
    assert {alias["name"] for alias in bench.resources("aws_kms_alias")} == {
        f"alias/daybreak-payments-{what}-test" for what in ("data", "secrets", "operations")
    }


def test_services_use_a_key_only_for_this_account(bench: Bench) -> None:
    Keys(bench.stack, "keys", KeysProps(bench.site))
    documents = bench.synth()["data"]["aws_iam_policy_document"].values()
    statements = [statement for document in documents for statement in document["statement"]]
    of_services = [s for s in statements if s["principals"][0]["type"] == "Service"]
    assert {s["sid"] for s in of_services} == {"ServicesPublish", "LogsEncrypt"}
    assert all("123456789012" in str(s["condition"]) for s in of_services)
    assert all("kms:*" not in s["actions"] for s in of_services)
