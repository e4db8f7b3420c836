"""The DynamoDB table of ``infra.state`` on emulated AWS. ministack's DynamoDB knows reserved words and keeps
transactions apart; moto's does neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from boto3.session import Session

from daybreak.lab.aws import ACCOUNT, EmulatedAws

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_numbers = count(1)


@contextmanager
def fresh_table(emulated: EmulatedAws) -> Iterator[tuple[DynamoDBClient, str]]:
    """A client and the name of an empty table."""
    session = Session(ACCOUNT, "emulated", region_name="eu-central-1")
    client = session.client("dynamodb", endpoint_url=emulated.ministack)
    name = f"daybreak-shop-state-{next(_numbers)}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "migration", "AttributeType": "S"},
            {"AttributeName": "item", "AttributeType": "S"},
        ],
        KeySchema=[{"AttributeName": "migration", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}],
    )
    yield client, name
    client.delete_table(TableName=name)
