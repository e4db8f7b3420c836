"""What goes wrong between Daybreak and DynamoDB or SSM: what AWS answered then, and what comes of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import boto3
import pytest
from aws_tables import fresh_table
from botocore.stub import Stubber
from moto import mock_aws
from tenacity import stop_after_attempt

from daybreak.errors import PermanentError, StateConflict, TransientError
from daybreak.lab.aws import EmulatedAws
from daybreak.memory import MemoryStateStore
from daybreak.model import Intent, MigrationRecord, Phase, Side, Verb
from daybreak.store.checkpoint import Checkpoint, PublishingStore
from daybreak.store.dynamodb import DynamoStateStore

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_ssm import SSMClient

_AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
_LATER = datetime(2026, 2, 3, 5, 5, 6, tzinfo=UTC)
_RECORD = MigrationRecord("shop", phase=Phase.STREAMING, read_weight=40, generation=3)
_PARAMETER = "/migration/test/state"
# As the service answered (the role's name shortened).
_DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/controller/daybreak is not authorized to perform:"
    " dynamodb:PutItem on resource: arn:aws:dynamodb:eu-central-1:123456789012:table/shop because no"
    " identity-based policy allows the dynamodb:PutItem action"
)


@dataclass(frozen=True)
class Table:
    """An empty table."""

    client: DynamoDBClient
    name: str

    @property
    def store(self) -> DynamoStateStore:
        return DynamoStateStore(self.client, self.name)


@pytest.fixture
def table(emulated_account: EmulatedAws) -> Iterator[Table]:
    with fresh_table(emulated_account) as (client, name):
        yield Table(client, name)


@pytest.fixture
def ssm() -> Iterator[SSMClient]:
    with mock_aws():
        made = boto3.client("ssm", region_name="eu-central-1")
        key = boto3.client("kms", region_name="eu-central-1").create_key()["KeyMetadata"]["KeyId"]
        made.put_parameter(Name=_PARAMETER, Value="{}", Type="SecureString", KeyId=key)
        yield made


def _swap(store: DynamoStateStore, version: int) -> MigrationRecord:
    return store.compare_and_swap(_RECORD, version, "moved", None, _AT, "")


def _cancelled(stub: Stubber, *reasons: str) -> None:
    stub.add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(reasons)}]",
        modeled_fields={"CancellationReasons": [{"Code": reason} for reason in reasons]},
    )


def test_a_race_is_run_again_and_the_loser_is_told(table: Table) -> None:
    with Stubber(table.client) as stub:
        _cancelled(stub, "TransactionConflict", "None")
        stub.add_response("transact_write_items", {})
        assert _swap(table.store, 4).version == 5
        _cancelled(stub, "TransactionConflict", "None")
        _cancelled(stub, "ConditionalCheckFailed", "None")
        stub.add_response("get_item", {})
        with pytest.raises(StateConflict, match="version 0, not 4"):
            _swap(table.store, 4)
        stub.assert_no_pending_responses()


def test_a_refusal_names_action_and_resource(table: Table) -> None:
    with Stubber(table.client) as stub:
        stub.add_client_error("transact_write_items", "AccessDeniedException", _DENIED, http_status_code=400)
        with pytest.raises(PermanentError) as raised:
            _swap(table.store, 0)
    assert "refuses dynamodb:PutItem on arn:aws:dynamodb:eu-central-1:123456789012:table/shop" in raised.value.message
    assert raised.value.hint.startswith("Allow dynamodb:PutItem")


def test_throttling_is_worth_trying_again(table: Table) -> None:
    with Stubber(table.client) as stub:
        stub.add_client_error("get_item", "ProvisionedThroughputExceededException", "Rate exceeded")
        with pytest.raises(TransientError, match=f"reading table {table.name}"):
            table.store.load("shop")


@pytest.mark.parametrize("reason", ["ThrottlingError", "ProvisionedThroughputExceeded", "TransactionConflict"])
def test_a_busy_table_is_tried_again_and_stays_worth_it(
    table: Table, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    retrying = DynamoStateStore._lost.retry
    monkeypatch.setattr(retrying, "stop", stop_after_attempt(2))
    with Stubber(table.client) as stub:
        for _ in range(2):
            _cancelled(stub, reason, "None")
        with pytest.raises(TransientError, match=rf"writing table {table.name}: .*{reason}"):
            _swap(table.store, 4)
        stub.assert_no_pending_responses()


def test_a_table_that_is_not_there_says_what_makes_it(table: Table) -> None:
    with pytest.raises(PermanentError) as raised:
        DynamoStateStore(table.client, "elsewhere").load("shop")
    assert "daybreak infra deploy" in raised.value.hint


def test_a_journal_row_is_never_written_over(table: Table) -> None:
    """Where another process wrote the next row as well, after this one had asked for the last."""
    with Stubber(table.client) as stub:
        _cancelled(stub, "None", "ConditionalCheckFailed")
        stub.add_response("query", {"Items": []})
        _cancelled(stub, "ConditionalCheckFailed", "ConditionalCheckFailed")
        stub.add_response("get_item", {})
        with pytest.raises(StateConflict, match="version 0, not 4"):
            _swap(table.store, 4)
        stub.assert_no_pending_responses()


def test_a_long_journal_comes_in_pages_and_whole(table: Table) -> None:
    store = table.store
    detail = "x" * 100_000  # a page holds 1 MB (DynamoDB developer guide, Query)
    for version in range(12):
        store.compare_and_swap(_RECORD, version, "moved", None, _AT, detail)
    assert [entry.version for entry in store.journal("shop")] == list(range(1, 13))


def _text(ssm: SSMClient) -> str:
    return ssm.get_parameter(Name=_PARAMETER, WithDecryption=True)["Parameter"].get("Value", "")


def _published(ssm: SSMClient) -> dict[str, object]:
    found: dict[str, object] = json.loads(_text(ssm))
    return found


def _publishing(ssm: SSMClient, parameter: str = _PARAMETER) -> PublishingStore:
    return PublishingStore(
        MemoryStateStore(), ssm, parameter, lambda: "alias/aws/ssm", lambda: 0.25, partial(next, count(0.0, 3.0))
    )


def test_every_change_is_published(ssm: SSMClient) -> None:
    store = _publishing(ssm)
    stored = store.compare_and_swap(_RECORD, 0, "moved", None, _AT, "")
    assert _published(ssm) == {
        "status": "streaming",
        "phase": "streaming",
        "last_updated": "2026-02-03T04:05:06Z",
        "onprem_weight": 60,
        "aurora_weight": 40,
        "primary": "source",
        "lag_seconds": 0.25,
        "version": 1,
    }
    asked = replace(stored, intent=Intent(Verb.CUTOVER, _AT), primary=Side.TARGET)
    stored = store.compare_and_swap(asked, 1, "asked", None, _AT, "")
    assert _published(ssm)["status"] == "cutover under way"
    store.compare_and_swap(replace(stored, last_error="It was refused."), 2, "refused", None, _AT, "")
    assert _published(ssm)["status"] == "It was refused."
    assert ssm.get_parameter(Name=_PARAMETER)["Parameter"].get("Type") == "SecureString"


def test_a_switchover_does_not_wait_for_its_publication(ssm: SSMClient) -> None:
    store = PublishingStore(MemoryStateStore(), ssm, _PARAMETER, lambda: "alias/aws/ssm", lambda: None, lambda: 1.0)
    for version in range(5):
        store.compare_and_swap(_RECORD, version, "moved", None, _AT, "")
    assert _published(ssm)["version"] == 1
    store.flush()
    assert _published(ssm)["version"] == 5
    store.flush()


def test_a_long_error_fits(ssm: SSMClient) -> None:
    _publishing(ssm).compare_and_swap(replace(_RECORD, last_error="x" * 9000), 0, "refused", None, _AT, "")
    assert len(str(_published(ssm)["status"])) == 500


def _failing(ssm: SSMClient, *operations: str) -> Stubber:
    """SSM that refuses these, one after the other."""
    stub = Stubber(ssm)
    for operation in operations:
        stub.add_client_error(operation, "ThrottlingException", "Rate exceeded")
    return stub


def test_what_cannot_be_published_harms_nothing_and_is_mended_by_the_next(
    ssm: SSMClient, caplog: pytest.LogCaptureFixture
) -> None:
    store = _publishing(ssm)
    with _failing(ssm, "put_parameter"), caplog.at_level(logging.WARNING):
        assert store.compare_and_swap(_RECORD, 0, "moved", None, _AT, "").version == 1
    assert "not published" in caplog.text
    assert store.load("shop") == replace(_RECORD, version=1)
    assert _published(ssm) == {}
    store.compare_and_swap(replace(_RECORD, version=1), 1, "moved", None, _AT, "")
    assert _published(ssm)["version"] == 2
    assert len(store.journal("shop")) == 2


def test_what_could_not_be_published_is_left_for_the_end(ssm: SSMClient) -> None:
    store = _publishing(ssm)
    with _failing(ssm, "put_parameter", "put_parameter"):
        store.compare_and_swap(_RECORD, 0, "moved", None, _AT, "")
        store.flush()
    store.flush()
    assert _published(ssm)["version"] == 1


def test_a_look_mends_what_another_process_could_not_publish(ssm: SSMClient) -> None:
    before = _publishing(ssm)
    with _failing(ssm, "put_parameter"):
        before.compare_and_swap(_RECORD, 0, "moved", None, _AT, "")
    PublishingStore(before, ssm, _PARAMETER, lambda: "alias/aws/ssm", lambda: 0.25).refresh("shop", _LATER)
    assert (_published(ssm)["version"], _published(ssm)["last_updated"]) == (1, "2026-02-03T05:05:06Z")


@pytest.mark.parametrize(
    "text", ['{"version": 9}', "not JSON", "edited", "older"], ids=["part", "no json", "one field", "a late, older one"]
)
def test_a_look_mends_what_somebody_edited_or_what_came_late(ssm: SSMClient, text: str) -> None:
    store = _publishing(ssm)
    stored = store.compare_and_swap(_RECORD, 0, "moved", None, _AT, "")
    published = _text(ssm)
    edited = {"edited": published.replace('"aurora_weight":40', '"aurora_weight":90'), "older": published}
    if text == "older":
        store.compare_and_swap(replace(stored, read_weight=50), 1, "moved", None, _AT, "")
    ssm.put_parameter(Name=_PARAMETER, Value=edited.get(text, text), Type="SecureString", Overwrite=True)
    store.refresh("shop", _LATER)
    record = store.load("shop")
    assert record is not None
    assert json.loads(_text(ssm)) == json.loads(Checkpoint.of(record, _LATER, 0.25).model_dump_json())


def test_a_parameter_that_somebody_deleted_is_made_again(ssm: SSMClient) -> None:
    store = _publishing(ssm)
    store.compare_and_swap(_RECORD, 0, "moved", None, _AT, "")
    ssm.delete_parameter(Name=_PARAMETER)
    store.refresh("shop", _LATER)
    assert _published(ssm)["version"] == 1


def test_a_look_writes_nothing_where_all_is_published(ssm: SSMClient) -> None:
    lag = iter([0.25, 0.9, 3.0, 3.0, None, None])
    store = PublishingStore(MemoryStateStore(), ssm, _PARAMETER, lambda: "alias/aws/ssm", partial(next, lag))
    store.refresh("shop", _AT)  # there is no record
    store.compare_and_swap(_RECORD, 0, "moved", None, _AT, "")
    published = _text(ssm)
    store.refresh("shop", _LATER)
    assert _text(ssm) == published
    for lag_seconds in (3.0, None):  # which is news
        store.refresh("shop", _LATER)
        assert _published(ssm)["lag_seconds"] == lag_seconds


@pytest.mark.parametrize("operations", [["get_parameter"], ["put_parameter"]])
def test_a_look_that_cannot_publish_harms_nothing(
    ssm: SSMClient, caplog: pytest.LogCaptureFixture, operations: list[str]
) -> None:
    store = _publishing(ssm)
    store.compare_and_swap(_RECORD, 0, "moved", None, _AT, "")
    current = {"Parameter": {"Value": "{}"}}
    with Stubber(ssm) as stub, caplog.at_level(logging.WARNING):
        if operations == ["put_parameter"]:
            stub.add_response("get_parameter", current)
        stub.add_client_error(operations[0], "ThrottlingException", "Rate exceeded")
        store.refresh("shop", _LATER)
    assert "not published" in caplog.text
    ssm.put_parameter(Name=_PARAMETER, Value="{}", Type="SecureString", Overwrite=True)
    store.refresh("shop", _LATER)
    assert _published(ssm)["version"] == 1
