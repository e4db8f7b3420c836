"""All constructs that a controller needs, composed as the stack does it, for tests of those that come last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from infra.conftest import Bench
from pydantic import SecretStr

from daybreak.config import Server, aws
from daybreak.infra.alarms import Alarms, AlarmsProps
from daybreak.infra.aurora import Aurora, AuroraProps
from daybreak.infra.controller import Controller, ControllerProps
from daybreak.infra.dms import Dms, DmsProps, verification
from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.events import Events, EventsProps
from daybreak.infra.network import Network, NetworkProps
from daybreak.infra.notices import Notices, NoticesProps
from daybreak.infra.routing import Routing, RoutingProps
from daybreak.infra.secrets import Secrets, SecretsProps, SourceServer
from daybreak.infra.state import State, StateConfiguration, StateProps

SOURCE = SourceServer("old.example.net", 5432, "payments", "daybreak")


def certificate(directory: Path) -> Path:
    """A file with the certificate of some authority."""
    path = directory / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@dataclass(frozen=True)
class Parts:
    """Keys, network, cluster and secrets; DMS unless the engine is native."""

    bench: Bench
    keys: Keys
    network: Network
    aurora: Aurora
    secrets: Secrets
    dms: Dms | None

    @classmethod
    def on(
        cls,
        bench: Bench,
        settings: aws.Dms | None,
        include: tuple[str, ...] = ("*.*",),
        exclude: tuple[str, ...] = (),
        source: Server | None = None,
    ) -> Parts:
        """Put them on ``bench``; without ``settings`` there is no DMS."""
        stack, site = bench.stack, bench.site
        with_dms = settings is not None
        keys = Keys(stack, "keys", KeysProps(site))
        wanted = aws.Network(vpc_cidr="10.60.0.0/16", source_cidrs=("192.168.20.0/24",))
        network = Network(stack, "network", NetworkProps(site, wanted, keys, SOURCE.port, with_dms))
        aurora = Aurora(
            stack, "aurora", AuroraProps(site, aws.Aurora(engine_version="17.5"), network, keys, SOURCE.database)
        )
        user = settings.user if settings else None
        secrets = Secrets(stack, "secrets", SecretsProps(site, keys, SOURCE, aurora, user, 1))
        dms = None
        if settings:
            verified = verification(
                settings, source or Server(dsn=SecretStr("postgresql://daybreak@old.example.net/payments"))
            )
            props = DmsProps(site, settings, network, keys, secrets, aurora, SOURCE, verified, include, exclude)
            dms = Dms(stack, "dms", props)
        return cls(bench, keys, network, aurora, secrets, dms)

    def events(self, package: Path, poll_minutes: int = 1) -> tuple[Controller, Events]:
        """The controller with ``package``, and what wakes it."""
        stack, site = self.bench.stack, self.bench.site
        wanted = aws.Routing(zone_name="payments.internal")
        routing = Routing(
            stack, "routing", RoutingProps(site, wanted, self.network, self.aurora, SOURCE.host, ("192.168.20.0/24",))
        )
        state = State(stack, "state", StateProps(site, self.keys, self.configuration(routing)))
        notices = Notices(stack, "notices", NoticesProps(site, self.keys, ""))
        controller = Controller(
            stack,
            "controller",
            ControllerProps(
                site, aws.Controller(), self.network, self.keys, self.secrets, state, routing, self.dms,
                notices, package,
            ),
        )  # fmt: skip
        watch = aws.Watch()
        alarms = Alarms(
            stack,
            "alarms",
            AlarmsProps(site, watch, self.aurora, self.dms, controller, notices, "payments", poll_minutes),
        )
        props = EventsProps(site, watch, poll_minutes, controller, self.dms, notices, self.aurora, alarms)
        return controller, Events(stack, "events", props)

    def configuration(self, routing: Routing) -> StateConfiguration:
        """What is published for the controller."""
        return StateConfiguration(
            migration="payments",
            engine="dms" if self.dms else "native",
            database=SOURCE.database,
            source_host=SOURCE.host,
            source_port=SOURCE.port,
            writer_endpoint=self.aurora.cluster.endpoint,
            reader_endpoint=self.aurora.cluster.reader_endpoint,
            zone_id=routing.zone_id,
            writer_name=routing.writer_name,
            reader_name=routing.reader_name,
            task_arn=self.dms.task.replication_task_arn if self.dms else None,
            max_lag_seconds=1.0,
            settings={},
            tls={},
            peers={},
        )
