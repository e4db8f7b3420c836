"""The lab's name server against its emulated Route 53, and clients that resolve by it."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import psycopg
import pytest
from aws_zone import AURORA, AURORA_READER, SETTINGS, ZONE, make_zone, put, weighted, zone_id
from botocore.exceptions import EndpointConnectionError
from dns.rdatatype import RdataType
from moto import mock_aws
from psycopg import conninfo

from daybreak.lab import payments
from daybreak.lab.dns import Host, NameServer
from daybreak.lab.pair import APPLICATION, Pair
from daybreak.lab.resolving import Resolver, open_pool, tolerance
from daybreak.lab.ways import ByName
from daybreak.lab.workload import Workload
from daybreak.model import SWITCH_TTL_SECONDS, Side
from daybreak.traffic.route53 import Route53Router

if TYPE_CHECKING:
    from types_boto3_route53 import Route53Client

WRITER, READER = SETTINGS.writer_name, SETTINGS.reader_name
_HOSTS = {
    SETTINGS.source_name: Host(Side.SOURCE, "127.0.0.1", 5001),
    AURORA: Host(Side.TARGET, "127.0.0.1", 5002),
    AURORA_READER: Host(Side.TARGET, "127.0.0.1", 5002),
}
_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
_PATIENCE_SECONDS = 30.0
# Longer than the name server keeps what the API said.
_FRESH_SECONDS = 0.3


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def client() -> Iterator[Route53Client]:
    with mock_aws():
        yield make_zone()


@pytest.fixture
def server(client: Route53Client) -> Iterator[NameServer]:
    with NameServer(client, ZONE, _HOSTS) as server:
        yield server


@pytest.fixture
def router(client: Route53Client) -> Route53Router:
    return Route53Router(client, SETTINGS, lambda: None)


def _ask(server: NameServer, name: str, kind: str = "A", *, tcp: bool = False) -> dns.message.Message:
    ask = dns.query.tcp if tcp else dns.query.udp
    return ask(dns.message.make_query(name, kind), server.address, port=server.port, timeout=_PATIENCE_SECONDS)


def _lines(response: dns.message.Message) -> list[str]:
    return [line for rrset in response.answer for line in rrset.to_text().splitlines()]


def _soon_old() -> None:
    time.sleep(_FRESH_SECONDS)


# --- answers


@pytest.mark.parametrize("tcp", [False, True])
def test_a_chain_is_followed_to_its_end(server: NameServer, router: Route53Router, tcp: bool) -> None:
    response = _ask(server, WRITER, tcp=tcp)
    assert response.flags & dns.flags.AA
    assert _lines(response) == [
        f"{WRITER}. 60 IN CNAME db-source.{ZONE}.",
        f"db-source.{ZONE}. 60 IN A 127.0.0.1",
    ]
    router.point_writer(Side.TARGET)
    router.lower_ttl()
    _soon_old()
    assert _lines(_ask(server, WRITER, tcp=tcp)) == [
        f"{WRITER}. {SWITCH_TTL_SECONDS} IN CNAME db-target.{ZONE}.",
        f"db-target.{ZONE}. 60 IN CNAME {AURORA}.",
        f"{AURORA}. 5 IN A 127.0.0.1",
    ]


def test_other_questions_have_their_answers(server: NameServer, client: Route53Client) -> None:
    address = {"Name": f"six.{ZONE}", "Type": "AAAA", "TTL": 60, "ResourceRecords": [{"Value": "fd00::7"}]}
    put(client, zone_id(client), address)  # type: ignore[arg-type]
    alias = _ask(server, WRITER.upper(), "CNAME")
    assert [rrset.rdtype for rrset in alias.answer] == [RdataType.CNAME]
    assert _lines(_ask(server, f"six.{ZONE}", "AAAA")) == [f"six.{ZONE}. 60 IN AAAA fd00::7"]
    assert _lines(_ask(server, AURORA)) == [f"{AURORA}. 5 IN A 127.0.0.1"]


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        (f"nobody.{ZONE}", "A", dns.rcode.NXDOMAIN),
        (f"db-source.{ZONE}", "AAAA", dns.rcode.NOERROR),
        (ZONE, "A", dns.rcode.NOERROR),
        ("elsewhere.example.net", "A", dns.rcode.REFUSED),
    ],
)
def test_what_is_not_there_is_said_to_be_not_there(
    server: NameServer, name: str, kind: str, rcode: dns.rcode.Rcode
) -> None:
    response = _ask(server, name, kind)
    assert (response.rcode(), response.answer) == (rcode, [])
    assert [rrset.rdtype for rrset in response.authority] == [RdataType.SOA]


def test_names_that_lead_in_a_circle_end(server: NameServer, client: Route53Client) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        put(client, zone_id(client), weighted(f"{one}.{ZONE}", Side.SOURCE, f"{other}.{ZONE}", 1))
    assert _ask(server, f"a.{ZONE}").rcode() == dns.rcode.SERVFAIL


def test_an_answer_that_is_too_long_for_a_datagram_is_had_by_stream(server: NameServer, client: Route53Client) -> None:
    many = [{"Value": f"10.0.{number}.1"} for number in range(100)]
    put(client, zone_id(client), {"Name": f"many.{ZONE}", "Type": "A", "TTL": 1, "ResourceRecords": many})  # type: ignore[typeddict-item]
    cut = _ask(server, f"many.{ZONE}")
    assert cut.flags & dns.flags.TC
    assert len(_lines(cut)) < 100
    query = dns.message.make_query(f"many.{ZONE}", "A")
    whole, streamed = dns.query.udp_with_fallback(query, server.address, port=server.port, timeout=_PATIENCE_SECONDS)
    assert (len(_lines(whole)), streamed) == (100, True)


def test_questions_may_follow_each_other_on_one_stream(server: NameServer) -> None:
    with socket.create_connection((server.address, server.port)) as stream:
        for _ in range(3):
            query = dns.message.make_query(WRITER, "A")
            dns.query.send_tcp(stream, query)
            assert query.is_response(dns.query.receive_tcp(stream)[0])


# --- what is no question


def _raw(server: NameServer, packet: bytes) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.settimeout(0.2)
        sending.sendto(packet, (server.address, server.port))
        try:
            return sending.recv(4096)
        except TimeoutError:
            return None


def test_a_malformed_packet_gets_its_error_and_harms_nobody(
    server: NameServer, capsys: pytest.CaptureFixture[str]
) -> None:
    query = dns.message.make_query(WRITER, "A").to_wire()
    for packet in (query[:-3], query + b"junk", query[:12] + b"\xff" * 40, query[:4] + b"\x00\x02" + query[6:]):
        answer = _raw(server, packet)
        assert answer is not None
        assert (answer[:2], answer[3] & 0xF) == (query[:2], dns.rcode.FORMERR)
    response = dns.message.make_response(dns.message.make_query(WRITER, "A")).to_wire()
    for packet in (b"", b"x", query[:11], response, response[:-2]):
        assert _raw(server, packet) is None
    with socket.create_connection((server.address, server.port)) as stream:
        stream.sendall(b"\x00\x05hello")
    with socket.create_connection((server.address, server.port)) as stream:
        stream.sendall(b"\xff\xff" + query)
    assert _ask(server, WRITER).answer
    assert capsys.readouterr().err == ""


def test_noise_harms_nobody(server: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    noise = random.Random(7)
    query = bytearray(dns.message.make_query(WRITER, "A", use_edns=True).to_wire())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        for _ in range(500):
            spoiled = bytearray(query)
            for _ in range(noise.randrange(1, 6)):
                spoiled[noise.randrange(len(spoiled))] = noise.randrange(256)
            sending.sendto(bytes(spoiled[: noise.randrange(1, len(spoiled) + 1)]), (server.address, server.port))
    assert _ask(server, WRITER, tcp=True).answer
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_only_queries_are_answered(server: NameServer) -> None:
    update = dns.message.make_query(WRITER, "A")
    update.set_opcode(dns.opcode.NOTIFY)
    response = dns.query.udp(update, server.address, port=server.port, timeout=_PATIENCE_SECONDS)
    assert response.rcode() == dns.rcode.NOTIMP


# --- the API behind it


def test_a_zone_that_is_not_there_yet_is_a_failure_until_it_is() -> None:
    with mock_aws(), NameServer(boto3.client("route53", region_name="eu-central-1"), ZONE, _HOSTS) as server:
        assert _ask(server, WRITER).rcode() == dns.rcode.SERVFAIL
        make_zone()
        _soon_old()
        assert len(_ask(server, WRITER).answer) == 2


def test_while_the_api_fails_the_last_answers_stand(server: NameServer, client: Route53Client) -> None:
    before = _lines(_ask(server, WRITER))

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://route53.amazonaws.com")

    client.meta.events.register("before-call.route53", fail)
    _soon_old()
    assert _lines(_ask(server, WRITER)) == before


# --- shares


@pytest.mark.parametrize(("percent", "questions"), [(0, 200), (20, 1500), (50, 1500), (100, 200)])
def test_answers_are_shared_by_weight(server: NameServer, router: Route53Router, percent: int, questions: int) -> None:
    router.shift_reads(percent)
    clock = Clock()
    resolver = Resolver(server.address, server.port, _HOSTS, clock)
    for _ in range(questions):
        resolver.resolve(READER)
        clock.now += SETTINGS.ttl_seconds
    answers = resolver.answers(READER)
    assert sum(answers.values()) == questions
    share = answers[Side.TARGET] / questions
    if percent in (0, 100):
        assert share * 100 == percent
    assert abs(share - percent / 100) < tolerance(questions)
    assert resolver.answers(WRITER) == {Side.SOURCE: 0, Side.TARGET: 0}


def test_where_all_weights_are_0_all_are_equal(server: NameServer, client: Route53Client) -> None:
    put(client, zone_id(client), weighted(READER, Side.SOURCE, SETTINGS.source_name, 0))
    seen = {_lines(_ask(server, READER))[-1] for _ in range(100)}
    assert len(seen) == 2


# --- clients


def test_an_answer_is_kept_for_its_ttl(server: NameServer, router: Route53Router) -> None:
    clock = Clock()
    resolver = Resolver(server.address, server.port, _HOSTS, clock)
    # By way of Aurora's own name, whose TTL is the shortest of the chain.
    router.shift_reads(100)
    for wait, total in ((0.0, 1), (4.9, 1), (0.2, 2)):
        clock.now += wait
        assert resolver.resolve(READER) == _HOSTS[AURORA_READER]
        assert resolver.answers(READER)[Side.TARGET] == total


def test_a_switch_is_seen_when_the_ttl_has_run_out(server: NameServer, router: Route53Router) -> None:
    clock = Clock()
    early, late = (Resolver(server.address, server.port, _HOSTS, clock) for _ in range(2))
    assert early.resolve(WRITER).side is Side.SOURCE
    clock.now += SETTINGS.ttl_seconds - 1
    router.lower_ttl()
    _soon_old()
    assert late.resolve(WRITER).side is Side.SOURCE
    router.point_writer(Side.TARGET)
    _soon_old()
    # Who asked before the TTL was lowered and who asked after know at about the same time.
    assert (early.resolve(WRITER).side, late.resolve(WRITER).side) == (Side.SOURCE, Side.SOURCE)
    clock.now += 1
    assert (early.resolve(WRITER).side, late.resolve(WRITER).side) == (Side.TARGET, Side.SOURCE)
    clock.now += SWITCH_TTL_SECONDS - 1
    assert late.resolve(WRITER).side is Side.TARGET
    assert late.answers(WRITER) == {Side.SOURCE: 1, Side.TARGET: 1}


def test_a_name_that_nobody_knows_is_an_error_of_the_connection(server: NameServer) -> None:
    resolver = Resolver(server.address, server.port, {}, Clock())
    with pytest.raises(psycopg.OperationalError, match=r'could not translate host name "nobody\.payments\.internal"'):
        resolver.resolve(f"nobody.{ZONE}")
    with pytest.raises(psycopg.OperationalError, match="where no server listens"):
        resolver.resolve(WRITER)


@pytest.fixture
def hosts(pair: Pair) -> dict[str, Host]:
    """The names of the zone and where they lead on the running servers."""
    ports = {side: pair.cluster(side).port for side in Side}
    return {name: Host(host.side, host.address, ports[host.side]) for name, host in _HOSTS.items()}


def _parameters(pair: Pair) -> dict[str, str]:
    return {key: str(value) for key, value in conninfo.conninfo_to_dict(pair.dsn(Side.SOURCE, APPLICATION)).items()}


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.02)


def test_a_pool_follows_as_its_connections_come_of_age(
    client: Route53Client, router: Route53Router, pair: Pair, hosts: dict[str, Host]
) -> None:
    with NameServer(client, ZONE, hosts) as server:
        clock = Clock()
        resolver = Resolver(server.address, server.port, hosts, clock)
        with open_pool(resolver, WRITER, _parameters(pair), size=2, max_lifetime_seconds=0.5) as pool:

            def port() -> int:
                with pool.connection() as connection:
                    row = connection.execute("SELECT inet_server_port()").fetchone()
                assert row is not None
                return int(str(row[0]))

            assert port() == pair.source.port
            router.lower_ttl()
            router.point_writer(Side.TARGET)
            # The first answer is kept for the TTL that it had: a new connection still leads to the source.
            started = time.monotonic()
            while time.monotonic() - started < 1.0:
                assert port() == pair.source.port
            clock.now += SETTINGS.ttl_seconds
            _until(lambda: port() == pair.target.port)
            # Each of the pool's two connections may have asked.
            assert all(1 <= answers <= 2 for answers in resolver.answers(WRITER).values())


def test_a_pool_whose_sessions_were_ended_resolves_again(
    client: Route53Client, router: Route53Router, pair: Pair, hosts: dict[str, Host]
) -> None:
    with NameServer(client, ZONE, hosts) as server:
        clock = Clock()
        resolver = Resolver(server.address, server.port, hosts, clock)
        with open_pool(resolver, WRITER, _parameters(pair), size=2, max_lifetime_seconds=3600) as pool:
            with pool.connection() as connection:
                connection.execute("SELECT 1")
            router.point_writer(Side.TARGET)
            clock.now += SETTINGS.ttl_seconds
            _soon_old()
            with pair.connect(Side.SOURCE) as admin:
                admin.execute(_END_SESSIONS, [APPLICATION])
            for _ in range(4):
                with pool.connection() as connection:
                    assert connection.info.port == pair.target.port


def test_the_readers_of_a_workload_share_a_pool_that_resolves_again(
    client: Route53Client, pair: Pair, hosts: dict[str, Host]
) -> None:
    payments.create(pair, 0.01)
    sessions = "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE application_name = 'payments-reader'"
    with NameServer(client, ZONE, hosts) as server:
        # Its TTL has always run out: each answer is one new session's.
        resolver = Resolver(server.address, server.port, hosts, clock=iter(range(0, 10**9, 3600)).__next__)
        with Workload(pair, clients=1, way=ByName(pair, resolver, WRITER, READER)) as workload:
            with pair.connect(Side.SOURCE) as admin:
                _until(lambda: admin.execute(sessions).fetchone() == (2,))
            _until(lambda: resolver.answers(READER)[Side.SOURCE] > 4)
            reads = workload.reads[Side.SOURCE]
            with pair.connect(Side.SOURCE) as admin:
                admin.execute(_END_SESSIONS, [APPLICATION])
            _until(lambda: workload.reads[Side.SOURCE] > reads + 10)
        assert workload.report(pair.dsn(Side.SOURCE, APPLICATION)).clean
        with pair.connect(Side.SOURCE) as admin:
            _until(lambda: admin.execute(sessions).fetchone() == (0,))
