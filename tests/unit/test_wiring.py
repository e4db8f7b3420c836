"""Settings that name something which is not there become errors, never another adapter."""

from __future__ import annotations

import pytest

from daybreak.config import Settings
from daybreak.errors import ConfigError
from daybreak.wiring import build

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
