"""A name server on loopback, UDP and TCP, that answers from what the Route 53 API says: an emulated Route 53
keeps records and answers no one.

As Route 53 does, it follows CNAMEs to the end, chooses among weighted records at each query, and goes on
answering while the API fails. It knows no health checks and no alias records; Daybreak makes none. Names
outside the zone lead to the lab's servers (in AWS they would be Aurora's own names)."""

from __future__ import annotations

import random
import socketserver
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.name import Name
from dns.rdatatype import RdataType

from daybreak.aws.errors import translated
from daybreak.errors import AdapterError, PermanentError
from daybreak.lab.cluster import HOST, free_port
from daybreak.model import Side
from daybreak.traffic.zone import find_private_zone

if TYPE_CHECKING:
    from types_boto3_route53 import Route53Client
    from types_boto3_route53.type_defs import ResourceRecordSetOutputTypeDef as RecordSet

# How old an answer may be against the API.
_FRESH_SECONDS = 0.2
# Aurora's own names have this TTL.
_HOST_TTL_SECONDS = 5
_NEGATIVE_TTL_SECONDS = 5
_KNOWN = (RdataType.A, RdataType.AAAA, RdataType.CNAME)
# RFC 1035, 4.2: what fits a datagram where the client says nothing of EDNS.
_DATAGRAM_BYTES, _STREAM_BYTES = 512, 65_535
_IDLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Host:
    """A server of the lab to which a name leads in the end. DNS carries the address; a client of the lab looks
    the port up here."""

    side: Side
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class _Record:
    """One record set, and its share where it is weighted."""

    rrset: dns.rrset.RRset
    weight: int | None


class Zone:
    """The records of the private zone ``name`` as Route 53 has them, at most a fraction of a second old."""

    def __init__(self, client: Route53Client, name: str) -> None:
        self._client = client
        self._name = name
        self._id = ""
        self._records: dict[Name, list[_Record]] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()
        self.apex = dns.name.from_text(name)

    def records(self) -> Mapping[Name, list[_Record]]:
        """All names that exist; those that have nothing but what is not served are empty.

        While the API fails these are the last ones; raises AdapterError where there were none yet."""
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_SECONDS:
                try:
                    self._records = self._read()
                except AdapterError:
                    self._id = ""  # it may be another zone of that name next time
                    if not self._records:
                        raise
                self._read_at = time.monotonic()
            return self._records

    def _read(self) -> dict[Name, list[_Record]]:
        self._id = self._id or find_private_zone(self._client, self._name)
        records: dict[Name, list[_Record]] = {}
        with translated(f"listing the records of {self._name}"):
            pages = self._client.get_paginator("list_resource_record_sets").paginate(HostedZoneId=self._id)
            for one in (one for page in pages for one in page["ResourceRecordSets"]):
                records.setdefault(dns.name.from_text(one["Name"]), []).extend(_parsed(one))
        return records


def _parsed(one: RecordSet) -> Iterable[_Record]:
    values = [record["Value"] for record in one.get("ResourceRecords", [])]
    kind = RdataType.make(one["Type"])
    if kind in _KNOWN and values:
        rrset = dns.rrset.from_text(one["Name"], one["TTL"], "IN", kind, *(_absolute(kind, value) for value in values))
        yield _Record(rrset, one.get("Weight"))


def _absolute(kind: RdataType, value: str) -> str:
    # Route 53 takes names as absolute, with their last dot or without.
    return f"{value.rstrip('.')}." if kind is RdataType.CNAME else value


