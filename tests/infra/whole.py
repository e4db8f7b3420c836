"""The whole stack as Terraform JSON, for tests of what holds everywhere, and its IAM policies as AWS reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import daybreak.infra  # noqa: F401 - before the CDK: names the Node that it runs in

# isort: split
from cdktn import Testing

from daybreak.config import InfraSettings
from daybreak.infra.stack import DaybreakStack

Engine = Literal["native", "dms"]
Json = dict[str, Any]

ACCOUNT = "123456789012"
REGION = "eu-central-1"


def settings(work: Path, engine: Engine, aws: Json | None = None, environment: str = "test") -> InfraSettings:
    """A configuration with defaults wherever there are some; ``aws`` replaces keys in its sections."""
    authority = work / "authority.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    sections: dict[str, Json] = {
        "network": {"vpc_cidr": "10.60.0.0/16", "source_cidrs": ["10.1.0.0/24"], "transit_gateway_id": "tgw-1"},
        "aurora": {"engine_version": "17.5"},
        "dms": {"target_ca_file": str(authority)},
        "routing": {"zone_name": "payments.internal"},
    }
    for name, keys in (aws or {}).items():
        sections[name] = {**sections.get(name, {}), **keys}
    return InfraSettings.model_validate(
        {
            "name": "payments",
            "source": {"dsn": "postgresql://daybreak@db.example.com/payments"},
            "replication": {"engine": engine},
            "aws": {"environment": environment, "region": REGION, **sections},
        }
    )


def synthesised(work: Path, chosen: InfraSettings) -> Json:
    """The stack of ``chosen`` as Terraform JSON."""
    package = work / "controller.zip"
    package.write_bytes(b"a package")
    result: Json = json.loads(
        Testing.synth(DaybreakStack(Testing.app(outdir=str(work / "synthesised")), chosen, package), True)
    )
    return result


def resources(stack: Json) -> Iterator[tuple[str, Json]]:
    """Every resource with its kind."""
    for kind, named in stack["resource"].items():
        for one in named.values():
            yield kind, one


# A plausible ARN for each kind of resource that policies name; what has none is named by a plain word.
_ARNS = {
    "aws_backup_vault": "backup:{place}:backup-vault:name",
    "aws_cloudwatch_event_rule": "events:{place}:rule/name",
    "aws_cloudwatch_log_group": "logs:{place}:log-group:name",
    "aws_dms_endpoint": "dms:{place}:endpoint:NAME",
    "aws_dms_replication_instance": "dms:{place}:rep:NAME",
    "aws_dms_replication_task": "dms:{place}:task:NAME",
    "aws_dynamodb_table": "dynamodb:{place}:table/name",
    "aws_kms_key": "kms:{place}:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "aws_rds_cluster": "rds:{place}:cluster:name",
    "aws_secretsmanager_secret": "secretsmanager:{place}:secret:name-AbCdEf",
    "aws_sns_topic": "sns:{place}:name",
    "aws_sqs_queue": "sqs:{place}:name",
    "aws_ssm_parameter": "ssm:{place}:parameter/name",
}


def filled_in(text: str) -> str:
    """``text`` with an ARN, or a word, in place of every Terraform expression. An ARN of an unknown kind fails."""

    def value(match: re.Match[str]) -> str:
        kind, _, rest = match[1].partition(".")
        if rest.endswith("arn"):
            return f"arn:aws:{_ARNS[kind].format(place=f'{REGION}:{ACCOUNT}')}"
        known = {"account_id": ACCOUNT, "partition": "aws", "region": REGION, "zone_id": "Z0123456789ABCDEFGHIJ"}
        return known.get(rest.rpartition(".")[2], "name")

    return re.sub(r"\$\{([^{}]*)\}", value, text)


def policies(stack: Json) -> Iterator[tuple[str, Json]]:
    """Every IAM policy document, by the name of its data source, in the form of IAM."""
    for name, document in stack["data"]["aws_iam_policy_document"].items():
        statements = [_statement(one) for one in document["statement"]]
        yield name, json.loads(filled_in(json.dumps({"Version": "2012-10-17", "Statement": statements})))


def _statement(one: Json) -> Json:
    result: Json = {"Sid": one["sid"], "Effect": one["effect"], "Action": _short(one["actions"])}
    if "resources" in one:
        result["Resource"] = _short(one["resources"])
    if "principals" in one:
        result["Principal"] = {who["type"]: _short(who["identifiers"]) for who in one["principals"]}
    for condition in one.get("condition", ()):
        of_test = result.setdefault("Condition", {}).setdefault(condition["test"], {})
        of_test[condition["variable"]] = _short(condition["values"])
    return result


def _short(values: list[str]) -> str | list[str]:
    """As Terraform writes it: one value stands alone."""
    return values[0] if len(values) == 1 else values
