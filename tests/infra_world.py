"""What ``daybreak infra`` meets in tests: an imaginary Terraform, an account and servers that answer as told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from daybreak.entry import infra_site
from daybreak.entry.cli import app
from daybreak.errors import Finding, TransientError
from daybreak.infra import app as synthesis
from daybreak.infra import checks, guard, passwords, terraform
from daybreak.infra.guard import Standing
from daybreak.infra.plan import Change, Plan
from daybreak.infra.terraform import Progress
from daybreak.model import Side
from daybreak.postgres.server import Server
from daybreak.store.codec import encode

CONFIG = """\
name = "payments"
[source]
dsn = "postgresql://daybreak@old.example.net/payments"
[aws]
environment = "prod"
region = "eu-central-1"
network.vpc_cidr = "10.60.0.0/16"
aurora.engine_version = "17.5"
routing.zone_name = "payments.internal"
"""
MADE = Change("create", "aws_sns_topic.one", "aws_sns_topic", "", "", False)
LOST = Change("replace", "aws_rds_cluster.one", "aws_rds_cluster", "payments", "engine_mode can't be changed", False)
GONE = Change("destroy", "aws_rds_cluster.one", "aws_rds_cluster", "payments", "", False, snapshot=True)
TASK = Change("destroy", "aws_dms_replication_task.one", "aws_dms_replication_task", "task", "", False)
STOPPED = Change("update", "aws_dms_replication_task.one", "aws_dms_replication_task", "task", "", False, stops=True)
ENDPOINT = Change("update", "aws_dms_endpoint.one", "aws_dms_endpoint", "endpoint", "", False, blocked=True)
READER = Change("destroy", "aws_rds_cluster_instance.one", "aws_rds_cluster_instance", "reader", "", False)
SECRETS = tuple(
    Change(
        "destroy", f"aws_secretsmanager_secret.secrets_dms-{side}_0A1B", "aws_secretsmanager_secret", side, "", False
    )
    for side in Side
)
VAULT = Change("destroy", "aws_backup_vault.one", "aws_backup_vault", "backup", "", False, only_empty=True)
KEY = Change("destroy", "aws_kms_key.keys_data_0A1B", "aws_kms_key", "1234-abcd", "", False)
TABLE = Change("destroy", "aws_dynamodb_table.one", "aws_dynamodb_table", "records", "", False)
OTHER_KEY = Change("destroy", "aws_kms_key.keys_secrets_0A1B", "aws_kms_key", "5678-abcd", "", False)
OUTPUTS = {
    "target_user": "daybreak", "target_host": "new.example.net", "target_port": 5432, "target_database": "payments",
    "target_secret_arn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:target-AbCdEf",
}  # fmt: skip


@dataclass
class Imaginary:
    """Terraform and AWS as the commands see them."""

    directory: Path
    plan: Plan = field(default_factory=lambda: Plan((MADE,), outputs=True))
    findings: tuple[Finding, ...] = ()
    published: Standing | None = None
    interrupt: bool = False
    # By the side: the control row that a server that answers has; what else is in it.
    servers: dict[Side, tuple[object, ...] | None] = field(default_factory=dict)
    held: tuple[tuple[object, ...], ...] = ()
    table: Any = None
    backups: int = 0
    unwritten: tuple[Finding, ...] = ()
    applied: Plan | None = None
    done: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.directory / "daybreak.toml"

    def untouched(self) -> None:
        """Both servers answer, and no migration has touched either."""
        self.reached()
        self.servers = dict.fromkeys(Side)

    def reached(self) -> None:
        """The configuration leads to the target."""
        target = 'dsn = "postgresql://daybreak@new.example.net/payments"'
        self.config.write_text(self.config.read_text().replace("[aws]", f"[target]\n{target}\n[aws]"))

    def client(self, service: str) -> Any:
        """AWS as boto3 has it: only the table of the record answers."""
        assert service == "dynamodb"
        return self

    def get_item(self, **_asked: object) -> Any:
        if isinstance(self.table, Exception):
            raise self.table
        return {} if self.table is None else {"Item": {"body": {"S": encode(self.table)}}}

    @contextmanager
    def session(self, server: Server, _purpose: str) -> Iterator[Any]:
        if server.side not in self.servers:
            raise TransientError(f"{server.side}: connecting as daybreak: timed out", "Start it.")
        row, held = self.servers[server.side], self.held

        class Connection:
            def execute(self, query: str, *_parameters: object) -> Any:
                return Rows([] if row is None else [row]) if "daybreak.control" in query else Rows(list(held))

        yield Connection()

    def terraform(self, _directory: Path, variables: dict[str, str]) -> ImaginaryTerraform:
        return ImaginaryTerraform(self, variables)

    def __call__(self, *arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, ["infra", *arguments, "--config", str(self.config)], input=typed)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found


class Rows(list[tuple[object, ...]]):
    """A result."""

    def fetchone(self) -> tuple[object, ...] | None:
        return self[0] if self else None

    def fetchall(self) -> list[tuple[object, ...]]:
        return self


@dataclass
class ImaginaryTerraform:
    """Does nothing and remembers it."""

    world: Imaginary
    variables: dict[str, str]
    directory: Path = Path("/stack")
    listener: Any = None

    def init(self) -> None:
        self.world.done.append("init")

    def plan(self, destroy: bool = False) -> Plan:
        self.world.done.append("plan to destroy" if destroy else "plan")
        return self.world.plan

    def forget(self, address: str) -> None:
        self.world.done.append(f"forget {address}")
        self.world.plan = self.world.plan.without(address)

    def apply(self, plan: Plan) -> None:
        self.world.applied = plan
        self.listener(Progress(1, plan.steps, "aws_sns_topic.one created in 0 s"))
        if self.world.interrupt:
            raise KeyboardInterrupt
        self.world.done.append("apply")

    def outputs(self) -> dict[str, Any]:
        return OUTPUTS


def imaginary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imaginary:
    """A configuration, and no AWS."""
    world = Imaginary(tmp_path)
    world.config.write_text(CONFIG)
    monkeypatch.setattr(terraform, "Terraform", world.terraform)
    monkeypatch.setattr(synthesis, "synthesise", lambda _settings, directory: directory / "stack")
    monkeypatch.setattr(infra_site, "open_session", lambda _region: world)
    monkeypatch.setattr(Server, "session", lambda server, purpose: world.session(server, purpose))
    monkeypatch.setattr(guard, "backups", lambda _vault, _session: world.backups)
    monkeypatch.setattr(checks, "on_this_machine", lambda: ())
    monkeypatch.setattr(checks, "in_the_account", lambda _settings, _session: world.findings)
    monkeypatch.setattr(guard, "published", lambda _parameter, _session: world.published)
    monkeypatch.setattr(passwords, "unwritten", lambda *_arguments: world.unwritten)
    monkeypatch.setattr(passwords, "variables", lambda _directory: ("target_password",))
    monkeypatch.setattr(passwords, "passwords", lambda names, _settings, _session: dict.fromkeys(names, "hush"))
    return world
