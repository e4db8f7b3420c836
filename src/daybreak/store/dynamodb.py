"""``StateStore`` in one DynamoDB table, for a controller that runs on AWS. A compare-and-swap is one
transaction of two conditional writes (record and journal row): of two racing processes one wins, and a
process killed in between leaves all of it or nothing.

The table (``infra.state``) has the partition key ``migration`` and the sort key ``item``: ``record``, or
``journal#`` and the version, so that the journal reads in order. Source: DynamoDB API,
TransactWriteItems and "Expressions".
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import tenacity

from daybreak.aws.errors import translated
from daybreak.errors import StateConflict, TransientError
from daybreak.model import JournalEntry, MigrationRecord, Step
from daybreak.store.codec import decode, encode

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef

_RECORD = "record"
_JOURNAL = "journal#"
# Versions sort as text: 12 digits outlast any migration.
_DIGITS = 12
_LOST = "ConditionalCheckFailed"
_BUSY = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})


class DynamoStateStore:
    """The record and journal in ``table``. Reads are consistent. Safe to use from several processes and threads.

    Every method raises TransientError (throttled, unreachable) or PermanentError (no such table, not
    permitted: action and resource are named)."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def load(self, name: str) -> MigrationRecord | None:
        """See ``StateStore.load``."""
        with translated(f"reading table {self._table}"):
            found = self._client.get_item(TableName=self._table, Key=_key(name, _RECORD), ConsistentRead=True)
        item = found.get("Item")
        return None if item is None else decode(item["body"]["S"], f"dynamodb://{self._table}")

    def compare_and_swap(
        self, record: MigrationRecord, expected_version: int, event: str, step: Step | None, at: datetime, detail: str
    ) -> MigrationRecord:
        """See ``StateStore.compare_and_swap``; durable when it returns."""
        stored = replace(record, version=expected_version + 1)
        with translated(f"writing table {self._table}"):
            lost = self._lost(self._writes(stored, expected_version, event, step, at, detail))
            if lost == (False, True):  # asked for only then: a switchover has no time for a query at each write
                stored = replace(record, version=self._last_version(record.name) + 1)
                lost = self._lost(self._writes(stored, expected_version, event, step, at, detail))
            if any(lost):
                found = self.load(record.name)
                raise StateConflict(
                    f"dynamodb://{self._table}: another process moved {record.name}"
                    f" (version {0 if found is None else found.version}, not {expected_version}).",
                    "Nothing was written. See `daybreak status`, then run the command again.",
                )
        return stored

    def journal(self, name: str) -> tuple[JournalEntry, ...]:
        """See ``StateStore.journal``."""
        entries: list[JournalEntry] = []
        with translated(f"reading table {self._table}"):
            for page in self._client.get_paginator("query").paginate(**self._rows(name)):
                entries += [_entry(item) for item in page["Items"]]
        return tuple(entries)

    def _last_version(self, name: str) -> int:
        """That of the journal's last row, 0 where there is none."""
        found = self._client.query(**self._rows(name), ScanIndexForward=False, Limit=1)["Items"]
        return _entry(found[0]).version if found else 0

    def _rows(self, name: str) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "ConsistentRead": True,
            # ``item`` is a word of DynamoDB's own ("Reserved words in DynamoDB").
            "KeyConditionExpression": "migration = :name AND begins_with(#item, :journal)",
            "ExpressionAttributeNames": {"#item": "item"},
            "ExpressionAttributeValues": {":name": {"S": name}, ":journal": {"S": _JOURNAL}},
        }

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(TransientError),
        stop=tenacity.stop_after_delay(10),
        wait=tenacity.wait_random_exponential(multiplier=0.02, max=1),
        reraise=True,
    )
    def _lost(self, items: list[TransactWriteItemTypeDef]) -> tuple[bool, ...]:
        """Whether the record has another version, and whether the journal has that row; empty once written. What
        DynamoDB cancelled for a race or a rate is tried again, which botocore doesn't; then TransientError."""
        try:
            self._client.transact_write_items(TransactItems=items)
        except self._client.exceptions.TransactionCanceledException as error:
            reasons = tuple(str(reason.get("Code", "")) for reason in error.response.get("CancellationReasons", []))
            if _LOST in reasons:
                return tuple(reason == _LOST for reason in reasons)
            if _BUSY.intersection(reasons):
                text = error.response.get("Error", {}).get("Message", "no message")
                raise TransientError(f"writing table {self._table}: {text}", "AWS is busy; try again.") from error
            raise
        return ()

    def _writes(
        self, stored: MigrationRecord, expected_version: int, event: str, step: Step | None, at: datetime, detail: str
    ) -> list[TransactWriteItemTypeDef]:
        entry = JournalEntry(at, stored.version, stored.generation, stored.owner, event, step, detail)
        return [self._record(stored, expected_version), self._row(stored.name, entry)]

    def _record(self, stored: MigrationRecord, expected_version: int) -> TransactWriteItemTypeDef:
        body: dict[str, AttributeValueTypeDef] = {
            **_key(stored.name, _RECORD),
            "version": {"N": str(stored.version)},
            "body": {"S": encode(stored)},
        }
        if expected_version == 0:
            return {
                "Put": {
                    "TableName": self._table,
                    "Item": body,
                    "ConditionExpression": "attribute_not_exists(migration)",
                }
            }
        return {
            "Put": {
                "TableName": self._table,
                "Item": body,
                "ConditionExpression": "version = :expected",
                "ExpressionAttributeValues": {":expected": {"N": str(expected_version)}},
            }
        }

    def _row(self, name: str, entry: JournalEntry) -> TransactWriteItemTypeDef:
        """A journal row, which is never written over."""
        item: dict[str, AttributeValueTypeDef] = {
            **_key(name, f"{_JOURNAL}{entry.version:0{_DIGITS}}"),
            "at": {"S": entry.at.isoformat()},
            "version": {"N": str(entry.version)},
            "generation": {"N": str(entry.generation)},
            "owner": {"S": entry.owner},
            "event": {"S": entry.event},
            "step": {"S": entry.step or ""},
            "detail": {"S": entry.detail},
        }
        condition = "attribute_not_exists(migration)"
        return {"Put": {"TableName": self._table, "Item": item, "ConditionExpression": condition}}


def _key(name: str, item: str) -> dict[str, AttributeValueTypeDef]:
    return {"migration": {"S": name}, "item": {"S": item}}


def _entry(item: dict[str, AttributeValueTypeDef]) -> JournalEntry:
    step = item["step"]["S"]
    return JournalEntry(
        at=datetime.fromisoformat(item["at"]["S"]),
        version=int(item["version"]["N"]),
        generation=int(item["generation"]["N"]),
        owner=item["owner"]["S"],
        event=item["event"]["S"],
        step=Step(step) if step else None,
        detail=item["detail"]["S"],
    )
