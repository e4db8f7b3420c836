"""Settings that name something which is not there become errors, never another adapter; a command where a
function on AWS leads."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from simulation import NAME, Simulation, ready

from daybreak.config import Settings
from daybreak.errors import ConfigError, StateConflict
from daybreak.model import Phase, Verb
from daybreak.remote import Remote
from daybreak.wiring import Runtime, build, waking

_SERVER = {"dsn": "postgresql://daybreak@db.example.net/payments"}


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"traffic": {"router": "pgbouncer"}}, r"\[traffic.pgbouncer\] is not known here"),
        ({"traffic": {"router": "route53"}}, "traffic.router is about AWS"),
        ({"replication": {"engine": "dms"}}, "replication.engine is about AWS"),
        ({"state": {"url": "dynamodb://table"}}, "state.url is about AWS"),
    ],
)
def test_nothing_is_replaced_in_silence(section: dict[str, object], why: str) -> None:
    settings = Settings.model_validate({"name": "payments", "source": _SERVER, "target": _SERVER, **section})
    with pytest.raises(ConfigError, match=why):
        build(settings)


def on_aws(simulation: Simulation, did: list[str]) -> Runtime:
    """A command's runtime where a function leads; ``did`` hears what it did beside the controller."""
    aws = {
        "environment": "test",
        "region": "eu-central-1",
        "network": {"vpc_cidr": "10.60.0.0/16"},
        "aurora": {"engine_version": "17.5"},
        "routing": {"zone_name": "payments.internal"},
    }
    state = {"url": "dynamodb://table"}
    settings = Settings.model_validate({"name": NAME, "source": _SERVER, "target": _SERVER, "state": state, "aws": aws})
    controller, _ = simulation.controller(listener=waking(simulation.events.append, _noting(did)))
    remote = Remote(NAME, simulation.store, lambda _event: None, lambda _percent: "", lambda: did.append("woken"))
    sessions = SimpleNamespace(rename=lambda generation: did.append(f"looks on under {generation}"), close=lambda: None)
    return Runtime(
        settings,
        simulation.store,
        cast(Any, sessions),
        cast(Any, None),
        simulation.router,
        cast(Any, None),
        tuple,
        controller,
        remote,
        schedule=_noting(did),
    )


def _noting(did: list[str]) -> Callable[[bool], None]:
    return lambda on: did.append(f"schedule {on}")


def test_start_hands_over_to_the_function() -> None:
    did: list[str] = []
    assert on_aws(Simulation(), did).run(Verb.START).phase is Phase.STREAMING
    assert did == ["schedule True", "looks on under 0", "schedule True", "woken"]


def test_start_takes_the_place_of_nothing_that_the_function_was_asked_for() -> None:
    simulation = ready()
    runtime = on_aws(simulation, [])
    runtime.remote.ask(Verb.CUTOVER)
    with pytest.raises(StateConflict, match="`cutover` was asked for"):
        runtime.run(Verb.START)
    intent = simulation.record.intent
    assert intent is not None
    assert intent.verb is Verb.CUTOVER
