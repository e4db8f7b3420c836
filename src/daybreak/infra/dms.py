"""AWS DMS: a replication instance, both endpoints and the task that loads and streams.

Nothing here starts the task; ``daybreak start`` does. Its settings are in ``dms_settings``. The schema on both
sides is Daybreak's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from cdktn import TerraformResourceLifecycle
from cdktn_provider_aws.cloudwatch_log_group import CloudwatchLogGroup
from cdktn_provider_aws.dms_certificate import DmsCertificate
from cdktn_provider_aws.dms_endpoint import DmsEndpoint, DmsEndpointPostgresSettings
from cdktn_provider_aws.dms_replication_instance import DmsReplicationInstance
from cdktn_provider_aws.dms_replication_subnet_group import DmsReplicationSubnetGroup
from cdktn_provider_aws.dms_replication_task import DmsReplicationTask
from cdktn_provider_aws.iam_role import IamRole
from cdktn_provider_aws.iam_role_policy_attachment import IamRolePolicyAttachment
from cdktn_provider_aws.secretsmanager_secret import SecretsmanagerSecret
from constructs import Construct

from daybreak.config import Server
from daybreak.config.aws import Dms as Settings
from daybreak.config.names import TASK_RESOURCE_LIMIT
from daybreak.errors import ConfigError, InvariantViolated
from daybreak.infra.aurora import Aurora
from daybreak.infra.dms_settings import CONTROL_SCHEMA, table_mappings, task_settings
from daybreak.infra.encryption import Keys
from daybreak.infra.network import Network
from daybreak.infra.policies import Condition, Statement, document, from_this_account, service_role
from daybreak.infra.secrets import Secrets, SourceServer
from daybreak.infra.site import Site

# Without this NUMERIC without precision is cut to (28,6); it belongs on both endpoints (DMS user guide,
# "Using a PostgreSQL database as an AWS DMS source", endpoint settings).
_EXTRA = "MapUnboundedNumericAsString=true"
_VPC_ROLE, _LOGS_ROLE = "dms-vpc-role", "dms-cloudwatch-logs-role"
_ACCOUNT_ROLES = {_VPC_ROLE: "AmazonDMSVPCManagementRole", _LOGS_ROLE: "AmazonDMSCloudWatchLogsRole"}

_Needed = TypeVar("_Needed")


@dataclass(frozen=True, slots=True)
class Verified:
    """A server's certificate is verified as libpq's ``mode`` says, against the PEM file ``authority``."""

    mode: Literal["verify-ca", "verify-full"]
    authority: Path


def verification(settings: Settings, source: Server) -> Verified | None:
    """How DMS verifies the source: by ``aws.dms.source_ca_file``, otherwise as strictly as the DSN of [source] asks
    for, unless ``source.peer_sslmode`` says how others connect there. None: encrypted and not verified.

    Raises ConfigError where it is to be verified and no file here says against which authority."""
    if settings.source_ca_file:
        return Verified("verify-full", settings.source_ca_file)
    parameters = source.parameters()
    mode, root = source.peer_sslmode or parameters.get("sslmode", ""), parameters.get("sslrootcert", "")
    if mode not in ("verify-ca", "verify-full"):
        return None
    # What others find the authority in, libpq's own file and "system", the list of this machine, DMS does not have.
    if source.peer_sslmode or root in ("", "system"):
        key = "source.peer_sslmode" if source.peer_sslmode else "source.dsn"
        raise ConfigError(
            f"{key} asks for {mode}, but no file says with which authority DMS is to verify the source.",
            "Name a PEM file with the authority of the source's certificate: aws.dms.source_ca_file. To have DMS "
            'encrypt and not verify: source.peer_sslmode = "require".',
        )
    return Verified("verify-ca" if mode == "verify-ca" else "verify-full", Path(root))


@dataclass(frozen=True, slots=True)
class DmsProps:
    """What DMS needs. ``include`` and ``exclude`` are the patterns of ``[replication]``; ``source_verified`` is
    ``verification`` of the source."""

    site: Site
    settings: Settings
    network: Network
    keys: Keys
    secrets: Secrets
    aurora: Aurora
    source: SourceServer
    source_verified: Verified | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]


class Dms(Construct):
    """The instance, the endpoints, the task, the task's resource identifier and the group of its logs.

    Raises ConfigError where a certificate authority's file is missing or is none, or where DMS cannot
    select a table by name."""

    def __init__(self, scope: Construct, id_: str, props: DmsProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        self._roles = self._account_roles() if props.settings.create_account_roles else []
        self.instance = self._instance()
        self._access = self._secrets_access()
        self.source = self._source_endpoint()
        self.target = self._target_endpoint()
        self.resource_identifier = props.site.names.short("task", TASK_RESOURCE_LIMIT)
        self.task = self._task()
        self.log_group_name = f"dms-tasks-{props.site.names.of('dms')}"
        # DMS would make it without an end and without our key.
        CloudwatchLogGroup(
            self,
            "log",
            name=self.log_group_name,
            retention_in_days=props.site.log_days,
            kms_key_id=props.keys.operations.arn,
        )

    def _account_roles(self) -> list[IamRolePolicyAttachment]:
        """Roles that DMS looks for by these very names, once in an account (DMS user guide, "Creating the IAM
        roles to use with AWS DMS")."""
        site = self._props.site
        attachments = []
        for name, policy in _ACCOUNT_ROLES.items():
            # For the first AWS documents a condition on the account ("Cross-service confused deputy prevention").
            # Under one DMS does not take on the second: tasks write no log (re:Post, "AWS DMS CloudWatch logs
            # not appearing", has the trust without it; terraform-aws-dms, issue 84).
            conditions = (from_this_account(site),) if name == _VPC_ROLE else ()
            assume = Statement("Assume", ("sts:AssumeRole",), services=("dms.amazonaws.com",), conditions=conditions)
            trust = document(self, f"{name}-trust", [assume])
            role = IamRole(self, name, name=name, assume_role_policy=trust.json)
            arn = f"arn:{site.partition}:iam::aws:policy/service-role/{policy}"
            attachments.append(IamRolePolicyAttachment(self, f"{name}-policy", role=role.name, policy_arn=arn))
        return attachments

    def _instance(self) -> DmsReplicationInstance:
        props, names = self._props, self._props.site.names
        subnets = DmsReplicationSubnetGroup(
            self,
            "subnets",
            replication_subnet_group_id=names.of("dms"),
            replication_subnet_group_description="Private subnets of Daybreak",
            subnet_ids=props.network.subnet_ids,
            depends_on=self._roles,
        )
        return DmsReplicationInstance(
            self,
            "instance",
            replication_instance_id=names.of("dms"),
            replication_instance_class=props.settings.instance_class,
            allocated_storage=props.settings.storage_gb,
            engine_version=props.settings.engine_version or None,
            multi_az=props.settings.multi_az,
            replication_subnet_group_id=subnets.replication_subnet_group_id,
            vpc_security_group_ids=[_needed(props.network.dms_group).id],
            kms_key_arn=props.keys.data.arn,
            publicly_accessible=False,
            # An upgrade stops every task; somebody has to choose when.
            auto_minor_version_upgrade=False,
            # Whoever deploys has seen the plan and confirmed it. Left to the maintenance window a larger class or
            # disk would come up to a week later, and every plan until then would show it again.
            apply_immediately=True,
            allow_major_version_upgrade=False,
            depends_on=self._roles,
        )

    def _secrets_access(self) -> IamRole:
        """What DMS reads both endpoints' credentials with (DMS user guide, "Using secrets to access endpoints")."""
        props = self._props
        secrets = [_needed(props.secrets.dms_source).arn, _needed(props.secrets.dms_target).arn]
        return service_role(
            self,
            "secrets-access",
            props.site,
            "dms-secrets",
            props.site.service("dms"),
            [
                Statement(
                    "ReadEndpointSecrets",
                    ("secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"),
                    tuple(secrets),
                ),
                Statement(
                    "DecryptEndpointSecrets",
                    ("kms:Decrypt", "kms:DescribeKey"),
                    (props.keys.secrets.arn,),
                    conditions=(Condition("StringEquals", "kms:ViaService", (props.site.service("secretsmanager"),)),),
                ),
            ],
        )

    def _source_endpoint(self) -> DmsEndpoint:
        props = self._props
        settings = DmsEndpointPostgresSettings(
            # Comes with every PostgreSQL; where pglogical is installed DMS would take that by itself.
            plugin_name="test_decoding",
            # No event trigger and no audit table on the source.
            capture_ddls=False,
            fail_tasks_on_lob_truncation=True,
            # An idle database moves no slot, and its WAL stays.
            heartbeat_enable=True,
            heartbeat_frequency=1,
            heartbeat_schema=CONTROL_SCHEMA,
        )
        return self._endpoint(
            "source", props.source.database, props.secrets.dms_source, props.source_verified, settings
        )

    def _target_endpoint(self) -> DmsEndpoint:
        props = self._props
        if props.settings.target_ca_file is None:
            raise ConfigError(
                "aws.dms.target_ca_file is not set: DMS verifies Aurora's certificate with it.",
                "Download https://truststore.pki.rds.amazonaws.com/REGION/REGION-bundle.pem (with your region) and"
                " name that file.",
            )
        # As PostgreSQL's own replication: foreign keys and triggers have fired on the source.
        settings = DmsEndpointPostgresSettings(after_connect_script="SET session_replication_role = replica")
        verified = Verified("verify-full", props.settings.target_ca_file)
        database = props.aurora.cluster.database_name
        return self._endpoint("target", database, props.secrets.dms_target, verified, settings)

    def _endpoint(
        self,
        side: Literal["source", "target"],
        database: str,
        secret: SecretsmanagerSecret | None,
        verified: Verified | None,
        settings: DmsEndpointPostgresSettings,
    ) -> DmsEndpoint:
        props = self._props
        certificate = self._certificate(side, verified.authority) if verified else None
        return DmsEndpoint(
            self,
            side,
            endpoint_id=props.site.names.of(f"dms-{side}"),
            endpoint_type=side,
            engine_name="postgres" if side == "source" else "aurora-postgresql",
            database_name=database,
            secrets_manager_arn=_needed(secret).arn,
            secrets_manager_access_role_arn=self._access.arn,
            # A certificate can be verified only where its authority is known; never less than encrypted.
            ssl_mode=verified.mode if verified else "require",
            certificate_arn=certificate.certificate_arn if certificate else None,
            kms_key_arn=props.keys.secrets.arn,
            postgres_settings=settings,
            extra_connection_attributes=_EXTRA,
            # AWS may report further attributes among these; the value never changes.
            lifecycle=TerraformResourceLifecycle(ignore_changes=["extra_connection_attributes"]),
            depends_on=list(props.secrets.versions),
        )

    def _certificate(self, side: Literal["source", "target"], path: Path) -> DmsCertificate:
        name = self._props.site.names.of(f"dms-{side}-ca")
        return DmsCertificate(self, f"{side}-ca", certificate_id=name, certificate_pem=_authorities(path))

    def _task(self) -> DmsReplicationTask:
        """The task, ready and not started. A change of its settings or tables is shown in Terraform's plan;
        applying it stops the task, and it stays stopped until ``daybreak start`` resumes it."""
        props = self._props
        return DmsReplicationTask(
            self,
            "task",
            replication_task_id=props.site.names.of("task"),
            resource_identifier=self.resource_identifier,
            migration_type="full-load-and-cdc",
            replication_instance_arn=self.instance.replication_instance_arn,
            source_endpoint_arn=self.source.endpoint_arn,
            target_endpoint_arn=self.target.endpoint_arn,
            table_mappings=table_mappings(props.include, props.exclude).to_json(),
            replication_task_settings=task_settings(props.settings.max_lob_kb).to_json(),
            start_replication_task=False,
        )


def _authorities(path: Path) -> str:
    """The certificates in the PEM file ``path``. Raises ConfigError where it has none, or has a private key,
    which would end in Terraform's state."""
    try:
        text = path.expanduser().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "Name a PEM file of certificates.") from error
    if "PRIVATE KEY" in text:
        raise ConfigError(f"{path} holds a private key.", "Name a file with the authority's certificates only.")
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigError(f"{path} holds no certificate.", "Name a PEM file of certificates.")
    return text


def _needed(value: _Needed | None) -> _Needed:
    """What network and secrets have made for DMS; they leave it out for the native engine."""
    if value is None:
        raise InvariantViolated("DMS is composed with a network or secrets that were made without it.")
    return value
