"""Clients that find the database by name: a stub resolver with a cache, and a pool that resolves at each new
connection, as applications have them. Neither knows which side is primary but by DNS."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import dns.exception
import dns.resolver
import psycopg
from dns.rdatatype import RdataType
from psycopg import conninfo
from psycopg_pool import ConnectionPool

from daybreak.lab.dns import Host
from daybreak.model import Side

Connection = psycopg.Connection[tuple[object, ...]]
# A resolver asks again after a second and gives up after some (resolv.conf(5): 5 s and two attempts).
_TIMEOUT_SECONDS, _LIFETIME_SECONDS = 1.0, 5.0
_CONNECT_TIMEOUT = "5"
_POOL_PATIENCE_SECONDS = 10.0


class Resolver:
    """What resolves names on one client's machine, by the name server at ``address`` and ``port``.

    An answer is kept for its TTL, the shortest of its chain, by ``clock`` (seconds). ``hosts`` says where the
    server of each name at the end of a chain listens. Thread-safe."""

    def __init__(
        self, address: str, port: int, hosts: Mapping[str, Host], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stub = dns.resolver.Resolver(configure=False)
        self._stub.nameservers, self._stub.port = [address], port
        self._stub.timeout, self._stub.lifetime = _TIMEOUT_SECONDS, _LIFETIME_SECONDS
        self._hosts = hosts
        self._clock = clock
        self._kept: dict[str, tuple[Host, float]] = {}
        self._answers: Counter[tuple[str, Side]] = Counter()
        self._lock = threading.Lock()

    def resolve(self, name: str) -> Host:
        """The server to which ``name`` leads now, as far as this machine knows.

        Raises psycopg.OperationalError, as libpq does, where nobody knows it."""
        with self._lock:
            host, until = self._kept.get(name, (None, 0.0))
        if host is not None and self._clock() < until:
            return host
        try:
            answer = self._stub.resolve(name, RdataType.A, search=False)
        except dns.exception.DNSException as error:
            raise psycopg.OperationalError(f'could not translate host name "{name}" to address: {error}') from error
        host = self._hosts.get(answer.canonical_name.to_text(omit_final_dot=True).lower())
        if host is None:
            raise psycopg.OperationalError(f'"{name}" leads to {answer.canonical_name}, where no server listens')
        with self._lock:
            self._kept[name] = (host, self._clock() + answer.chaining_result.minimum_ttl)
            self._answers[name, host.side] += 1
        return host

    def answers(self, name: str) -> dict[Side, int]:
        """How many answers of the name server led ``name`` to each side; what came from the cache isn't counted."""
        with self._lock:
            return {side: self._answers[name, side] for side in Side}

    def conninfo(self, name: str, parameters: Mapping[str, str]) -> str:
        """``parameters`` (libpq keywords) for a connection to where ``name`` leads now. Raises as ``resolve``.

        ``host`` stays the name, as with any client, so that a certificate is checked against it."""
        host = self.resolve(name)
        here = {"host": name, "hostaddr": host.address, "port": str(host.port), "connect_timeout": _CONNECT_TIMEOUT}
        return conninfo.make_conninfo("", **{**parameters, **here})


def open_pool(
    resolver: Resolver, name: str, parameters: Mapping[str, str], *, size: int, max_lifetime_seconds: float
) -> ConnectionPool[Connection]:
    """``size`` connections in autocommit mode to wherever ``name`` led when each was opened; close it after use.

    One that has lived for ``max_lifetime_seconds`` (less up to a twentieth, so that not all end at once), or broke, is
    replaced by a new one for which the name is resolved again. Every connection is tried before it is lent."""
    pool: ConnectionPool[Connection] = ConnectionPool(
        lambda: resolver.conninfo(name, parameters),
        kwargs={"autocommit": True},
        min_size=size,
        max_size=size,
        max_lifetime=max_lifetime_seconds,
        timeout=_POOL_PATIENCE_SECONDS,
        check=ConnectionPool.check_connection,
        open=True,
    )
    return pool


def tolerance(answers: int, doubt: float = 1e-9) -> float:
    """By how much the share of one side in so many random answers may miss its weight, as a fraction, before chance
    explains it with a probability below ``doubt`` (Hoeffding's inequality, both tails)."""
    return math.sqrt(math.log(2 / doubt) / (2 * answers))
