"""Where a migration stands: the table of record and journal, and two parameters that people can read.

The parameter of the state is a copy that the controller publishes (``store.checkpoint``); Terraform makes it
and never touches its value again. That of the configuration is Terraform's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cdktn import TerraformResourceLifecycle, Token
from cdktn_provider_aws.dynamodb_table import (
    DynamodbTable,
    DynamodbTableAttribute,
    DynamodbTablePointInTimeRecovery,
    DynamodbTableServerSideEncryption,
)
from cdktn_provider_aws.ssm_parameter import SsmParameter
from constructs import Construct

from daybreak.errors import ConfigError
from daybreak.infra.encryption import Keys
from daybreak.infra.site import Site

# Bytes (SSM user guide, "Managing parameter tiers").
_STANDARD, _ADVANCED = 4096, 8192
# What Terraform fills in later is at most a host name or an ARN this long.
_LONGEST_EXPRESSION = 253

# The fields of ``store.checkpoint.Checkpoint``. Nothing has happened yet, hence the epoch.
_NOTHING_YET = {
    "status": "planned",
    "phase": "planned",
    "last_updated": "1970-01-01T00:00:00Z",
    "onprem_weight": 100,
    "aurora_weight": 0,
    "primary": "source",
    "lag_seconds": None,
    "version": 0,
}


@dataclass(frozen=True, slots=True)
class StateConfiguration:
    """What the controller and people look up: who talks to whom, and when a switchover may begin.

    ``task_arn`` is None without DMS. ``max_lag_seconds`` is the lag above which no switchover begins.
    ``settings``, ``tls`` and ``peers`` are what the controller works with (``published``)."""

    migration: str
    engine: str
    database: str
    source_host: str
    source_port: int
    writer_endpoint: str
    reader_endpoint: str
    zone_id: str
    writer_name: str
    reader_name: str
    task_arn: str | None
    max_lag_seconds: float
    settings: Mapping[str, Any]
    tls: Mapping[str, Mapping[str, str]]
    peers: Mapping[str, Mapping[str, str | int]]


@dataclass(frozen=True, slots=True)
class StateProps:
    """What the state needs."""

    site: Site
    keys: Keys
    configuration: StateConfiguration


class State(Construct):
    """``table``, ``state_parameter`` and ``config_parameter``. Raises ConfigError where the configuration is
    longer than a parameter may be."""

    def __init__(self, scope: Construct, id_: str, props: StateProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        self.table = self._table()
        self.state_parameter = self._parameter("state", json.dumps(_NOTHING_YET), "Standard", owned=False)
        configuration = json.dumps(asdict(props.configuration))
        tier = _tier(props.configuration)
        self.config_parameter = self._parameter("config", configuration, tier, owned=True)

    def _table(self) -> DynamodbTable:
        """The record is the item ``record`` of its migration, a journal row ``journal#`` and the version."""
        site = self._props.site
        return DynamodbTable(
            self,
            "table",
            name=site.names.of("state", limit=255),
            billing_mode="PAY_PER_REQUEST",
            hash_key="migration",
            range_key="item",
            attribute=[
                DynamodbTableAttribute(name="migration", type="S"),
                DynamodbTableAttribute(name="item", type="S"),
            ],
            point_in_time_recovery=DynamodbTablePointInTimeRecovery(enabled=True),
            server_side_encryption=DynamodbTableServerSideEncryption(
                enabled=True, kms_key_arn=self._props.keys.operations.arn
            ),
            deletion_protection_enabled=site.protected,
        )

    def _parameter(self, what: str, value: str, tier: str, owned: bool) -> SsmParameter:
        site = self._props.site
        return SsmParameter(
            self,
            what,
            name=site.names.path(what),
            description=f"Daybreak {site.names.migration}: {what}",
            type="SecureString",
            key_id=self._props.keys.operations.arn,
            tier=tier,
            value=value,
            lifecycle=None if owned else TerraformResourceLifecycle(ignore_changes=["value"]),
        )


def _tier(configuration: StateConfiguration) -> str:
    """The tier that holds ``configuration``, whatever Terraform fills in. Emulators take any length."""
    longest = {key: _longest(value) for key, value in asdict(configuration).items()}
    size = len(json.dumps(longest).encode())
    if size > _ADVANCED:
        raise ConfigError(
            f"The configuration in SSM would have {size} bytes; a parameter holds {_ADVANCED}.",
            "Shorten the names in [source] and [aws.routing].",
        )
    return "Standard" if size <= _STANDARD else "Advanced"


def _longest(value: object) -> object:
    return "x" * _LONGEST_EXPRESSION if isinstance(value, str) and Token.is_unresolved(value) else value
