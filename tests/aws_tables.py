"""The DynamoDB table of ``infra.state`` on an imitation of AWS in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

TABLE = "daybreak-shop-state-test"


def make_table() -> DynamoDBClient:
    """The table, empty; to be called inside ``mock_aws``."""
    client = boto3.client("dynamodb", region_name="eu-central-1")
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "migration", "AttributeType": "S"},
            {"AttributeName": "item", "AttributeType": "S"},
        ],
        KeySchema=[{"AttributeName": "migration", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}],
    )
    return client
