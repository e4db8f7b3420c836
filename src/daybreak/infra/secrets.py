"""Secrets Manager secrets: how Daybreak's role, and DMS's own, connect to either server.

Each is a JSON object {engine, host, port, dbname, username, password}, the form that RDS, DMS and AWS's
rotation functions share. The passwords are ephemeral variables of Terraform and go into write-only
arguments (Terraform 1.11), so neither plan nor state nor this code ever holds one. Who may read a secret
is said by roles only; no secret has a policy of its own.

Terraform never looks at a value that it wrote: it writes again only when the number beside it changes. That
number follows from what a secret says beside the password, so that a source that moved is followed, and from
``aws.secrets_version``, which is raised to have new passwords written. What AWS rotates is not undone: what is
written again has the password that the secret has (``passwords``). Only ``source`` has that of ``[source]``, which
has to follow a rotation. docs/infrastructure/index.md says how to rotate each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cdktn import Fn, TerraformVariable
from cdktn_provider_aws.secretsmanager_secret import SecretsmanagerSecret
from cdktn_provider_aws.secretsmanager_secret_version import SecretsmanagerSecretVersion
from constructs import Construct

from daybreak.config.names import SECRET_LIMIT
from daybreak.errors import ConfigError
from daybreak.infra.aurora import MASTER_USER, Aurora
from daybreak.infra.encryption import Keys
from daybreak.infra.site import Site

# Secrets Manager API, DeleteSecret: 0 deletes at once, which lets a test environment be made again.
_RECOVERY_DAYS, _NO_RECOVERY = 30, 0
# Hexadecimal digits of a digest: with the counter the number stays within 31 bits.
_DIGITS = 7


@dataclass(frozen=True, slots=True)
class SourceServer:
    """The source, and the migration's role on it (which has the same name on Aurora)."""

    host: str
    port: int
    database: str
    user: str


@dataclass(frozen=True, slots=True)
class SecretsProps:
    """What the secrets need. ``dms_user`` is DMS's role on both servers; None without DMS. Another ``version`` has
    every secret written again."""

    site: Site
    keys: Keys
    source: SourceServer
    aurora: Aurora
    dms_user: str | None
    version: int


@dataclass(frozen=True, slots=True)
class _Address:
    """Terraform expressions where the server is Aurora; ``port`` is then a number that stands for one. ``stable`` is
    what is known of it beforehand, and changes with it."""

    host: str
    port: float
    database: str
    stable: tuple[str, ...]


class Secrets(Construct):
    """``source`` and ``target``, with DMS also ``dms_source`` and ``dms_target``; ``versions`` hold the values. Raises
    ConfigError for a role that is Aurora's master user.

    Terraform asks for a variable for each: ``source_password``, ``target_password``, ``dms_source_password``,
    ``dms_target_password``."""

    def __init__(self, scope: Construct, id_: str, props: SecretsProps) -> None:
        super().__init__(scope, id_)
        # The CDK assumes older releases and refuses write-only arguments for them; `daybreak infra` asks for 1.11.
        self.node.set_context("targetVersions", {"terraform": ">=1.11.0"})
        self._props = props
        _refuse_master(props)
        self._versions: list[SecretsmanagerSecretVersion] = []
        source, cluster = props.source, props.aurora.cluster
        known = (source.host, str(source.port), source.database)
        at_source = _Address(source.host, source.port, source.database, known)
        # The endpoint follows from the cluster's name, which is also the secret's; the port is the default.
        at_target = _Address(cluster.endpoint, cluster.port, cluster.database_name, (source.database,))
        self.source = self._secret("source", at_source, source.user)
        self.target = self._secret("target", at_target, source.user)
        self.dms_source = self.dms_target = None
        if props.dms_user is not None:
            self.dms_source = self._secret("dms-source", at_source, props.dms_user)
            self.dms_target = self._secret("dms-target", at_target, props.dms_user)
        self.versions = tuple(self._versions)

    def _secret(self, what: str, server: _Address, user: str) -> SecretsmanagerSecret:
        secret = SecretsmanagerSecret(
            self,
            what,
            name=self._props.site.names.of(what, SECRET_LIMIT),
            description=f"How {user} connects to the {what.removeprefix('dms-')} of the migration",
            kms_key_id=self._props.keys.secrets.arn,
            recovery_window_in_days=_RECOVERY_DAYS if self._props.site.protected else _NO_RECOVERY,
        )
        value = {
            "engine": "postgres",
            "host": server.host,
            "port": server.port,
            "dbname": server.database,
            "username": user,
            "password": self._password(what).string_value,
        }
        self._versions.append(
            SecretsmanagerSecretVersion(
                self,
                f"{what}-value",
                secret_id=secret.id,
                secret_string_wo=Fn.jsonencode(value),
                secret_string_wo_version=version_of((*server.stable, user), self._props.version),
            )
        )
        return secret

    def _password(self, what: str) -> TerraformVariable:
        name = f"{what.replace('-', '_')}_password"
        variable = TerraformVariable(
            self, f"{what}-password", type="string", sensitive=True, nullable=False, description=f"password in {what}"
        )
        variable.override_logical_id(name)
        # Terraform refuses an ephemeral value anywhere but in write-only arguments.
        variable.add_override("ephemeral", True)
        return variable


def _refuse_master(props: SecretsProps) -> None:
    for key, user in (("source.dsn", props.source.user), ("aws.dms.user", props.dms_user)):
        if user == MASTER_USER:
            raise ConfigError(
                f"{key} names the role {user}, which on Aurora is the master user: RDS makes and rotates its password.",
                "Make a role for the migration, give it the rights that `daybreak grants` prints, and name that.",
            )


def version_of(content: tuple[str, ...], counter: int) -> int:
    """The number beside a secret that says ``content``, which is no secret: the same for the same, another for
    another ``counter``."""
    return int(hashlib.sha256("\n".join(content).encode()).hexdigest()[:_DIGITS], 16) + counter
