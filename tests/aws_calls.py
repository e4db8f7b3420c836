"""A session whose clients answer as they are told, and answers of AWS for it.

botocore checks requests and answers against each service's model. Answers have the shape of those in AWS's
documentation (API references and botocore's own examples), with this migration's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.stub import Stubber

from daybreak.config import Aws, State
from daybreak.config.aws import Aurora, Network, Routing
from daybreak.config.names import Names
from daybreak.model import MigrationRecord, Phase, Side
from daybreak.store.checkpoint import PublishingStore
from daybreak.store.codec import encode
from daybreak.store.dynamodb import DynamoStateStore
from daybreak.traffic.route53 import Route53Router
from daybreak.wiring_aws import Account

_SESSION = boto3.session.Session()  # it keeps the models that it has read
AT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 3, 2, tzinfo=UTC)
TABLE, ZONE, CHANGE = "daybreak-shop-state-prod", "Z0123456789", "C2682N5HXP0BZ4"
PARAMETER, CONFIG, TASK_ID = "/migration/prod/state", "/migration/prod/config", "daybreak-shop-task-prod"
ARN = "arn:aws:{}:eu-central-1:123456789012:{}"
KEY, TOPIC = ARN.format("kms", "key/1234abcd-12ab"), ARN.format("sns", "daybreak-shop-notices-prod")
TASK, INSTANCE = ARN.format("dms", "task:OEAMB3NXST"), ARN.format("dms", "rep:6UTDJGBOUS")
SECRETS = {side: ARN.format("secretsmanager", f"secret:{side}-a1b2c3") for side in Side}
RECORD = MigrationRecord("shop", phase=Phase.STREAMING, version=4, generation=3)


class Stubs:
    """Stands in for a boto3 session: one client a service, which answers as it was told and reaches nobody."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, Stubber]] = {}

    def client(self, service: str, **_how: object) -> Any:
        """As ``Session.client``."""
        return self._of(service)[0]

    def stub(self, service: str) -> Stubber:
        """What that client answers."""
        return self._of(service)[1]

    def done(self) -> None:
        """Every answer was asked for."""
        for _client, stub in self._made.values():
            stub.assert_no_pending_responses()

    def _of(self, service: str) -> tuple[Any, Stubber]:
        if service not in self._made:
            keys = {"region_name": "eu-central-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}
            client = _SESSION.client(service, **keys)  # type: ignore[call-overload]
            stub = Stubber(client)
            stub.activate()
            self._made[service] = client, stub
        return self._made[service]

    @property
    def account(self) -> Account:
        """The migration's account, reached in this way."""
        network, aurora = Network(vpc_cidr="10.60.0.0/16"), Aurora(engine_version="17.5")
        routing = Routing(zone_name="payments.internal")
        settings = Aws(environment="prod", region="eu-central-1", network=network, aurora=aurora, routing=routing)
        account = Account(settings, Names("shop", "prod"))
        vars(account)["session"] = self
        return account

    @property
    def store(self) -> PublishingStore:
        """Where the record is kept."""
        return self.account.store(State(url=f"dynamodb://{TABLE}"), lambda: None)

    @property
    def router(self) -> Route53Router:
        """The names."""
        return self.account.router(lambda: None)


@dataclass(frozen=True)
class Call:
    """``operation`` (``dms.start_replication_task``), the parameters that it must have, and AWS's answer."""

    operation: str
    asked: dict[str, Any]
    answer: Callable[[], dict[str, Any]] = dict

    @property
    def service(self) -> str:
        """boto3's name of the service."""
        return self.operation.partition(".")[0]

    @property
    def method(self) -> str:
        """The client's method."""
        return self.operation.partition(".")[2]

    def expect(self, stubs: Stubs) -> None:
        """Have the next call be this one."""
        stubs.stub(self.service).add_response(self.method, self.answer(), self.asked)


@dataclass(frozen=True)
class Scenario:
    """What ``act`` asks of AWS. Where it fails, ``raises`` (beside Daybreak's own errors) comes of it, or, where it
    is ``quiet``, a line in the log."""

    name: str
    act: Callable[[Stubs], object]
    calls: tuple[Call, ...]
    quiet: bool = False
    raises: type[Exception] | None = None


def call(operation: str, asked: dict[str, Any], **answer: Any) -> Call:
    """A call with its answer."""
    return Call(operation, asked, lambda: answer)


def item(version: int = 4) -> dict[str, Any]:
    """The record as the table holds it."""
    key = {"migration": {"S": "shop"}, "item": {"S": "record"}}
    return {**key, "version": {"N": str(version)}, "body": {"S": encode(RECORD)}}


def task(status: str = "ready", **more: Any) -> dict[str, Any]:
    """DescribeReplicationTasks on one task."""
    known = {
        "ReplicationTaskIdentifier": TASK_ID,
        "ReplicationTaskArn": TASK,
        "ReplicationInstanceArn": INSTANCE,
        "SourceEndpointArn": ARN.format("dms", "endpoint:SOURCE"),
        "TargetEndpointArn": ARN.format("dms", "endpoint:TARGET"),
        "MigrationType": "full-load-and-cdc",
        "Status": status,
        "ReplicationTaskSettings": '{"TargetMetadata": {"BatchApplyEnabled": false}}',
        "ReplicationTaskStats": {"FullLoadProgressPercent": 0, "TablesLoaded": 0, "TablesErrored": 0},
        **more,
    }
    return {"Marker": "", "ReplicationTasks": [known]}


def weighted(name: str, source: int, target: int) -> list[dict[str, Any]]:
    """Both records of a name."""
    leads_to = {"source": "db-source.payments.internal", "target": "db-target.payments.internal"}
    return [
        {
            "Name": f"{name}.payments.internal.",
            "Type": "CNAME",
            "SetIdentifier": side,
            "Weight": weight,
            "TTL": 60,
            "ResourceRecords": [{"Value": leads_to[side]}],
        }
        for side, weight in (("source", source), ("target", target))
    ]


def change(status: str) -> dict[str, Any]:
    """ChangeResourceRecordSets and GetChange on a change."""
    return {"ChangeInfo": {"Comment": "Daybreak", "Id": f"/change/{CHANGE}", "Status": status, "SubmittedAt": AT}}


def journal_row(version: int) -> dict[str, Any]:
    """A row of the journal as the table holds it."""
    numbers = {"version": {"N": str(version)}, "generation": {"N": "3"}}
    texts = {"owner": "ana", "event": "moved", "step": "", "detail": "", "at": AT.isoformat()}
    key = {"migration": {"S": "shop"}, "item": {"S": f"journal#{version:012}"}}
    return {**key, **numbers, **{name: {"S": text} for name, text in texts.items()}}


def swap(stubs: Stubs, expected_version: int) -> MigrationRecord:
    """Store the record anew, without publishing it."""
    store = DynamoStateStore(stubs.client("dynamodb"), TABLE)
    return store.compare_and_swap(RECORD, expected_version, "moved", None, AT, "")
