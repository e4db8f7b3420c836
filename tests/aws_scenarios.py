"""Every call that Daybreak makes to AWS, in the order in which it makes them, with what AWS answers."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, cast

from aws_calls import (
    ARN,
    AT,
    CHANGE,
    CONFIG,
    INSTANCE,
    KEY,
    LATER,
    PARAMETER,
    SECRETS,
    TABLE,
    TASK,
    TASK_ID,
    TOPIC,
    ZONE,
    Call,
    Scenario,
    Stubs,
    call,
    change,
    item,
    swap,
    task,
    weighted,
)
from botocore.response import StreamingBody
from botocore.stub import ANY

from daybreak.aws.dms import Start, Task
from daybreak.aws.metrics import Metrics, Own
from daybreak.aws.rds import Capacity, Instance, NewInstance, Rds, Restoration
from daybreak.config.secret import secret_value
from daybreak.entry import lambda_settings
from daybreak.entry.lambda_app import App
from daybreak.milestones import Milestone
from daybreak.model import Side


def _whole_task(stubs: Stubs) -> None:
    """Look at the task, test, start and stop it."""
    one = stubs.account.dms_task()
    one.poll_seconds = 0.0
    found = one.describe()
    assert found is not None
    one.tables(found)
    one.test_connections(found)
    one.start(found, Start.FIRST)
    one.latency_seconds()
    one.stop(Task(TASK, "running", AT, 100, "", "", INSTANCE, found.endpoints, {}), 1.0)


def _tell(stubs: Stubs) -> None:
    App(cast(Any, None), stubs.client("sns"), cast(Any, None), TOPIC)._tell(Milestone("subject", "text"))


def _metrics(stubs: Stubs) -> None:
    Metrics(stubs.client("cloudwatch"), "shop", "prod").publish({Own.LAG_SECONDS: 0.5, Own.PHASE: 2.0})


def _settings(stubs: Stubs) -> None:
    known = {"CONFIG_PARAMETER": CONFIG, "SOURCE_SECRET": SECRETS[Side.SOURCE], "TARGET_SECRET": SECRETS[Side.TARGET]}
    names = lambda_settings.Names.of({**{name.upper(): "x" for name in lambda_settings.Names.__slots__}, **known})
    assert lambda_settings.load(cast(Any, stubs), names).settings.name == "shop"


def _rewind(stubs: Stubs) -> None:
    rds, like = (
        Rds(stubs.client("rds")),
        Instance("one", "available", "db.serverless", KEY, 60, "arn:aws:iam::1:role/m"),
    )
    rds.cluster("shop")
    rds.instance("one")
    for at in (None, AT):
        rds.restore(
            Restoration(
                "shop", "copy", at, 5432, "subnets", ("sg-1",), "pg", KEY, Capacity(0.5, 2.0), True, (("a", "b"),)
            )
        )
    rds.create_instance(NewInstance("copy-1", "copy", "aurora-postgresql", like, (("a", "b"),)))


def _endpoint(side: str) -> tuple[Call, Call]:
    arn = ARN.format("dms", f"endpoint:{side}")
    pair = {"ReplicationInstanceArn": INSTANCE, "EndpointArn": arn}
    found = {**pair, "EndpointIdentifier": f"daybreak-shop-dms-{side}", "Status": "successful"}
    filters = [{"Name": "endpoint-arn", "Values": [arn]}, {"Name": "replication-instance-arn", "Values": [INSTANCE]}]
    return (
        call("dms.test_connection", pair, Connection={}),
        call("dms.describe_connections", {"Filters": filters}, Connections=[found], Marker=""),
    )


def _secret(side: Side) -> Call:
    value = {"host": "db", "port": 5432, "dbname": "shop", "username": "daybreak", "password": "EXAMPLE-PASSWORD"}
    arn = SECRETS[side]
    return call(
        "secretsmanager.get_secret_value", {"SecretId": arn}, ARN=arn, Name=side.value, SecretString=json.dumps(value),
        VersionId="EXAMPLE1-90ab-cdef-fedc-ba987SECRET1", VersionStages=["AWSCURRENT"],
    )  # fmt: skip


_KEY_OF_RECORD = {"migration": {"S": "shop"}, "item": {"S": "record"}}
_GET_RECORD = call(
    "dynamodb.get_item", {"TableName": TABLE, "Key": _KEY_OF_RECORD, "ConsistentRead": True}, Item=item()
)
_WRITE = call("dynamodb.transact_write_items", {"TransactItems": ANY})
_DESCRIBE_KEY = call(
    "kms.describe_key", {"KeyId": "alias/daybreak-shop-operations-prod"}, KeyMetadata={"Arn": KEY, "KeyId": "1234abcd"}
)
_PUT_STATE = call(
    "ssm.put_parameter",
    {"Name": PARAMETER, "Value": ANY, "Type": "SecureString", "KeyId": KEY, "Overwrite": True},
    Version=2, Tier="Standard",
)  # fmt: skip
_QUERY = {
    "TableName": TABLE,
    "ConsistentRead": True,
    "KeyConditionExpression": "migration = :name AND begins_with(#item, :journal)",
    "ExpressionAttributeNames": {"#item": "item"},
    "ExpressionAttributeValues": {":name": {"S": "shop"}, ":journal": {"S": "journal#"}},
}
_PUBLISHED = {
    "settings": {"name": "shop"},
    "tls": {"source": {"sslmode": "require"}, "target": {"sslmode": "require"}},
    "task_arn": TASK,
}
_DESCRIBE_TASK = {"Filters": [{"Name": "replication-task-id", "Values": [TASK_ID]}]}
_STATISTICS = [{"SchemaName": "shop", "TableName": "orders", "TableState": "Table completed", "FullLoadRows": 5}]
_RULE = {"Name": "daybreak-shop-poll-prod"}
_CLUSTER = {
    "DBClusterIdentifier": "shop", "Status": "available", "Engine": "aurora-postgresql", "ClusterCreateTime": AT
}  # fmt: skip
_INSTANCE = {"DBInstanceIdentifier": "one", "DBInstanceStatus": "available", "DBInstanceClass": "db.serverless"}

SCENARIOS = (
    Scenario("the record is read", lambda stubs: stubs.store.load("shop"), (_GET_RECORD,)),
    Scenario("the journal is read", lambda stubs: stubs.store.journal("shop"),
             (call("dynamodb.query", _QUERY, Items=[], Count=0, ScannedCount=0),)),
    Scenario("the record is written", lambda stubs: swap(stubs, 4), (_WRITE,)),
    Scenario("the state is published", lambda stubs: stubs.store.refresh("shop", LATER), (
        call("ssm.get_parameter", {"Name": PARAMETER, "WithDecryption": True}, Parameter={"Value": "{}", "Version": 1}),
        _GET_RECORD, _DESCRIBE_KEY, _PUT_STATE,
    ), quiet=True),
    Scenario("reads are shifted", lambda stubs: stubs.router.shift_reads(40), (
        call("route53.list_hosted_zones_by_name", {"DNSName": "payments.internal"}, IsTruncated=False, MaxItems="100",
             HostedZones=[{"Id": f"/hostedzone/{ZONE}", "Name": "payments.internal.", "CallerReference": "x",
                           "Config": {"PrivateZone": True}}]),
        call("route53.list_resource_record_sets",
             {"HostedZoneId": ZONE, "StartRecordName": "db-ro.payments.internal"},
             ResourceRecordSets=weighted("db-ro", 100, 0), IsTruncated=False, MaxItems="300"),
        Call("route53.change_resource_record_sets", {"HostedZoneId": ZONE, "ChangeBatch": {
            "Comment": "Daybreak",
            "Changes": [{"Action": "DELETE", "ResourceRecordSet": one} for one in weighted("db-ro", 100, 0)]
            + [{"Action": "CREATE", "ResourceRecordSet": one} for one in weighted("db-ro", 60, 40)],
        }}, lambda: change("PENDING")),
        Call("route53.get_change", {"Id": CHANGE}, lambda: change("INSYNC")),
    )),
    Scenario("the task is looked at, tested, started and stopped", _whole_task, (
        Call("dms.describe_replication_tasks", _DESCRIBE_TASK, task),
        call("dms.describe_table_statistics", {"ReplicationTaskArn": TASK}, ReplicationTaskArn=TASK,
             TableStatistics=_STATISTICS),
        *_endpoint("SOURCE"), *_endpoint("TARGET"),
        call("dms.start_replication_task",
             {"ReplicationTaskArn": TASK, "StartReplicationTaskType": "start-replication"}, ReplicationTask={}),
        Call("dms.describe_replication_tasks", _DESCRIBE_TASK, lambda: task("starting", ReplicationTaskStartDate=AT)),
        call("cloudwatch.get_metric_data",
             {"MetricDataQueries": ANY, "StartTime": ANY, "EndTime": ANY, "ScanBy": "TimestampDescending"},
             MetricDataResults=[{"Id": "cdclatencysource", "Values": [1.0], "Timestamps": [AT]}]),
        call("dms.stop_replication_task", {"ReplicationTaskArn": TASK}, ReplicationTask={}),
        Call("dms.describe_replication_tasks", _DESCRIBE_TASK, lambda: task("stopped", ReplicationTaskStartDate=AT)),
    )),
    Scenario("metrics are published", _metrics,
             (call("cloudwatch.put_metric_data", {"Namespace": "Daybreak", "MetricData": ANY}),)),
    Scenario("the function is woken", lambda stubs: stubs.account.wake(), (
        Call("lambda.invoke", {"FunctionName": "daybreak-shop-controller-prod", "InvocationType": "Event",
                               "Payload": b'{"action": "poll"}'},
             lambda: {"StatusCode": 202, "Payload": StreamingBody(BytesIO(), 0)}),
    ), quiet=True),
    Scenario("the schedule is turned on", lambda stubs: stubs.account.schedule(True),
             (call("events.enable_rule", _RULE),)),
    Scenario("the schedule is turned off", lambda stubs: stubs.account.schedule(False),
             (call("events.disable_rule", _RULE),)),
    Scenario("people are told", _tell,
             (call("sns.publish", {"TopicArn": TOPIC, "Subject": "subject", "Message": "text"}, MessageId="1"),),
             quiet=True),
    Scenario("the function reads its settings", _settings, (
        call("ssm.get_parameter", {"Name": CONFIG, "WithDecryption": True},
             Parameter={"Value": json.dumps(_PUBLISHED), "Type": "SecureString", "Version": 1}),
        _secret(Side.SOURCE), _secret(Side.TARGET),
    )),
    Scenario("a password is read", lambda _stubs: secret_value(SECRETS[Side.SOURCE]), (_secret(Side.SOURCE),),
             raises=ValueError),
    Scenario("a cluster is rewound", _rewind, (
        call("rds.describe_db_clusters", {"DBClusterIdentifier": "shop"}, DBClusters=[_CLUSTER]),
        call("rds.describe_db_instances", {"DBInstanceIdentifier": "one"}, DBInstances=[_INSTANCE]),
        *(call("rds.restore_db_cluster_to_point_in_time", {
            "DBClusterIdentifier": "copy", "SourceDBClusterIdentifier": "shop", "Port": 5432,
            "DBSubnetGroupName": "subnets", "VpcSecurityGroupIds": ("sg-1",), "DBClusterParameterGroupName": "pg",
            "KmsKeyId": KEY, "EnableIAMDatabaseAuthentication": True, "CopyTagsToSnapshot": True,
            "Tags": [{"Key": "a", "Value": "b"}],
            "ServerlessV2ScalingConfiguration": {"MinCapacity": 0.5, "MaxCapacity": 2.0}, **when,
        }, DBCluster={}) for when in (
            {"RestoreType": "copy-on-write", "UseLatestRestorableTime": True},
            {"RestoreType": "full-copy", "RestoreToTime": AT},
        )),
        call("rds.create_db_instance", {
            "DBInstanceIdentifier": "copy-1", "DBClusterIdentifier": "copy", "Engine": "aurora-postgresql",
            "DBInstanceClass": "db.serverless", "PubliclyAccessible": False, "AutoMinorVersionUpgrade": False,
            "Tags": [{"Key": "a", "Value": "b"}], "EnablePerformanceInsights": True, "PerformanceInsightsKMSKeyId": KEY,
            "MonitoringInterval": 60, "MonitoringRoleArn": "arn:aws:iam::1:role/m",
        }, DBInstance={}),
    )),
)  # fmt: skip
