"""What goes wrong between Daybreak and Route 53: records that people changed, what AWS answered, and what comes
of it. What every router promises is in tests/contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_zone import AURORA_READER, SETTINGS, ZONE, add_zone, make_zone, put, weighted, zone_id
from botocore.stub import ANY, Stubber
from moto import mock_aws

from daybreak.config import load_settings
from daybreak.config.aws import Routing
from daybreak.errors import ConfigError, DaybreakError, PermanentError, StateConflict, TransientError
from daybreak.model import RoutingStatus, Side
from daybreak.traffic import route53, zone
from daybreak.traffic.route53 import Route53Router
from daybreak.wiring import build

if TYPE_CHECKING:
    from types_boto3_route53 import Route53Client

WRITER, READER = SETTINGS.writer_name, SETTINGS.reader_name
_KNOWN = SETTINGS.model_copy(update={"zone_id": "Z0123"})
# As the service answered (names shortened).
_DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/controller/daybreak is not authorized to perform:"
    " route53:ChangeResourceRecordSets on resource: arn:aws:route53:::hostedzone/Z0123 because no identity-based"
    " policy allows the route53:ChangeResourceRecordSets action"
)
_BUSY = (
    "The request was rejected because Route 53 was still processing a prior request. Wait a few seconds and try again."
)
_NO_ZONE = "No hosted zone found with ID: Z0123"
_TYPE_CLASH = "[RRSet of type CNAME with DNS name db-rw.payments.internal. is not permitted as it conflicts]"


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route53, "_KEPT_SECONDS", -1.0)


@pytest.fixture
def client() -> Iterator[Route53Client]:
    with mock_aws():
        yield make_zone()


@pytest.fixture
def router(client: Route53Client) -> Route53Router:
    return _router(client)


def _router(
    client: Route53Client, settings: Routing = SETTINGS, check: Callable[[], None] = lambda: None
) -> Route53Router:
    return Route53Router(client, settings, check)


def _records(client: Route53Client, name: str) -> list[Any]:
    found = client.list_resource_record_sets(HostedZoneId=zone_id(client))["ResourceRecordSets"]
    return [record for record in found if record["Name"] == f"{name}."]


def _remove(client: Route53Client, *records: Any) -> None:
    changes = [{"Action": "DELETE", "ResourceRecordSet": record} for record in records]
    client.change_resource_record_sets(HostedZoneId=zone_id(client), ChangeBatch={"Changes": changes})  # type: ignore[typeddict-item]


def _batches(client: Route53Client) -> list[list[str]]:
    """The actions of every batch that is sent from now on."""
    seen: list[list[str]] = []

    def note(params: dict[str, Any], **_: object) -> None:
        seen.append([change["Action"] for change in params["ChangeBatch"]["Changes"]])

    client.meta.events.register("provide-client-params.route53.ChangeResourceRecordSets", note)
    return seen


# --- records that are not as they were made


def _gone(client: Route53Client, name: str) -> str:
    _remove(client, *_records(client, name))
    return f"{name} does not exist."


def _half(client: Route53Client, name: str) -> str:
    _remove(client, *(record for record in _records(client, name) if record["SetIdentifier"] == "target"))
    return "the record target is missing"


def _third(client: Route53Client, name: str) -> str:
    put(client, zone_id(client), weighted(name, "blue", "elsewhere.example.net", 0))
    return "the CNAME record blue is not Daybreak's"


def _simple(client: Route53Client, name: str) -> str:
    _remove(client, *_records(client, name))
    put(
        client,
        zone_id(client),
        {"Name": name, "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": SETTINGS.source_name}]},
    )
    return "the CNAME record without a set identifier is not Daybreak's"


def _addresses(client: Route53Client, name: str) -> str:
    _remove(client, *_records(client, name))
    for side, weight in ((Side.SOURCE, 100), (Side.TARGET, 0)):
        put(client, zone_id(client), {**weighted(name, side, "192.0.2.7", weight), "Type": "A"})
    return "the A record source is not Daybreak's"


def _elsewhere(client: Route53Client, name: str) -> str:
    put(client, zone_id(client), weighted(name, Side.SOURCE, "elsewhere.example.net", 100))
    return "the CNAME record source leads to elsewhere.example.net"


def _alias(client: Route53Client, name: str) -> str:
    _remove(client, *_records(client, name))
    for side, weight in ((Side.SOURCE, 100), (Side.TARGET, 0)):
        alias = {"HostedZoneId": zone_id(client), "DNSName": SETTINGS.source_name, "EvaluateTargetHealth": False}
        record = {"Name": name, "Type": "CNAME", "SetIdentifier": side, "Weight": weight, "AliasTarget": alias}
        put(client, zone_id(client), record)  # type: ignore[arg-type]
    return "the CNAME record source has AliasTarget"


def _split(client: Route53Client, name: str) -> str:
    put(client, zone_id(client), weighted(name, Side.SOURCE, SETTINGS.source_name, 255))
    return "has the weights 255 (source) and 0 (target), which are not together 100."


_HAND_MADE = [_gone, _half, _third, _simple, _addresses, _elsewhere, _alias]


@pytest.mark.parametrize("spoil", [*_HAND_MADE, _split])
def test_a_writing_name_that_is_not_as_it_was_made_is_a_problem(
    router: Route53Router, client: Route53Client, spoil: Callable[[Route53Client, str], str]
) -> None:
    problem = spoil(client, WRITER)
    status = router.observe()
    assert (status.writer, status.read_weight) == (None, 0)
    assert problem in status.problem
    with pytest.raises(PermanentError) as raised:
        router.clean_up()
    assert problem in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("spoil", _HAND_MADE)
def test_what_somebody_else_made_is_left_alone(
    router: Route53Router, client: Route53Client, spoil: Callable[[Route53Client, str], str]
) -> None:
    problem = spoil(client, WRITER)
    before = _records(client, WRITER)
    for act in (lambda: router.point_writer(Side.TARGET), router.lower_ttl, router.clean_up):
        with pytest.raises(PermanentError) as raised:
            act()
        assert problem in raised.value.message
    assert _records(client, WRITER) == before


@pytest.mark.parametrize("spoil", [*_HAND_MADE, _split])
def test_a_reading_name_that_is_not_as_it_was_made_keeps_no_writer_from_moving(
    router: Route53Router, client: Route53Client, spoil: Callable[[Route53Client, str], str]
) -> None:
    problem = spoil(client, READER)
    assert problem in router.observe().problem
    if spoil is not _split:
        with pytest.raises(PermanentError) as raised:
            router.shift_reads(40)
        assert problem in raised.value.message
    router.point_writer(Side.TARGET)
    status = router.observe()
    assert status.writer is Side.TARGET
    assert problem in status.problem


def test_readers_of_the_target_must_not_end_at_the_source(router: Route53Router, client: Route53Client) -> None:
    put(client, zone_id(client), weighted(READER, Side.TARGET, SETTINGS.source_name, 0))
    assert "both records lead to db-source.payments.internal" in router.observe().problem
    put(client, zone_id(client), weighted(WRITER, Side.TARGET, AURORA_READER, 0))
    assert f"the CNAME record target leads to {AURORA_READER}" in router.observe().problem


def test_divided_writers_are_a_problem_and_united_by_the_next_move(
    router: Route53Router, client: Route53Client
) -> None:
    for side, weight in ((Side.SOURCE, 60), (Side.TARGET, 40)):
        name = SETTINGS.source_name if side is Side.SOURCE else SETTINGS.target_name
        put(client, zone_id(client), weighted(WRITER, side, name, weight))
    problem = "db-rw.payments.internal sends 40% of writers to the target"
    status = router.observe()
    assert status.writer is None
    assert problem in status.problem
    with pytest.raises(PermanentError, match=problem):
        router.clean_up()
    router.point_writer(Side.TARGET)
    assert router.observe() == RoutingStatus(Side.TARGET, 0, ttl_seconds=60)


@pytest.mark.parametrize("weights", [(255, 0), (100, 100), (0, 0), (80, 40)])
def test_weights_that_are_no_percentages_are_a_problem_and_mended_by_the_next_move(
    router: Route53Router, client: Route53Client, weights: tuple[int, int]
) -> None:
    put(client, zone_id(client), weighted(READER, Side.SOURCE, SETTINGS.source_name, weights[0]))
    put(client, zone_id(client), weighted(READER, Side.TARGET, AURORA_READER, weights[1]))
    assert "which are not together 100" in router.observe().problem
    router.shift_reads(20)
    assert router.observe() == RoutingStatus(Side.SOURCE, 20, ttl_seconds=60)


# --- what a change is


def test_both_weights_change_in_one_batch_and_nothing_else_does(router: Route53Router, client: Route53Client) -> None:
    health_check = {**weighted(WRITER, Side.TARGET, SETTINGS.target_name, 0), "HealthCheckId": "abc"}
    put(client, zone_id(client), health_check)  # type: ignore[arg-type]
    before, batches = _records(client, WRITER), _batches(client)
    router.point_writer(Side.TARGET)
    assert batches == [["DELETE", "DELETE", "CREATE", "CREATE"]]
    weights = {"source": 0, "target": 100}
    assert _records(client, WRITER) == [{**record, "Weight": weights[record["SetIdentifier"]]} for record in before]


def test_what_is_there_already_is_not_sent_again(router: Route53Router, client: Route53Client) -> None:
    batches = _batches(client)
    for _ in range(2):
        router.shift_reads(40)
        router.point_writer(Side.TARGET)
        router.lower_ttl()
    assert len(batches) == 3
    router.clean_up()
    router.clean_up()
    assert len(batches) == 4


def test_what_an_earlier_process_sent_is_awaited_by_sending_it_again(client: Route53Client) -> None:
    _router(client).point_writer(Side.TARGET)
    before, batches = _records(client, WRITER), _batches(client)
    router = _router(client)
    for _ in range(2):
        router.point_writer(Side.TARGET)
    assert len(batches) == 1
    assert _records(client, WRITER) == before


def test_an_older_generation_changes_nothing(client: Route53Client) -> None:
    def stale() -> None:
        raise StateConflict("A newer Daybreak took charge.")

    router, batches = _router(client, check=stale), _batches(client)
    moves = (lambda: router.point_writer(Side.TARGET), lambda: router.shift_reads(40), router.lower_ttl)
    for move in moves:
        with pytest.raises(StateConflict):
            move()
    assert batches == []


def test_a_controller_that_was_stopped_before_its_change_overwrites_nothing(client: Route53Client) -> None:
    # Between its check and its request another one moves the name.
    router = _router(client, check=lambda: _router(client).point_writer(Side.TARGET))
    with pytest.raises(TransientError, match="somebody else changed it at the same moment"):
        router.lower_ttl()
    assert router.observe() == RoutingStatus(Side.TARGET, 0, ttl_seconds=60)


def test_a_ttl_that_is_longer_than_configured_is_waited_out(client: Route53Client) -> None:
    router = _router(client, SETTINGS.model_copy(update={"ttl_seconds": 3}))
    assert router.lower_ttl() == 60
    assert router.observe().ttl_seconds == 3
    assert router.lower_ttl() == 3


def test_route_53_is_not_asked_more_often_than_it_bears(
    router: Route53Router, client: Route53Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route53, "_KEPT_SECONDS", 3600.0)
    asked: list[object] = []
    client.meta.events.register("before-call.route53.ListResourceRecordSets", lambda **_: asked.append(1))
    assert {router.observe() for _ in range(50)} == {RoutingStatus(Side.SOURCE, 0, ttl_seconds=60)}
    assert len(asked) == 1
    router.shift_reads(40)
    assert router.observe().read_weight == 40


# --- the zone


def test_the_private_zone_is_found_by_its_name(client: Route53Client, router: Route53Router) -> None:
    add_zone(client, private=False)
    assert router.observe() == RoutingStatus(Side.SOURCE, 0, ttl_seconds=60)


def test_a_zone_that_is_not_there_says_what_makes_it(client: Route53Client) -> None:
    router = _router(client, Routing(zone_name="other.internal"))
    assert router.observe().problem == "There are 0 private hosted zones named other.internal in this account."
    with pytest.raises(PermanentError, match="daybreak infra deploy"):
        router.shift_reads(40)


def test_two_zones_of_one_name_are_told_apart_by_their_id(client: Route53Client) -> None:
    first = zone_id(client)
    add_zone(client)
    with pytest.raises(PermanentError, match=r"(?s)2 private hosted zones.*aws\.routing\.zone_id"):
        _router(client).shift_reads(40)
    router = _router(client, SETTINGS.model_copy(update={"zone_id": first}))
    router.shift_reads(40)
    assert router.observe().read_weight == 40


# --- what AWS answered


def _record(name: str, side: Side, weight: int, ttl_seconds: int = 60) -> Any:
    value = f"db-{side}.{ZONE}"
    return {**weighted(f"{name}.", side, value, weight), "TTL": ttl_seconds}


def _pair(name: str, source: int) -> list[Any]:
    return [_record(name, Side.SOURCE, source), _record(name, Side.TARGET, 100 - source)]


def _listed(stub: Stubber, *pages: list[Any]) -> None:
    """The answers to one listing."""
    for number, page in enumerate(pages):
        response: dict[str, Any] = {"ResourceRecordSets": page, "IsTruncated": False, "MaxItems": "300"}
        if number < len(pages) - 1:
            ahead = pages[number + 1][0]
            response |= {"IsTruncated": True, "NextRecordName": ahead["Name"], "NextRecordType": ahead["Type"]}
        stub.add_response("list_resource_record_sets", response)


def _change(status: str) -> dict[str, Any]:
    info = {"Id": "/change/C2682N5HXP0BZ4", "Status": status, "SubmittedAt": "2026-02-03T04:05:06Z"}
    return {"ChangeInfo": info}


@pytest.fixture
def stub(client: Route53Client) -> Iterator[Stubber]:
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_records_on_several_pages_are_all_seen(client: Route53Client, stub: Stubber) -> None:
    others = [_record(f"db-rp-{number}.{ZONE}", Side.SOURCE, 1) for number in range(3)]
    _listed(stub, _pair(READER, 60)[:1], [*_pair(READER, 60)[1:], *others], [*_pair(WRITER, 0), *others])
    assert _router(client, _KNOWN).observe() == RoutingStatus(Side.TARGET, 40, ttl_seconds=60)


def test_listing_ends_behind_the_last_name(client: Route53Client, stub: Stubber) -> None:
    later = [_record(f"zz.{ZONE}", Side.SOURCE, 1)]
    response = {"ResourceRecordSets": [*_pair(READER, 100), *_pair(WRITER, 100), *later], "IsTruncated": True}
    ahead = {"NextRecordName": f"zzz.{ZONE}.", "NextRecordType": "A", "MaxItems": "300"}
    stub.add_response(
        "list_resource_record_sets", {**response, **ahead}, {"HostedZoneId": "Z0123", "StartRecordName": READER}
    )
    assert _router(client, _KNOWN).observe() == RoutingStatus(Side.SOURCE, 0, ttl_seconds=60)


@pytest.mark.parametrize(
    ("code", "text", "status", "kind", "says"),
    [
        ("Throttling", "Rate exceeded", 400, TransientError, "Rate exceeded"),
        ("ServiceUnavailable", "Try later", 503, TransientError, "Try later"),
        ("NoSuchHostedZone", _NO_ZONE, 404, PermanentError, "daybreak infra deploy"),
        ("AccessDenied", _DENIED.replace("Change", "List"), 403, PermanentError, "Allow route53:List"),
    ],
)
def test_a_failed_listing_is_a_problem_and_moves_nothing(
    client: Route53Client, stub: Stubber, code: str, text: str, status: int, kind: type[DaybreakError], says: str
) -> None:
    router = _router(client, _KNOWN)
    for _ in range(2):
        stub.add_client_error("list_resource_record_sets", code, text, http_status_code=status)
    problem = router.observe().problem
    assert problem.startswith("listing the records of payments.internal: ")
    with pytest.raises(kind) as raised:
        router.shift_reads(40)
    assert raised.value.message == problem
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("code", "text", "kind", "says"),
    [
        ("PriorRequestNotComplete", _BUSY, TransientError, "still processing a prior request"),
        ("Throttling", "Rate exceeded", TransientError, "Rate exceeded"),
        (
            "AccessDenied",
            _DENIED,
            PermanentError,
            "Allow route53:ChangeResourceRecordSets on arn:aws:route53:::hostedzone/Z0123",
        ),
    ],
)
def test_a_refused_change_names_itself_and_what_to_do(
    client: Route53Client, stub: Stubber, code: str, text: str, kind: type[DaybreakError], says: str
) -> None:
    _listed(stub, _pair(WRITER, 100))
    stub.add_client_error("change_resource_record_sets", code, text, http_status_code=400)
    with pytest.raises(kind) as raised:
        _router(client, _KNOWN).point_writer(Side.TARGET)
    assert raised.value.message.startswith("changing db-rw.payments.internal: ")
    assert says in str(raised.value)


@pytest.mark.parametrize("moved", [False, True])
def test_an_invalid_batch_is_tried_again_only_where_the_records_have_moved(
    client: Route53Client, stub: Stubber, moved: bool
) -> None:
    _listed(stub, _pair(WRITER, 100))
    stub.add_client_error("change_resource_record_sets", "InvalidChangeBatch", _TYPE_CLASH, http_status_code=400)
    _listed(stub, _pair(WRITER, 0 if moved else 100))
    with pytest.raises(TransientError if moved else PermanentError) as raised:
        _router(client, _KNOWN).point_writer(Side.TARGET)
    assert ("at the same moment" in raised.value.message) is moved
    assert (_TYPE_CLASH in raised.value.message) is not moved


def test_a_change_is_awaited_and_one_that_never_arrives_says_so(
    client: Route53Client, stub: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zone, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(zone, "_IN_SYNC_SECONDS", 0)
    router, batch = _router(client, _KNOWN), {"HostedZoneId": "Z0123", "ChangeBatch": ANY}
    _listed(stub, _pair(WRITER, 100))
    stub.add_response("change_resource_record_sets", _change("PENDING"), batch)
    stub.add_response("get_change", _change("PENDING"), {"Id": "C2682N5HXP0BZ4"})
    with pytest.raises(TransientError) as raised:
        router.point_writer(Side.TARGET)
    assert "not all of Route 53's name servers have it after 0 s" in raised.value.message
    assert "aws route53 get-change --id C2682N5HXP0BZ4" in raised.value.hint
    # The name servers may take their time: the same change is waited for, and no other is sent.
    monkeypatch.setattr(zone, "_IN_SYNC_SECONDS", 60)
    _listed(stub, _pair(WRITER, 0))
    for status in ("PENDING", "INSYNC"):
        stub.add_response("get_change", _change(status))
    router.point_writer(Side.TARGET)


def test_what_breaks_while_waiting_does_not_lose_the_change(client: Route53Client, stub: Stubber) -> None:
    router = _router(client, _KNOWN)
    _listed(stub, _pair(READER, 100))
    stub.add_response("change_resource_record_sets", _change("PENDING"))
    stub.add_client_error("get_change", "Throttling", "Rate exceeded", http_status_code=400)
    with pytest.raises(TransientError, match="waiting for change C2682N5HXP0BZ4 of db-ro"):
        router.shift_reads(40)
    _listed(stub, _pair(READER, 60))
    stub.add_response("get_change", _change("INSYNC"))
    router.shift_reads(40)


# --- how it is chosen

_FILE = """
name = "shop"
[source]
dsn = "postgresql://daybreak@old/shop"
[target]
dsn = "postgresql://daybreak@new/shop"
[traffic]
router = "route53"
"""
_AWS = """
[aws]
environment = "test"
region = "eu-central-1"
[aws.network]
vpc_cidr = "10.60.0.0/16"
[aws.aurora]
engine_version = "17.5"
[aws.routing]
zone_name = "payments.internal"
"""


def test_it_is_chosen_by_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "daybreak.toml"
    file.write_text(_FILE)
    with pytest.raises(ConfigError, match=r"route53, but the section \[aws\] is missing"):
        load_settings(file)
    file.write_text(_FILE + _AWS)
    with build(load_settings(file)) as runtime:
        assert isinstance(runtime.router, Route53Router)
