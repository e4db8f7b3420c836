"""The stack: the constructs in the order in which they need each other, the provider, and the outputs.

Applying it provisions; it never moves traffic, starts a task or changes a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdktn import LocalBackend, S3Backend, TerraformOutput, TerraformStack
from cdktn_provider_aws.data_aws_caller_identity import DataAwsCallerIdentity
from cdktn_provider_aws.data_aws_partition import DataAwsPartition
from cdktn_provider_aws.provider import AwsProvider, AwsProviderDefaultTags
from constructs import Construct

from daybreak.config import Aws, InfraSettings, Server
from daybreak.config.names import Names
from daybreak.infra.alarms import Alarms, AlarmsProps
from daybreak.infra.aurora import Aurora, AuroraProps
from daybreak.infra.backup import Backup, BackupProps
from daybreak.infra.controller import Controller, ControllerProps
from daybreak.infra.dashboard import Dashboard, DashboardProps
from daybreak.infra.dms import Dms, DmsProps, verification
from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.events import Events, EventsProps
from daybreak.infra.network import Network, NetworkProps
from daybreak.infra.notices import Notices, NoticesProps
from daybreak.infra.published import published
from daybreak.infra.routing import Routing, RoutingProps
from daybreak.infra.secrets import Secrets, SecretsProps, SourceServer
from daybreak.infra.site import Site
from daybreak.infra.state import State, StateConfiguration, StateProps

STACK = "daybreak"
# Beside the synthesised stack, not in it: synthesising again must not touch it.
_STATE_FILE = "../../terraform.tfstate"


@dataclass(frozen=True)
class _Data:
    """What holds and moves data."""

    network: Network
    keys: Keys
    aurora: Aurora
    secrets: Secrets
    dms: Dms | None


class DaybreakStack(TerraformStack):
    """Everything of one migration in one environment. ``package`` is the function's zip file.

    Raises ConfigError where a name would be longer than AWS allows."""

    def __init__(self, scope: Construct, settings: InfraSettings, package: Path) -> None:
        super().__init__(scope, STACK)
        self._settings = settings
        self._aws = settings.aws
        _backend(self, settings)
        AwsProvider(self, "aws", region=self._aws.region, default_tags=[AwsProviderDefaultTags(tags=_tags(settings))])
        self._site = self._make_site()
        self._source = source_server(settings.source)
        data = self._data()
        routing = Routing(
            self,
            "routing",
            RoutingProps(
                self._site,
                self._aws.routing,
                data.network,
                data.aurora,
                self._source.host,
                self._aws.network.source_cidrs,
            ),
        )
        state = State(self, "state", StateProps(self._site, data.keys, self._configuration(data, routing)))
        notices = Notices(self, "notices", NoticesProps(self._site, data.keys, self._aws.watch.email))
        controller = self._controller(data, routing, state, notices, package)
        self._watch(data, controller, notices)
        self._outputs(data, routing, state, controller, notices)

    def _make_site(self) -> Site:
        return Site(
            names=Names(self._settings.name, self._aws.environment),
            account_id=DataAwsCallerIdentity(self, "account").account_id,
            region=self._aws.region,
            partition=DataAwsPartition(self, "partition").partition,
            protected=self._aws.protected,
            log_days=self._aws.watch.log_days,
        )

    def _data(self) -> _Data:
        site, aws, with_dms = self._site, self._aws, self._settings.replication.engine == "dms"
        keys = Keys(self, "keys", KeysProps(site))
        network = Network(self, "network", NetworkProps(site, aws.network, keys, self._source.port, with_dms))
        aurora = Aurora(self, "aurora", AuroraProps(site, aws.aurora, network, keys, self._source.database))
        dms_user = aws.dms.user if with_dms else None
        secrets = Secrets(
            self, "secrets", SecretsProps(site, keys, self._source, aurora, dms_user, aws.secrets_version)
        )
        Backup(self, "backup", BackupProps(site, keys, aurora, aws.aurora.backup_days))
        rules = self._settings.replication
        verified = verification(aws.dms, self._settings.source) if with_dms else None
        props = DmsProps(
            site, aws.dms, network, keys, secrets, aurora, self._source, verified, rules.include, rules.exclude
        )
        return _Data(network, keys, aurora, secrets, Dms(self, "dms", props) if with_dms else None)

    def _configuration(self, data: _Data, routing: Routing) -> StateConfiguration:
        told = published(self._settings)
        return StateConfiguration(
            migration=self._settings.name,
            engine=self._settings.replication.engine,
            database=self._source.database,
            source_host=self._source.host,
            source_port=self._source.port,
            writer_endpoint=data.aurora.cluster.endpoint,
            reader_endpoint=data.aurora.cluster.reader_endpoint,
            zone_id=routing.zone_id,
            writer_name=routing.writer_name,
            reader_name=routing.reader_name,
            task_arn=None if data.dms is None else data.dms.task.replication_task_arn,
            max_lag_seconds=self._settings.cutover.max_lag_seconds,
            settings=_with_zone(told.settings, routing.zone_id),
            tls=told.tls,
            peers=told.peers,
        )

    def _controller(self, data: _Data, routing: Routing, state: State, notices: Notices, package: Path) -> Controller:
        props = ControllerProps(
            site=self._site,
            settings=self._aws.controller,
            network=data.network,
            keys=data.keys,
            secrets=data.secrets,
            state=state,
            routing=routing,
            dms=data.dms,
            notices=notices,
            package=package,
        )
        return Controller(self, "controller", props)

    def _watch(self, data: _Data, controller: Controller, notices: Notices) -> None:
        site, name, poll_minutes = self._site, self._settings.name, self._aws.controller.poll_minutes
        alarms = Alarms(
            self,
            "alarms",
            AlarmsProps(site, self._aws.watch, data.aurora, data.dms, controller, notices, name, poll_minutes),
        )
        Events(
            self,
            "events",
            EventsProps(site, self._aws.watch, poll_minutes, controller, data.dms, notices, data.aurora, alarms),
        )
        Dashboard(
            self,
            "dashboard",
            DashboardProps(site, self._aws.watch, data.aurora, data.dms, controller, alarms, name),
        )

    def _outputs(self, data: _Data, routing: Routing, state: State, controller: Controller, notices: Notices) -> None:
        cluster, secrets = data.aurora.cluster, data.secrets
        outputs = {
            "target_host": cluster.endpoint,
            "target_reader_host": cluster.reader_endpoint,
            "target_port": cluster.port,
            "target_database": cluster.database_name,
            "target_user": self._source.user,
            "target_secret_arn": secrets.target.arn,
            "source_secret_arn": secrets.source.arn,
            "master_secret_arn": cluster.master_user_secret.get(0).secret_arn,
            "writer_name": routing.writer_name,
            "reader_name": routing.reader_name,
            "zone_id": routing.zone_id,
            "state_table": state.table.name,
            "controller_function": controller.function.function_name,
            "notices_topic_arn": notices.topic.arn,
        }
        if data.dms is not None and secrets.dms_source is not None and secrets.dms_target is not None:
            outputs["dms_task_arn"] = data.dms.task.replication_task_arn
            outputs["dms_source_secret_arn"] = secrets.dms_source.arn
            outputs["dms_target_secret_arn"] = secrets.dms_target.arn
        for name, value in outputs.items():
            TerraformOutput(self, name, value=value)


def source_server(server: Server) -> SourceServer:
    """The source as AWS reaches it: ``peer_host`` and ``peer_port`` where they are set."""
    parts, peer = server.parameters(), server.peer_parameters()
    return SourceServer(peer["host"], int(peer.get("port", "5432")), parts["dbname"], parts["user"])


def _with_zone(settings: Mapping[str, Any], zone_id: str) -> dict[str, Any]:
    """The zone by its id: by its name it could be looked up only with a right to list every zone."""
    routing = {**settings["aws"]["routing"], "zone_id": zone_id}
    return {**settings, "aws": {**settings["aws"], "routing": routing}}


def _tags(settings: InfraSettings) -> dict[str, str]:
    return {**settings.aws.tags, **Names(settings.name, settings.aws.environment).tags()}


def _backend(stack: DaybreakStack, settings: InfraSettings) -> None:
    aws: Aws = settings.aws
    if not aws.terraform.bucket:
        LocalBackend(stack, path=_STATE_FILE)
        return
    S3Backend(
        stack,
        bucket=aws.terraform.bucket,
        key=f"daybreak/{settings.name}/{aws.environment}.tfstate",
        region=aws.region,
        encrypt=True,
        use_lockfile=True,
    )