class Answers:
    """What is answered to a query. Thread-safe."""

    def __init__(self, zone: Zone, hosts: Mapping[str, Host]) -> None:
        self._zone = zone
        self._hosts = {dns.name.from_text(name): host for name, host in hosts.items()}
        self._random = random.Random()

    def respond(self, packet: bytes, limit_bytes: int) -> bytes | None:
        """The answer to ``packet``, cut down to ``limit_bytes`` or to what the client says it can take.

        None to what isn't a query at all; whatever else arrives, an answer goes back."""
        try:
            query = dns.message.from_wire(packet)
        except (dns.exception.DNSException, ValueError):
            return _format_error(packet)
        if query.flags & dns.flags.QR:
            return None
        response = dns.message.make_response(query)
        if query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.NOTIMP)
        elif len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
        else:
            self._answer(query.question[0], response)
        return response.to_wire(max_size=max(limit_bytes, query.payload), prefer_truncation=True)

    def _answer(self, question: dns.rrset.RRset, response: dns.message.Message) -> None:
        try:
            records = self._zone.records()
        except AdapterError:
            response.set_rcode(dns.rcode.SERVFAIL)
            return
        response.flags |= dns.flags.AA
        response.set_rcode(self._follow(question.name, question.rdtype, records, response.answer))
        if not any(rrset.rdtype is question.rdtype for rrset in response.answer):
            response.authority.append(self._start_of_authority())

    def _follow(
        self, name: Name, kind: RdataType, records: Mapping[Name, list[_Record]], answer: list[dns.rrset.RRset]
    ) -> dns.rcode.Rcode:
        """Append to ``answer`` what leads from ``name`` to its end; returns how that ended."""
        seen: set[Name] = set()
        while name not in seen:
            seen.add(name)
            if not name.is_subdomain(self._zone.apex):
                return self._outside(name, kind, answer)
            if name not in records:
                return dns.rcode.NXDOMAIN
            here = [one for one in records[name] if one.rrset.rdtype is kind]
            aliases = [one for one in records[name] if one.rrset.rdtype is RdataType.CNAME]
            if here or not aliases:
                answer.extend(self._chosen(here))
                return dns.rcode.NOERROR
            answer.extend(chosen := self._chosen(aliases))
            name = chosen[0][0].target
        return dns.rcode.SERVFAIL

    def _outside(self, name: Name, kind: RdataType, answer: list[dns.rrset.RRset]) -> dns.rcode.Rcode:
        host = self._hosts.get(name)
        if host is not None and kind is RdataType.A:
            answer.append(dns.rrset.from_text(name, _HOST_TTL_SECONDS, "IN", kind, host.address))
        # The end of a CNAME elsewhere is for the client's resolver to find.
        return dns.rcode.NOERROR if host is not None or answer else dns.rcode.REFUSED

    def _chosen(self, records: list[_Record]) -> list[dns.rrset.RRset]:
        """One of the weighted records, or what there is. Weight 0 is never chosen unless all have it (Route 53 API
        Reference, ResourceRecordSet, Weight)."""
        weights = [one.weight or 0 for one in records]
        if not any(one.weight is not None for one in records):
            return [one.rrset for one in records]
        return [self._random.choices(records, weights if any(weights) else None)[0].rrset]

    def _start_of_authority(self) -> dns.rrset.RRset:
        """Tells resolvers for how long a name's absence may be kept (RFC 2308)."""
        ttl = _NEGATIVE_TTL_SECONDS
        text = f"ns.{self._zone.apex} hostmaster.{self._zone.apex} 1 7200 900 1209600 {ttl}"
        return dns.rrset.from_text(self._zone.apex, ttl, "IN", RdataType.SOA, text)


def _format_error(packet: bytes) -> bytes | None:
    """The header of an answer that says the question made no sense; None to what has no header itself."""
    if len(packet) < 12 or packet[2] & 0x80:
        return None
    return struct.pack("!2sHHHHH", packet[:2], dns.flags.QR | dns.rcode.FORMERR, 0, 0, 0, 0)


class _Datagram(socketserver.BaseRequestHandler):
    def __init__(self, answers: Answers, *request: Any) -> None:
        self._answers = answers
        super().__init__(*request)  # handles it

    def handle(self) -> None:
        packet, socket = self.request
        if response := self._answers.respond(packet, _DATAGRAM_BYTES):
            socket.sendto(response, self.client_address)


class _Stream(socketserver.StreamRequestHandler):
    timeout = _IDLE_SECONDS

    def __init__(self, answers: Answers, *request: Any) -> None:
        self._answers = answers
        super().__init__(*request)  # handles it

    def handle(self) -> None:
        try:
            while len(prefix := self.rfile.read(2)) == 2:
                packet = self.rfile.read(int.from_bytes(prefix))
                if response := self._answers.respond(packet, _STREAM_BYTES):
                    self.wfile.write(len(response).to_bytes(2) + response)
        except (TimeoutError, ConnectionError):
            return


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    max_packet_size = _STREAM_BYTES


class NameServer:
    """Answers for the private zone ``zone_name`` of ``client`` while the block runs, on ``address`` and ``port``.

    ``hosts`` are the names outside the zone that lead to the lab's servers. The zone need not be there yet: until
    then the answer is SERVFAIL. Raises PermanentError where no port is free for both protocols."""

    address = HOST

    def __init__(self, client: Route53Client, zone_name: str, hosts: Mapping[str, Host]) -> None:
        answers = Answers(Zone(client, zone_name), hosts)
        self._tcp = _Tcp((HOST, free_port()), partial(_Stream, answers))
        self.port = int(self._tcp.server_address[1])
        try:
            self._udp = _Udp((HOST, self.port), partial(_Datagram, answers))
        except OSError as error:
            self._tcp.server_close()
            raise PermanentError(f"Port {self.port} is taken for UDP: {error}.", "Try again.") from error
        self._threads = [threading.Thread(target=one.serve_forever, daemon=True) for one in (self._tcp, self._udp)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
