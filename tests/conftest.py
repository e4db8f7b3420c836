"""Fixtures that every test may ask for: running PostgreSQL servers and fresh databases on them.

Servers are started when first asked for and live for the whole session, one per side, version and
TLS; a test gets its own *databases* (``pair``). The pair of versions is 17 -> 18, or what
``DAYBREAK_TEST_SOURCE`` and ``DAYBREAK_TEST_TARGET`` say, or what the test parametrizes::

    @pytest.mark.parametrize("versions", [(15, 17)], indirect=True)

``tls`` is parametrized likewise. A test that breaks a server on purpose asks for ``own_pair``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count

import pytest
from support import Clusters

from daybreak.errors import ConfigError
from daybreak.lab.aws import EmulatedAws, emulated_aws
from daybreak.lab.certificates import Authority
from daybreak.lab.cluster import Cluster, find_server
from daybreak.lab.pair import Pair, running_pair, start_together
from daybreak.model import Side

_numbers = count(1)

# A shell starts what runs in the background with SIGINT ignored, and what is ignored children inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    """A function of source version, target version and TLS that gives two running servers."""
    pool: dict[tuple[Side, int, bool], Cluster] = {}
    authorities: list[Authority] = []

    def ask(source: int, target: int, tls: bool) -> tuple[Cluster, Cluster]:
        if tls and not authorities:
            authorities.append(Authority())
        found = []
        for side, major in ((Side.SOURCE, source), (Side.TARGET, target)):
            key = (side, major, tls)
            if key not in pool:
                pool[key] = Cluster(find_server(major), authority=authorities[0] if tls else None)
            found.append(pool[key])
        start_together(*found)
        return found[0], found[1]

    yield ask
    for cluster in pool.values():
        cluster.close()


@pytest.fixture
def versions(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Major versions of source and target; skips, with the reason, where one is not installed."""
    default = (int(os.environ.get("DAYBREAK_TEST_SOURCE", "17")), int(os.environ.get("DAYBREAK_TEST_TARGET", "18")))
    source, target = getattr(request, "param", default)
    try:
        find_server(source)
        find_server(target)
    except ConfigError as error:
        pytest.skip(error.message)
    return source, target


@pytest.fixture
def tls(request: pytest.FixtureRequest) -> bool:
    """Whether the servers take TLS only; needs versions whose builds have OpenSSL (not wheel 18)."""
    return bool(getattr(request, "param", False))


@pytest.fixture
def pair(clusters: Clusters, versions: tuple[int, int], tls: bool) -> Iterator[Pair]:
    """Fresh, empty databases with the payments roles on the session's two servers."""
    source, target = clusters(*versions, tls)
    made = Pair.create(source, target, f"payments_{next(_numbers)}")
    yield made
    made.drop()


@pytest.fixture
def own_pair(versions: tuple[int, int], tls: bool) -> Iterator[Pair]:
    """Like ``pair``, on two servers of the test's own: for stopping, killing and reconfiguring."""
    with running_pair(*versions, tls=tls) as made:
        yield made


@pytest.fixture(scope="session")
def emulated_account() -> Iterator[EmulatedAws]:
    """Emulated AWS for all tests of this run; each cleans up after itself."""
    with emulated_aws() as running:
        yield running
