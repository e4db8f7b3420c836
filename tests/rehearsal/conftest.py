"""Fixtures of the rehearsal tests: one migration that streams for each module and pair of versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from rehearsal.shared import Shared

from daybreak.errors import ConfigError
from daybreak.lab.aws import EmulatedAws
from daybreak.lab.cluster import Cluster

PAIRS = [
    pytest.param((17, 18, False), id="17-18"),
    pytest.param((15, 17, False), id="15-17", marks=pytest.mark.full),
    pytest.param((17, 17, True), id="17-17-tls", marks=pytest.mark.full),
]

Clusters = Callable[[int, int, bool], tuple[Cluster, Cluster]]


@pytest.fixture(scope="module", params=PAIRS)
def shared(
    clusters: Clusters, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    """One migration for all tests of a module and a pair of versions; skips where one is not installed."""
    source, target, tls = request.param
    try:
        servers = clusters(source, target, tls)
    except ConfigError as error:
        pytest.skip(error.message)
    made = Shared(*servers, tmp_path_factory.mktemp("shared"), getattr(request.module, "LIMITS", {}))
    yield made
    made.close()


@pytest.fixture
def account(emulated_account: EmulatedAws, monkeypatch: pytest.MonkeyPatch) -> EmulatedAws:
    """Emulated AWS, to which this process's environment leads."""
    for name, value in emulated_account.environment().items():
        monkeypatch.setenv(name, value)
    return emulated_account
